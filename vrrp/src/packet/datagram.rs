//! What a raw socket delivers, cut down to the VRRP message. Sans-io.

use std::net::{IpAddr, Ipv4Addr};

use crate::{checksum::PROTOCOL, error::PacketError};

/// A received packet of protocol 112, cut to what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it: the primary or the link-local address of a router.
    pub source: IpAddr,
    /// Where it was sent to, of the same family; part of the pseudo-header.
    pub destination: IpAddr,
    /// Time to live or hop limit as received.
    pub ttl: u8,
    /// The VRRP message.
    pub message: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes the header off a received IPv4 packet. IPv6 sockets deliver the header's fields beside
    /// the message.
    ///
    /// Ethernet pads short frames to 60 bytes and some drivers deliver the padding, hence the cut
    /// to the total length.
    pub fn parse(packet: &'a [u8]) -> Result<Self, PacketError> {
        let header = packet.first_chunk::<20>().ok_or(PacketError::IpHeader)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_length < 20 || header[9] != PROTOCOL {
            return Err(PacketError::IpHeader);
        }
        let message = packet.get(header_length..total_length).ok_or(PacketError::IpHeader)?;
        Ok(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            ttl: header[8],
            message,
        })
    }

    /// Whether it was sent to the group and not to one host.
    pub fn is_multicast(&self) -> bool {
        self.destination.is_multicast()
    }
}
