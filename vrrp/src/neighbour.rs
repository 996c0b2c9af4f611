//! Bytes of IPv6 neighbour discovery: the unsolicited advertisement that moves a virtual address to
//! this node's MAC address (RFC 9568 section 8.2.2), and the solicitation that asks who has it.
//! Sans-io.
//!
//! The ARP of IPv4 is in `announce.rs`; when to send either is the router's business.

use std::net::Ipv6Addr;

use pnet_packet::{
    ethernet::{EtherTypes, MutableEthernetPacket},
    icmpv6::{
        Icmpv6Packet, Icmpv6Type, Icmpv6Types, checksum,
        ndp::{
            MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOption, NdpOptionTypes,
            NeighborAdvertFlags,
        },
    },
    ip::IpNextHeaderProtocols,
    ipv6::MutableIpv6Packet,
};

use crate::announce::Mac;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const MESSAGE: usize = 24;
/// The option that carries a link-layer address: type, length in units of eight bytes, address.
const OPTION: usize = 8;
/// What does not arrive with this hop limit was forwarded and is ignored (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
/// ff02::1, everybody on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An Ethernet frame that carries one neighbour advertisement or solicitation.
pub type NeighbourFrame = [u8; ETHERNET + IPV6 + MESSAGE + OPTION];

/// The advertisement that tells everybody on the link that `address` is at `mac`.
///
/// Flags are Override, so that caches with another MAC address follow, and Router if this host
/// forwards: a neighbour that sees it cleared removes the sender from its default routers.
pub fn unsolicited_advertisement(mac: Mac, address: Ipv6Addr, is_router: bool) -> NeighbourFrame {
    let mut frame = [0; ETHERNET + IPV6 + MESSAGE + OPTION];
    let message = envelope(&mut frame, mac, address, ALL_NODES);
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(message) {
        let router = if is_router { NeighborAdvertFlags::Router } else { 0 };
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(NeighborAdvertFlags::Override | router);
        advertisement.set_target_addr(address);
        advertisement.set_options(&[NdpOption {
            option_type: NdpOptionTypes::TargetLLAddr,
            length: 1,
            data: mac.to_vec(),
        }]);
    }
    seal(&mut frame, address, ALL_NODES);
    frame
}

/// The question whether somebody has `address`, asked as by anybody who wants to send to it: from
/// our own address `source`. Asked from nowhere, as duplicate address detection does, it would make
/// a peer that is just taking the address over believe that we take it, and give up.
pub(crate) fn probe(mac: Mac, source: Ipv6Addr, address: Ipv6Addr) -> NeighbourFrame {
    let mut frame = [0; ETHERNET + IPV6 + MESSAGE + OPTION];
    let group = solicited_node_group(address);
    let message = envelope(&mut frame, mac, source, group);
    if let Some(mut solicitation) = MutableNeighborSolicitPacket::new(message) {
        solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicitation.set_target_addr(address);
        solicitation.set_options(&[NdpOption {
            option_type: NdpOptionTypes::SourceLLAddr,
            length: 1,
            data: mac.to_vec(),
        }]);
    }
    seal(&mut frame, source, group);
    frame
}

/// The group in which whoever has `address` listens for solicitations (RFC 4291 section 2.7.1).
fn solicited_node_group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0x00ff, low)
}

/// Writes the headers of a frame to `destination` and returns what is left for the message.
fn envelope(frame: &mut [u8], mac: Mac, source: Ipv6Addr, destination: Ipv6Addr) -> &mut [u8] {
    let (header, packet) = frame.split_at_mut(ETHERNET);
    let length = u16::try_from(packet.len() - IPV6).unwrap_or(u16::MAX);
    let [.., a, b, c, d] = destination.octets();
    if let Some(mut ethernet) = MutableEthernetPacket::new(header) {
        ethernet.set_destination([0x33, 0x33, a, b, c, d].into());
        ethernet.set_source(mac.into());
        ethernet.set_ethertype(EtherTypes::Ipv6);
    }
    if let Some(mut ipv6) = MutableIpv6Packet::new(packet) {
        ipv6.set_version(6);
        ipv6.set_payload_length(length);
        ipv6.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ipv6.set_hop_limit(HOP_LIMIT);
        ipv6.set_source(source);
        ipv6.set_destination(destination);
    }
    &mut packet[IPV6..]
}

