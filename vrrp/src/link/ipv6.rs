//! Options of the IPv6 sockets (RFC 9568 section 5.1.2). The IP header is not received; the kernel
//! tells of its fields beside the message.
//!
//! The kernel could check and fill in the checksum (IPV6_CHECKSUM), but what it drops nobody
//! counts: both is done in `packet/`, as for IPv4.

use std::io;

use socket2::Socket;

use super::TRAFFIC_CLASS;
use crate::{
    error::PacketError,
    packet::{Datagram, GROUP_OF_V6, TTL},
    sys,
};

pub(super) fn prepare_receiver(socket: &Socket, interface: u32) -> io::Result<()> {
    socket.set_recv_hoplimit_v6(true)?;
    sys::receive_destination(socket)?;
    // See `ipv4.rs`. Kernels before 4.20 lack this one; there the interface narrows enough.
    let _ = socket.set_multicast_all_v6(false);
    socket.join_multicast_v6(&GROUP_OF_V6, interface)
}

pub(super) fn prepare_sender(socket: &Socket, interface: u32) -> io::Result<()> {
    socket.set_multicast_hops_v6(u32::from(TTL))?;
    socket.set_unicast_hops_v6(u32::from(TTL))?;
    socket.set_multicast_if_v6(interface)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_tclass_v6(TRAFFIC_CLASS)
}

pub(super) fn rejoin(socket: &Socket, interface: u32) -> io::Result<()> {
    // Joining twice is an error and no news to the kernel; leaving an interface that lost its
    // addresses is one too.
    let _ = socket.leave_multicast_v6(&GROUP_OF_V6, interface);
    socket.join_multicast_v6(&GROUP_OF_V6, interface)
}

pub(super) fn receive<'a>(
    socket: &Socket,
    buffer: &'a mut [u8],
) -> io::Result<Result<Datagram<'a>, PacketError>> {
    let received = sys::receive_with_header(socket, buffer)?;
    // The kernel always tells both when asked to; without them nothing can be judged.
    let (Some(destination), Some(ttl)) = (received.destination, received.hop_limit) else {
        return Ok(Err(PacketError::IpHeader));
    };
    let message = buffer.get(..received.length).unwrap_or_default();
    let (source, destination) = (received.source.into(), destination.into());
    Ok(Ok(Datagram { source, destination, ttl, message }))
}
