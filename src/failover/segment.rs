//! The bytes of a tickle: IP and TCP headers, nothing else. Sans-io.
//!
//! The client believes it is still connected. Any segment it cannot accept makes it answer with
//! its true sequence numbers; that answer reaches this node, whose kernel knows no such
//! connection and resets it, and the client reconnects. Which segment gets through depends on
//! what stands between: a bare ACK is dropped by connection tracking in front of a client behind
//! NAT, a SYN|ACK and one of four ACKs spread over the sequence space are not. Where the numbers
//! are known a reset goes first, which ends the connection by itself and passes everywhere. All
//! are sent; the client answers the first it sees and stays silent to the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cluster::flows::Sequence;
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const HOPS: u8 = 64;

/// The other half of the sequence space: of the four pairs of 0 and this for SEQ and ACK, one
/// always lies in the past of a connection, where connection tracking takes it for an old
/// duplicate and lets it pass.
const HALF: u32 = 1 << 31;

/// Flags, SEQ and ACK of the segments that need no knowledge, in the order they are sent.
const BLIND: [Shape; 5] = [
    (TcpFlags::SYN | TcpFlags::ACK, 0, 0),
    (TcpFlags::ACK, 0, 0),
    (TcpFlags::ACK, 0, HALF),
    (TcpFlags::ACK, HALF, 0),
    (TcpFlags::ACK, HALF, HALF),
];

type Shape = (u8, u32, u32);

/// One packet with its IP header.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    bytes: [u8; IPV6_HEADER + TCP_HEADER],
    start: usize,
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// What is sent to `client` as from `server`. Nothing if they are not of one family.
pub(super) fn segments(
    server: SocketAddr,
    client: SocketAddr,
    sequence: Option<Sequence>,
) -> impl Iterator<Item = Segment> {
    let exact = sequence.map(|at| (TcpFlags::RST | TcpFlags::ACK, at.send, at.receive));
    let shapes = exact.into_iter().chain(BLIND);
    shapes.filter_map(move |shape| segment(server, client, shape))
}

fn segment(server: SocketAddr, client: SocketAddr, shape: Shape) -> Option<Segment> {
    let mut bytes = [0; IPV6_HEADER + TCP_HEADER];
    let ports = (server.port(), client.port());
    let start = match (server.ip().to_canonical(), client.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let start = IPV6_HEADER - IPV4_HEADER;
            let (head, body) = bytes[start..].split_at_mut(IPV4_HEADER);
            let mut tcp = write_tcp(body, ports, shape)?;
            tcp.set_checksum(tcp::ipv4_checksum(&tcp.to_immutable(), &from, &to));
            write_ipv4(&mut MutableIpv4Packet::new(head)?, from, to);
            start
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (head, body) = bytes.split_at_mut(IPV6_HEADER);
            let mut tcp = write_tcp(body, ports, shape)?;
            tcp.set_checksum(tcp::ipv6_checksum(&tcp.to_immutable(), &from, &to));
            write_ipv6(&mut MutableIpv6Packet::new(head)?, from, to);
            0
        }
        _ => return None,
    };
    Some(Segment { bytes, start })
}

fn write_ipv4(packet: &mut MutableIpv4Packet<'_>, from: Ipv4Addr, to: Ipv4Addr) {
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(40);
    packet.set_ttl(HOPS);
    packet.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
    packet.set_source(from);
    packet.set_destination(to);
    packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
}

fn write_ipv6(packet: &mut MutableIpv6Packet<'_>, from: Ipv6Addr, to: Ipv6Addr) {
    packet.set_version(6);
    packet.set_payload_length(20);
    packet.set_next_header(IpNextHeaderProtocols::Tcp);
    packet.set_hop_limit(HOPS);
    packet.set_source(from);
    packet.set_destination(to);
}