/// Fills in the checksum of the message.
fn seal(frame: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    let message = &mut frame[ETHERNET + IPV6..];
    let Some(sum) = Icmpv6Packet::new(message).map(|icmp| checksum(&icmp, &source, &destination))
    else {
        return;
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// What a neighbour advertisement on the wire says: who is said to be where. `None`: it is
/// something else, or not whole, or came from beyond the link.
pub(crate) fn read_advertisement(frame: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    let packet = frame.get(ETHERNET..)?;
    let sender: Mac = *frame.get(6..)?.first_chunk()?;
    let (header, message) = (packet.first_chunk::<IPV6>()?, packet.get(IPV6..)?);
    let icmp = message.first_chunk::<MESSAGE>()?;
    let is_advertisement = frame[12..14] == [0x86, 0xdd]
        && header[0] >> 4 == 6
        && header[6] == IpNextHeaderProtocols::Icmpv6.0
        && header[7] == HOP_LIMIT
        && Icmpv6Type(icmp[0]) == Icmpv6Types::NeighborAdvert;
    let target: [u8; 16] = *icmp[8..].first_chunk()?;
    is_advertisement.then(|| (target.into(), link_layer(&message[MESSAGE..]).unwrap_or(sender)))
}

/// The target's link-layer address among the options.
fn link_layer(mut options: &[u8]) -> Option<Mac> {
    while let Some([kind, units, ..]) = options.first_chunk::<OPTION>().copied() {
        if units == 0 {
            return None;
        }
        if kind == NdpOptionTypes::TargetLLAddr.0 {
            return options[2..].first_chunk().copied();
        }
        options = options.get(usize::from(units) * 8..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = [0x02, 0, 0, 0, 0, 7];
    const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x00ab, 0xcdef);

    #[test]
    fn the_advertisement_overrides_and_names_the_mac_address() {
        for (is_router, flags) in [(false, 0x20), (true, 0xa0)] {
            let frame = unsolicited_advertisement(MAC, VIP, is_router);
            let mut expected = vec![0x33, 0x33, 0, 0, 0, 1];
            expected.extend(MAC);
            expected.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
            expected.extend(VIP.octets());
            expected.extend(ALL_NODES.octets());
            expected.extend([136, 0, frame[56], frame[57], flags, 0, 0, 0]);
            expected.extend(VIP.octets());
            expected.extend([2, 1]);
            expected.extend(MAC);
            assert_eq!(frame.to_vec(), expected);
            assert_eq!(read_advertisement(&frame), Some((VIP, MAC)));
        }
    }

    #[test]
    fn the_checksum_covers_message_and_pseudo_header() {
        for (source, frame) in [
            (VIP, unsolicited_advertisement(MAC, VIP, true).to_vec()),
            (OWN, probe(MAC, OWN, VIP).to_vec()),
        ] {
            let mut covered = source.octets().to_vec();
            covered.extend(&frame[38..54]);
            covered.extend([0, 0, 0, frame[19], 0, 0, 0, 58]);
            covered.extend(&frame[54..]);
            let sum: u32 =
                covered.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
    }

    #[test]
    fn the_probe_asks_the_group_of_the_address_from_our_own() {
        let frame = probe(MAC, OWN, VIP);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]);
        assert_eq!(frame[22..38], OWN.octets());
        assert_eq!(frame[38..54], solicited_node_group(VIP).octets());
        assert_eq!(frame[54], 135);
        assert_eq!(frame[62..78], VIP.octets());
        assert_eq!((&frame[78..80], &frame[80..]), (&[1, 1][..], &MAC[..]), "where to answer");
        assert_eq!(read_advertisement(&frame), None);
    }

    #[test]
    fn an_advertisement_without_option_is_at_its_sender() {
        let mut frame = unsolicited_advertisement(MAC, VIP, false);
        frame[6..12].fill(9);
        assert_eq!(read_advertisement(&frame[..78]), Some((VIP, [9; 6])));
        frame[79] = 0;
        assert_eq!(read_advertisement(&frame), Some((VIP, [9; 6])), "an option of no length");
        frame[21] = 254;
        assert_eq!(read_advertisement(&frame), None, "it was forwarded");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            start in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut frame = if start {
                unsolicited_advertisement(MAC, VIP, false)[..78].to_vec()
            } else {
                Vec::new()
            };
            frame.extend(bytes);
            let _ = read_advertisement(&frame);
        }
    }
}
