//! Wakes connections that ended on a node that is gone.
//!
//! The client believes it is still connected. Any segment it cannot accept makes it answer with
//! its true sequence numbers; that answer reaches this node, whose kernel knows no such
//! connection and resets it, and the client reconnects. Which segment gets through depends on
//! what stands between: a bare ACK is dropped by connection tracking in front of a client behind
//! NAT, a SYN|ACK and one of four ACKs spread over the sequence space are not. All five are
//! sent; the client answers the first it sees and stays silent to the rest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};
use socket2::{Domain, Protocol, Socket, Type};

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const SEGMENT: usize = IP_HEADER + TCP_HEADER;

/// The other half of the sequence space: of the four pairs of 0 and this for SEQ and ACK, one
/// always lies in the past of a connection, where connection tracking takes it for an old
/// duplicate and lets it pass.
const HALF: u32 = 1 << 31;

/// Flags, SEQ and ACK of the segments, in the order they are sent.
const SHAPES: [(u8, u32, u32); 5] = [
    (TcpFlags::SYN | TcpFlags::ACK, 0, 0),
    (TcpFlags::ACK, 0, 0),
    (TcpFlags::ACK, 0, HALF),
    (TcpFlags::ACK, HALF, 0),
    (TcpFlags::ACK, HALF, HALF),
];

/// Sends tickles through one raw socket, opened at start: opening one in the middle of a
/// takeover would cost more than the takeover.
#[derive(Debug)]
pub struct Tickler {
    socket: Socket,
}

impl Tickler {
    /// Opens the raw socket (`CAP_NET_RAW`).
    ///
    /// # Errors
    /// The kernel's, usually a missing capability.
    pub fn open() -> io::Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Tickles one connection: `server` is our end of it, `client` the other. Connections over
    /// IPv6 are not tickled; they are noticed at the client's own keepalive.
    ///
    /// # Errors
    /// The first segment the kernel would not send; later ones are not tried.
    pub fn tickle(&self, server: SocketAddr, client: SocketAddr) -> io::Result<()> {
        let (Some(server), Some(client)) = (v4(server), v4(client)) else { return Ok(()) };
        let to = SocketAddr::from((*client.ip(), 0)).into();
        for shape in SHAPES {
            self.socket.send_to(&segment(server, client, shape), &to)?;
        }
        Ok(())
    }
}

fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, address.port())),
        IpAddr::V6(_) => None,
    }
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, shape: (u8, u32, u32)) -> [u8; SEGMENT] {
    let mut bytes = [0; SEGMENT];
    let (head, body) = bytes.split_at_mut(IP_HEADER);
    if let Some(mut packet) = MutableIpv4Packet::new(head) {
        write_ip(&mut packet, *from.ip(), *to.ip());
    }
    if let Some(mut packet) = MutableTcpPacket::new(body) {
        write_tcp(&mut packet, from, to, shape);
    }
    bytes
}

fn write_ip(packet: &mut MutableIpv4Packet<'_>, from: Ipv4Addr, to: Ipv4Addr) {
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(40);
    packet.set_ttl(64);
    packet.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
    packet.set_source(from);
    packet.set_destination(to);
    packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
}

fn write_tcp(
    packet: &mut MutableTcpPacket<'_>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    (flags, sequence, acknowledgement): (u8, u32, u32),
) {
    packet.set_source(from.port());
    packet.set_destination(to.port());
    packet.set_sequence(sequence);
    packet.set_acknowledgement(acknowledgement);
    packet.set_data_offset(5);
    packet.set_flags(flags);
    packet.set_window(1024);
    packet.set_checksum(tcp::ipv4_checksum(&packet.to_immutable(), from.ip(), to.ip()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::tcp::TcpPacket;

    #[test]
    fn segments_come_from_our_end_with_valid_checksums() {
        let server = "192.0.2.100:8782".parse().unwrap();
        let client = "198.51.100.9:43210".parse().unwrap();
        for shape in SHAPES {
            let bytes = segment(server, client, shape);
            let ip = Ipv4Packet::new(&bytes).unwrap();
            assert_eq!((ip.get_source(), ip.get_destination()), (*server.ip(), *client.ip()));
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
            assert_eq!(usize::from(ip.get_total_length()), SEGMENT);
            let tcp = TcpPacket::new(&bytes[IP_HEADER..]).unwrap();
            assert_eq!((tcp.get_source(), tcp.get_destination()), (8782, 43210));
            assert_eq!(tcp.get_flags(), shape.0);
            assert_eq!((tcp.get_sequence(), tcp.get_acknowledgement()), (shape.1, shape.2));
            let sum = tcp::ipv4_checksum(&tcp, server.ip(), client.ip());
            assert_eq!(tcp.get_checksum(), sum);
        }
    }

    #[test]
    fn a_blind_ack_lies_in_the_past_of_any_connection() {
        let behind = |sent: u32, seen: u32| seen.wrapping_sub(sent) < HALF;
        for (seq, ack) in [(1, 1), (HALF + 1, 5), (7, u32::MAX), (u32::MAX, HALF)] {
            let passes = SHAPES[1..].iter().filter(|(_, s, a)| behind(*s, seq) && behind(*a, ack));
            assert_eq!(passes.count(), 1, "seq {seq} ack {ack}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_real_ipv6_is_left_alone() {
        assert!(v4("[::ffff:192.0.2.1]:1".parse().unwrap()).is_some());
        assert!(v4("[2001:db8::1]:1".parse().unwrap()).is_none());
    }
}