/// Everything but the checksum.
fn write_tcp(
    body: &mut [u8],
    (from, to): (u16, u16),
    (flags, sequence, acknowledgement): Shape,
) -> Option<MutableTcpPacket<'_>> {
    let mut packet = MutableTcpPacket::new(body)?;
    packet.set_source(from);
    packet.set_destination(to);
    packet.set_sequence(sequence);
    packet.set_acknowledgement(acknowledgement);
    packet.set_data_offset(5);
    packet.set_flags(flags);
    packet.set_window(1024);
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::Packet;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::tcp::TcpPacket;

    const NUMBERS: Sequence = Sequence { send: 7, receive: u32::MAX };

    fn shapes(packets: &[TcpPacket<'_>]) -> Vec<Shape> {
        let shape =
            |tcp: &TcpPacket<'_>| (tcp.get_flags(), tcp.get_sequence(), tcp.get_acknowledgement());
        packets.iter().map(shape).collect()
    }

    #[test]
    fn ipv4_segments_come_from_our_end_with_valid_checksums_the_exact_one_first() {
        let server: SocketAddr = "192.0.2.100:8782".parse().unwrap();
        let client: SocketAddr = "198.51.100.9:43210".parse().unwrap();
        let mut found = Vec::new();
        for segment in segments(server, client, Some(NUMBERS)) {
            let ip = Ipv4Packet::new(segment.bytes()).unwrap();
            assert_eq!(IpAddr::V4(ip.get_source()), server.ip());
            assert_eq!(IpAddr::V4(ip.get_destination()), client.ip());
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
            assert_eq!(usize::from(ip.get_total_length()), segment.bytes().len());
            let tcp = TcpPacket::owned(ip.payload().to_vec()).unwrap();
            assert_eq!((tcp.get_source(), tcp.get_destination()), (8782, 43210));
            let sum = tcp::ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination());
            assert_eq!(tcp.get_checksum(), sum);
            found.push(tcp);
        }
        let mut expected = vec![(TcpFlags::RST | TcpFlags::ACK, 7, u32::MAX)];
        expected.extend(BLIND);
        assert_eq!(shapes(&found), expected);
    }

    #[test]
    fn ipv6_segments_have_a_whole_header_and_need_no_numbers() {
        let server: SocketAddr = "[2001:db8::100]:443".parse().unwrap();
        let client: SocketAddr = "[2001:db8:1::9]:43210".parse().unwrap();
        let mut found = Vec::new();
        for segment in segments(server, client, None) {
            let ip = Ipv6Packet::new(segment.bytes()).unwrap();
            assert_eq!(IpAddr::V6(ip.get_source()), server.ip());
            assert_eq!(IpAddr::V6(ip.get_destination()), client.ip());
            assert_eq!((ip.get_version(), ip.get_hop_limit()), (6, HOPS));
            assert_eq!(segment.bytes().len(), 40 + usize::from(ip.get_payload_length()));
            let tcp = TcpPacket::owned(ip.payload().to_vec()).unwrap();
            let sum = tcp::ipv6_checksum(&tcp, &ip.get_source(), &ip.get_destination());
            assert_eq!(tcp.get_checksum(), sum);
            found.push(tcp);
        }
        assert_eq!(shapes(&found), BLIND);
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_mixed_ends_are_nothing() {
        let v4 = "192.0.2.1:1".parse().unwrap();
        let mapped = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(segments(mapped, v4, None).count(), 5);
        assert_eq!(segments(v4, "[2001:db8::1]:1".parse().unwrap(), None).count(), 0);
    }

    #[test]
    fn a_blind_ack_lies_in_the_past_of_any_connection() {
        let behind = |sent: u32, seen: u32| seen.wrapping_sub(sent) < HALF;
        for (seq, ack) in [(1, 1), (HALF + 1, 5), (7, u32::MAX), (u32::MAX, HALF)] {
            let passes = BLIND[1..].iter().filter(|(_, s, a)| behind(*s, seq) && behind(*a, ack));
            assert_eq!(passes.count(), 1, "seq {seq} ack {ack}");
        }
    }
}
