//! The VRRPv3 ADVERTISEMENT over IPv4 (RFC 9568 section 5): checked parse and emit. Sans-io.
//!
//! [`Datagram::parse`] cuts what a raw socket delivers down to the message,
//! [`Advertisement::parse`] reads it. Both take any bytes without panicking; every refusal is a
//! [`PacketError`]. Whether the VRID is ours is for the speaker to say.

use std::net::{IpAddr, Ipv4Addr};

use smallvec::SmallVec;

use crate::{
    checksum::{ChecksumForm, PROTOCOL, checksum, is_sound},
    config::{Interval, Vrid},
    error::PacketError,
};

/// The group every advertisement is sent to (section 5.1.1.2); routers never forward it.
pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));

/// The only TTL accepted (section 5.1.1.3): proof that the sender sits on this segment.
pub const TTL: u8 = 255;

const VERSION: u8 = 3;
const ADVERTISEMENT: u8 = 1;
const FIXED: usize = 8;
const CHECKSUM: std::ops::Range<usize> = 6..8;
/// keepalived 2.4 can append an authentication trailer of this size outside of the message. We
/// cannot check it, but its sender is as trustworthy without as with it.
const KEEPALIVED_TRAILER: usize = 28;

/// An IPv4 packet of protocol 112, cut to what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it: the primary address of a router.
    pub source: IpAddr,
    /// Where it was sent to; part of the pseudo-header.
    pub destination: IpAddr,
    /// Time to live as received.
    pub ttl: u8,
    /// The VRRP message.
    pub message: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes the header off a received packet.
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
}

/// An advertisement that can be sent. Priority 0 says "I stop now".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The virtual router.
    pub vrid: Vrid,
    /// 0 to 255; the ends have meanings of their own (section 5.2.4).
    pub priority: u8,
    /// Max Advertise Interval: how often the sender sends.
    pub interval: Interval,
    /// The virtual addresses, 1 to 255 of them.
    pub addresses: SmallVec<[IpAddr; 4]>,
}

