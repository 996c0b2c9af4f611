//! Switch ports taken down and up through one netlink socket, without starting a program.
//!
//! A power cut has to happen in one instant. `ip link set` needs some milliseconds to start and
//! end; a request on an open socket is carried out and acknowledged within microseconds.

use std::io::{self, Read};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`, both 16 bytes (rtnetlink(7)).
const REQUEST: usize = 32;

/// A socket on the switch's namespace; it stays there whichever thread uses it.
pub(super) struct Ports(Socket);

impl Ports {
    /// Opens the socket in the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(libc::NETLINK_ROUTE)),
        )?;
        Ok(Self(socket))
    }

    /// Sets a port up or down; returns when the kernel has done it.
    pub(super) fn set(&self, port: &str, up: bool) -> io::Result<()> {
        let index = name_to_index(&self.0, port)?;
        self.0.send(&request(index, up))?;
        let mut answer = [0u8; 256];
        let length = (&self.0).read(&mut answer)?;
        acknowledged(answer.get(..length).unwrap_or_default())
    }
}

fn request(index: u32, up: bool) -> [u8; REQUEST] {
    let mut bytes = [0u8; REQUEST];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &32u32.to_ne_bytes());
    put(4, &RTM_NEWLINK.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Family, padding and device type stay zero: any.
    put(20, &index.to_ne_bytes());
    put(24, &(if up { IFF_UP } else { 0 }).to_ne_bytes());
    put(28, &IFF_UP.to_ne_bytes());
    bytes
}

fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|field| field.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|field| field.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "netlink: no acknowledgement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_kernel_is_passed_on() {
        let mut answer = [0u8; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let error = acknowledged(&answer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(acknowledged(&answer[..10]).is_err());
    }
}
