//! Options of the IPv4 sockets (RFC 9568 section 5.1.1). What is received begins with the IP header.

use std::io;

use socket2::{InterfaceIndexOrAddress, Socket};

use super::TRAFFIC_CLASS;
use crate::packet::{GROUP_OF_V4, TTL};

pub(super) fn prepare_receiver(socket: &Socket, interface: u32) -> io::Result<()> {
    // Of multicast only what was joined by this socket. It is not bound to the group, so that
    // packets of the other cast arrive as well and a half converted pair can be told so.
    socket.set_multicast_all_v4(false)?;
    socket.join_multicast_v4_n(&GROUP_OF_V4, &InterfaceIndexOrAddress::Index(interface))
}

pub(super) fn prepare_sender(socket: &Socket) -> io::Result<()> {
    socket.set_multicast_ttl_v4(u32::from(TTL))?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_ttl_v4(u32::from(TTL))?;
    socket.set_tos_v4(TRAFFIC_CLASS)
}