impl Advertisement {
    /// The bytes of the message, checksum included.
    ///
    /// Only the first 255 addresses are written; [`crate::RouterConfig`] never holds more.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, form: ChecksumForm) -> Vec<u8> {
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let mut message = Vec::with_capacity(FIXED + 4 * usize::from(count));
        message.extend([VERSION << 4 | ADVERTISEMENT, self.vrid.as_u8(), self.priority, count]);
        message.extend(self.interval.as_centiseconds().to_be_bytes());
        message.extend([0, 0]);
        for address in self.addresses.iter().take(usize::from(count)) {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        let sum = checksum(form, &message, source, destination);
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Reads a received datagram; also says which checksum form the sender uses.
    ///
    /// The order of the checks follows section 7.1, from "not for us" to "not sound", so that the
    /// counters tell what is wrong with a sender and not just that something is.
    pub fn parse(datagram: &Datagram<'_>) -> Result<(Self, ChecksumForm), PacketError> {
        let message = datagram.message;
        if datagram.ttl != TTL {
            return Err(PacketError::Ttl(datagram.ttl));
        }
        let &[version_type, vrid, priority, count, interval_high, interval_low, _, _] =
            message.first_chunk::<FIXED>().ok_or(PacketError::Truncated)?;
        if version_type >> 4 != VERSION {
            return Err(PacketError::Version(version_type >> 4));
        }
        if version_type & 0x0f != ADVERTISEMENT {
            return Err(PacketError::Type(version_type & 0x0f));
        }
        if count == 0 {
            return Err(PacketError::CountZero);
        }
        let width = if datagram.source.is_ipv4() { 4 } else { 16 };
        let expected = FIXED + width * usize::from(count);
        if message.len() != expected && message.len() != expected + KEEPALIVED_TRAILER {
            return Err(PacketError::Length { found: message.len(), expected });
        }
        let message = &message[..expected];
        let form = [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly]
            .into_iter()
            .find(|form| is_sound(*form, message, datagram.source, datagram.destination))
            .ok_or(PacketError::Checksum)?;
        let vrid = Vrid::new(vrid).map_err(|_| PacketError::VridZero)?;
        // The upper four bits are reserved and ignored on receipt (section 5.2.6).
        let centiseconds = u16::from_be_bytes([interval_high & 0x0f, interval_low]);
        let interval =
            Interval::from_centiseconds(centiseconds).map_err(|_| PacketError::IntervalZero)?;
        let addresses = message[FIXED..]
            .chunks_exact(width)
            .filter_map(|octets| match <[u8; 4]>::try_from(octets) {
                Ok(octets) => Some(IpAddr::from(octets)),
                Err(_) => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
            })
            .collect();
        Ok((Self { vrid, priority, interval, addresses }, form))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
    /// Captured from keepalived 2.2.7: VRID 51, priority 150, 100 ms, 10.99.0.100.
    const CAPTURED: [u8; 32] = [
        0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0xd0, 0x36, 0x0a, 0x63, 0x00,
        0x01, 0xe0, 0x00, 0x00, 0x12, 0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0x43, 0x07, 0x0a, 0x63,
        0x00, 0x64,
    ];

    fn captured() -> Advertisement {
        Advertisement {
            vrid: Vrid::new(51).unwrap(),
            priority: 150,
            interval: Interval::from_centiseconds(10).unwrap(),
            addresses: SmallVec::from_slice(&[Ipv4Addr::new(10, 99, 0, 100).into()]),
        }
    }

    fn parse(packet: &[u8]) -> Result<(Advertisement, ChecksumForm), PacketError> {
        Advertisement::parse(&Datagram::parse(packet)?)
    }

    /// A packet around `message` as the captured speaker would send it.
    fn packet(message: &[u8]) -> Vec<u8> {
        let mut packet = CAPTURED[..20].to_vec();
        let total = u16::try_from(20 + message.len()).unwrap();
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet.extend(message);
        packet
    }

    /// The captured message with some bytes changed and the checksum made right again.
    fn forged(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut message = CAPTURED[20..].to_vec();
        for (offset, value) in changes {
            message[*offset] = *value;
        }
        message[CHECKSUM].fill(0);
        let sum = checksum(ChecksumForm::PseudoHeader, &message, SOURCE, GROUP);
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        packet(&message)
    }

    #[test]
    fn the_captured_advertisement_is_read_and_written_byte_for_byte() {
        assert_eq!(parse(&CAPTURED), Ok((captured(), ChecksumForm::PseudoHeader)));
        assert_eq!(
            captured().emit(SOURCE, GROUP, ChecksumForm::PseudoHeader),
            CAPTURED[20..].to_vec()
        );
    }

    #[test]
    fn the_captured_farewell_is_read_and_written_byte_for_byte() {
        let farewell = Advertisement { priority: 0, ..captured() };
        let bytes = [0x31, 0x33, 0x00, 0x01, 0x00, 0x0a, 0xd9, 0x07, 0x0a, 0x63, 0x00, 0x64];
        assert_eq!(farewell.emit(SOURCE, GROUP, ChecksumForm::PseudoHeader), bytes);
        assert_eq!(parse(&packet(&bytes)), Ok((farewell.clone(), ChecksumForm::PseudoHeader)));
        let bytes = [0x31, 0x33, 0x00, 0x01, 0x00, 0x0a, 0xc3, 0xfa, 0x0a, 0x63, 0x00, 0x64];
        assert_eq!(farewell.emit(SOURCE, GROUP, ChecksumForm::MessageOnly), bytes);
        assert_eq!(parse(&packet(&bytes)), Ok((farewell, ChecksumForm::MessageOnly)));
    }

    #[test]
    fn the_checksum_form_of_the_newest_rfc_is_accepted() {
        let message = captured().emit(SOURCE, GROUP, ChecksumForm::MessageOnly);
        assert_eq!(message[CHECKSUM], [0x2d, 0xfa]);
        assert_eq!(parse(&packet(&message)), Ok((captured(), ChecksumForm::MessageOnly)));
    }

    #[test]
    fn ethernet_padding_is_cut_by_the_total_length() {
        let mut padded = CAPTURED.to_vec();
        padded.extend([0xaa; 14]);
        assert_eq!(parse(&padded), Ok((captured(), ChecksumForm::PseudoHeader)));
    }

    #[test]
    fn the_authentication_trailer_of_keepalived_is_skipped() {
        let mut message = CAPTURED[20..].to_vec();
        message.extend([0x5a; KEEPALIVED_TRAILER]);
        assert_eq!(parse(&packet(&message)), Ok((captured(), ChecksumForm::PseudoHeader)));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        assert_eq!(parse(&forged(&[(4, 0xf0)])).unwrap().0, captured());
    }

    #[test]
    fn every_reason_to_refuse_a_packet_has_its_own_name() {
        let with = |offset: usize, value: u8| {
            let mut packet = CAPTURED.to_vec();
            packet[offset] = value;
            packet
        };
        let carp = {
            // OpenBSD's CARP shares protocol 112 and starts like VRRPv2.
            let mut message = [0_u8; 36];
            message[0] = 0x21;
            packet(&message)
        };
        let v2_with_password = packet(&[
            0x21, 0x33, 0x96, 0x01, 0x01, 0x01, 0x00, 0xb7, 0x0a, 0x63, 0x00, 0x64, 0x73, 0x65,
            0x63, 0x72, 0x65, 0x74, 0x00, 0x00,
        ]);
        let table = [
            ("no bytes at all", vec![], PacketError::IpHeader),
            ("half a header", CAPTURED[..19].to_vec(), PacketError::IpHeader),
            ("an ipv6 header", with(0, 0x65), PacketError::IpHeader),
            ("a header length below 20", with(0, 0x44), PacketError::IpHeader),
            ("another protocol", with(9, 17), PacketError::IpHeader),
            ("total length beyond the packet", with(3, 0x21), PacketError::IpHeader),
            ("total length inside the header", with(3, 0x10), PacketError::IpHeader),
            ("a seven byte message", packet(&CAPTURED[20..27]), PacketError::Truncated),
            ("a forwarded packet", with(8, 254), PacketError::Ttl(254)),
            ("a ttl of zero", with(8, 0), PacketError::Ttl(0)),
            ("version 2 with a password", v2_with_password, PacketError::Version(2)),
            ("carp", carp, PacketError::Version(2)),
            ("type 2", forged(&[(0, 0x32)]), PacketError::Type(2)),
            ("no address", forged(&[(3, 0)]), PacketError::CountZero),
            (
                "a count above the addresses",
                forged(&[(3, 2)]),
                PacketError::Length { found: 12, expected: 16 },
            ),
            ("a flipped bit", with(31, 0x65), PacketError::Checksum),
            ("another source", with(15, 2), PacketError::Checksum),
            ("vrid 0", forged(&[(1, 0)]), PacketError::VridZero),
            ("interval 0", forged(&[(5, 0)]), PacketError::IntervalZero),
        ];
        for (name, bytes, error) in table {
            assert_eq!(parse(&bytes), Err(error), "{name}");
        }
    }

    prop_compose! {
        fn advertisements()(
            vrid in 1_u8..,
            priority in any::<u8>(),
            centiseconds in 1_u16..=4095,
            addresses in prop::collection::vec(any::<u32>(), 1..=255),
        ) -> Advertisement {
            Advertisement {
                vrid: Vrid::new(vrid).unwrap(),
                priority,
                interval: Interval::from_centiseconds(centiseconds).unwrap(),
                addresses: addresses.into_iter().map(Ipv4Addr::from).map(IpAddr::from).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_back(
            advertisement in advertisements(),
            source in any::<u32>().prop_map(Ipv4Addr::from),
            message_only in any::<bool>(),
        ) {
            let form = if message_only {
                ChecksumForm::MessageOnly
            } else {
                ChecksumForm::PseudoHeader
            };
            let message = advertisement.emit(source.into(), GROUP, form);
            let mut bytes = packet(&message);
            bytes[12..16].copy_from_slice(&source.octets());
            prop_assert_eq!(parse(&bytes).map(|(parsed, _)| parsed), Ok(advertisement));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let _ = parse(&bytes);
            let _ = Advertisement::parse(&Datagram {
                source: SOURCE,
                destination: GROUP,
                ttl: TTL,
                message: &bytes,
            });
        }

        #[test]
        fn no_mutation_of_a_sound_packet_makes_the_parser_panic(
            advertisement in advertisements(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            length in any::<prop::sample::Index>(),
        ) {
            let message = advertisement.emit(SOURCE, GROUP, ChecksumForm::PseudoHeader);
            let mut bytes = packet(&message);
            for (index, value) in changes {
                *index.get_mut(&mut bytes) = value;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            let _ = parse(&bytes);
        }
    }
}
