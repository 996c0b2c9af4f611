//! The system calls that no safe wrapper in our dependencies covers. All `unsafe` of this crate.

#![expect(unsafe_code, reason = "a few system calls without a safe wrapper, each argued below")]

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
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

/// Whether this host forwards IPv6 packets that come in on an interface.
pub(crate) fn is_forwarding(interface: &str) -> bool {
    // Absent without IPv6. A slash in a name is a dot here, and no interface has one.
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read(path).is_ok_and(|value| value.first().is_some_and(|digit| *digit != b'0'))
}

/// The address that binds an AF_PACKET socket to an interface and to a protocol; with protocol 0
/// nothing is ever received through it.
pub(crate) fn packet_address(interface: u32, protocol: u16) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is the address type of AF_PACKET and all zeros is a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length =
        socket2::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage holds an initialised `sockaddr_ll` of this length.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// Makes the process ignore what usually asks it to stop, for the rest of its life.
pub(crate) fn ignore_stop_signals() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGABRT] {
        // SAFETY: to ignore a signal installs no handler, so none can run at a wrong moment.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes an IPv6 socket tell the destination of what it receives (IPV6_RECVPKTINFO).
pub(crate) fn receive_destination(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: `on` is of the type the option takes and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            std::ptr::from_ref(&on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A message and what its IPv6 header said.
pub(crate) struct WithHeader {
    pub(crate) length: usize,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Option<Ipv6Addr>,
    pub(crate) hop_limit: Option<u8>,
}

/// Room for the two ancillary messages that are asked for, aligned as the kernel writes them.
#[repr(C, align(8))]
struct Ancillary([u8; 128]);

/// Receives from an IPv6 socket.
pub(crate) fn receive_with_header(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<WithHeader> {
    let mut ancillary = Ancillary([0; 128]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid value of these two structures.
    let (mut source, mut header): (libc::sockaddr_in6, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    header.msg_name = std::ptr::from_mut(&mut source).cast();
    header.msg_namelen =
        libc::socklen_t::try_from(size_of_val(&source)).map_err(io::Error::other)?;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = ancillary.0.as_mut_ptr().cast();
    header.msg_controllen = ancillary.0.len();
    // SAFETY: every pointer of `header` is to a live local with the length given beside it.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut received = WithHeader {
        length,
        source: Ipv6Addr::from(source.sin6_addr.s6_addr),
        destination: None,
        hop_limit: None,
    };
    // SAFETY: `header` was filled in by the kernel and its control buffer is still alive.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: the macros only return pointers to whole messages inside of the control buffer,
        // and each of the two types is preceded by data of the type it is read as.
        unsafe {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo =
                        std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    received.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let limit: libc::c_int =
                        std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    received.hop_limit = u8::try_from(limit).ok();
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(received)
}
