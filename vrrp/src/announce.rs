//! Bytes of the gratuitous ARP that moves a virtual address to this node's MAC address. Sans-io.
//!
//! Most neighbours update their cache on a request, some only on a reply, so both are sent
//! (RFC 9568 section 8.1.2, RFC 5227 section 3). When to send them is the router's business.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::{
    arp::{ArpHardwareTypes, ArpOperation, ArpOperations, MutableArpPacket},
    ethernet::{EtherTypes, MutableEthernetPacket},
};

const ETHERNET: usize = 14;
const ARP: usize = 28;
const SENDER_MAC: std::ops::Range<usize> = 22..28;
const SENDER_ADDRESS: std::ops::Range<usize> = 28..32;

/// An Ethernet frame that carries one ARP packet; the device pads it.
pub type ArpFrame = [u8; ETHERNET + ARP];

/// A hardware address of six octets.
pub type Mac = [u8; 6];

/// The request and the reply that announce `address` at `mac`.
///
/// The target of the request is all ones as with keepalived: the neighbour must not answer it.
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> [ArpFrame; 2] {
    [
        frame(ArpOperations::Request, mac.into(), MacAddr::broadcast(), address),
        frame(ArpOperations::Reply, mac.into(), mac.into(), address),
    ]
}

/// The question whether somebody else has `address` (RFC 5227 section 2.1.1). It names no sender
/// address, so that no cache changes, and whoever has the address answers.
pub(crate) fn probe(mac: Mac, address: Ipv4Addr) -> ArpFrame {
    let mut frame = frame(ArpOperations::Request, mac.into(), MacAddr::zero(), address);
    frame[SENDER_ADDRESS].fill(0);
    frame
}

/// What an ARP packet on the wire says: who is said to be where. `None`: it is something else, or
/// not whole, or claims nothing.
pub(crate) fn read_claim(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let frame: &ArpFrame = frame.first_chunk()?;
    // Ethernet type ARP; hardware Ethernet, protocol IPv4, their lengths.
    if frame[12..20] != [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4] {
        return None;
    }
    let address: [u8; 4] = frame[SENDER_ADDRESS].try_into().ok()?;
    let mac = frame[SENDER_MAC].try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (!address.is_unspecified()).then_some((address, mac))
}

fn frame(operation: ArpOperation, mac: MacAddr, target: MacAddr, address: Ipv4Addr) -> ArpFrame {
    let mut frame = [0; ETHERNET + ARP];
    let (header, body) = frame.split_at_mut(ETHERNET);
    if let Some(mut ethernet) = MutableEthernetPacket::new(header) {
        ethernet.set_destination(MacAddr::broadcast());
        ethernet.set_source(mac);
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    if let Some(mut arp) = MutableArpPacket::new(body) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(operation);
        arp.set_sender_hw_addr(mac);
        arp.set_sender_proto_addr(address);
        arp.set_target_hw_addr(target);
        arp.set_target_proto_addr(address);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_and_reply_are_broadcast_and_name_the_address_twice() {
        let mac = [0x02, 0, 0, 0, 0, 7];
        let [request, reply] = gratuitous_arp(mac, Ipv4Addr::new(10, 99, 0, 100));
        let expected = |operation: u8, target: [u8; 6]| {
            let mut bytes = vec![0xff; 6];
            bytes.extend(mac);
            bytes.extend([0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0, operation]);
            bytes.extend(mac);
            bytes.extend([10, 99, 0, 100]);
            bytes.extend(target);
            bytes.extend([10, 99, 0, 100]);
            bytes
        };
        assert_eq!(request.to_vec(), expected(1, [0xff; 6]));
        assert_eq!(reply.to_vec(), expected(2, mac));
    }

    #[test]
    fn the_probe_claims_nothing_and_an_announcement_does() {
        let (mac, address) = ([0x02, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 99, 0, 100));
        let question = probe(mac, address);
        assert_eq!(question[20..22], [0, 1], "a request");
        assert_eq!(question[28..32], [0; 4], "from nobody");
        assert_eq!(question[32..42], [0, 0, 0, 0, 0, 0, 10, 99, 0, 100]);
        assert_eq!(read_claim(&question), None);
        for frame in gratuitous_arp(mac, address) {
            assert_eq!(read_claim(&frame), Some((address, mac)));
            assert_eq!(read_claim(&frame[..41]), None);
            let mut other = frame;
            other[13] = 0;
            assert_eq!(read_claim(&other), None);
        }
    }
}
