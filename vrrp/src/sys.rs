//! The system calls that no safe wrapper in our dependencies covers. All `unsafe` of this crate.

#![expect(unsafe_code, reason = "four system calls without a safe wrapper, each argued below")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use socket2::{SockAddr, SockAddrStorage};

/// Waits until one of `fds` can be read or `timeout` has passed; `None` waits for ever. A signal
/// ends the wait early, which callers cannot tell from a timeout and need not.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
    // SAFETY: `polled` holds `count` entries and outlives the call, as does what `timeout` points
    // to; the signal mask may be null.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, timeout, std::ptr::null()) };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// Puts the calling thread under SCHED_RR. Threads it starts do not inherit that.
pub(crate) fn schedule_round_robin(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: process 0 is the calling thread; `parameters` outlives the call.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address that binds an AF_PACKET socket to an interface and to no protocol: nothing is ever
/// received through it.
pub(crate) fn packet_address(interface: u32) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is the address type of AF_PACKET and all zeros is a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length =
        socket2::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage holds an initialised `sockaddr_ll` of this length.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// Makes the process ignore what usually asks it to stop, for the rest of its life.
pub(crate) fn ignore_stop_signals() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal installs no handler, so none can run at a wrong moment.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
