use proptest::prelude::*;

use super::*;

const VRID: u8 = 51;
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
const PSEUDO: Format = Format::V3(ChecksumForm::PseudoHeader);
const MESSAGE_ONLY: Format = Format::V3(ChecksumForm::MessageOnly);
/// Captured from keepalived 2.2.7: VRID 51, priority 150, 100 ms, 10.99.0.100.
const CAPTURED: [u8; 32] = [
    0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0xd0, 0x36, 0x0a, 0x63, 0x00, 0x01,
    0xe0, 0x00, 0x00, 0x12, 0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0x43, 0x07, 0x0a, 0x63, 0x00, 0x64,
];

fn captured() -> Advertisement {
    Advertisement {
        vrid: Vrid::new(51).unwrap(),
        priority: 150,
        interval: Interval::from_centiseconds(10).unwrap(),
        addresses: SmallVec::from_slice(&[IpAddr::from([10, 99, 0, 100])]),
    }
}

fn parse(packet: &[u8]) -> Result<(Advertisement, Format), PacketError> {
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

/// Captured from keepalived 2.2.7: the same in version 2, 1 s, `auth_type PASS` with "secret".
const V2: [u8; 20] = [
    0x21, 0x33, 0x96, 0x01, 0x01, 0x01, 0x00, 0xb7, 0x0a, 0x63, 0x00, 0x64, 0x73, 0x65, 0x63, 0x72,
    0x65, 0x74, 0x00, 0x00,
];

/// A packet with [`V2`], some bytes changed and the checksum made right again.
fn v2(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut message = V2;
    for (offset, value) in changes {
        message[*offset] = *value;
    }
    message[CHECKSUM].fill(0);
    let sum = checksum(ChecksumForm::MessageOnly, &message, SOURCE, GROUP);
    message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    packet(&message)
}

#[test]
fn the_captured_advertisement_of_version_2_is_read_and_written_byte_for_byte() {
    let advertisement =
        Advertisement { interval: Interval::from_seconds(1).unwrap(), ..captured() };
    let password = Password::new(b"secret").unwrap();
    let format = Format::V2(Authentication::Simple(password));
    assert_eq!(parse(&packet(&V2)), Ok((advertisement.clone(), format)));
    assert_eq!(advertisement.emit(SOURCE, GROUP, format), V2);
    let without = Format::V2(Authentication::None);
    assert_eq!(parse(&v2(&[(4, 0)])), Ok((advertisement.clone(), without)), "data is ignored");
    let message = advertisement.emit(SOURCE, GROUP, without);
    assert_eq!((message[4], &message[12..]), (0, &[0; 8][..]));
    assert_eq!(parse(&packet(&message)), Ok((advertisement, without)));
}

#[test]
fn over_ipv6_addresses_have_sixteen_octets_and_the_checksum_always_a_pseudo_header() {
    let source = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let destination = GROUP_V6;
    let advertisement = Advertisement {
        vrid: Vrid::new(51).unwrap(),
        priority: 150,
        interval: Interval::from_centiseconds(100).unwrap(),
        addresses: SmallVec::from_slice(&[IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x100])]),
    };
    let message = advertisement.emit(source, destination, PSEUDO);
    assert_eq!((message.len(), &message[CHECKSUM]), (24, &[0x3a, 0xc7][..]));
    let datagram = Datagram { source, destination, ttl: TTL, message: &message };
    assert_eq!(Advertisement::parse(&datagram), Ok((advertisement.clone(), PSEUDO)));
    let bare = advertisement.emit(source, destination, MESSAGE_ONLY);
    let refused = Advertisement::parse(&Datagram { message: &bare, ..datagram });
    assert_eq!(refused, Err(PacketError::Checksum));
    let v2 = advertisement.emit(source, destination, Format::V2(Authentication::None));
    let refused = Advertisement::parse(&Datagram { message: &v2, ..datagram });
    assert_eq!(refused, Err(PacketError::Version(2)), "version 2 knows no ipv6");
    let forwarded = Advertisement::parse(&Datagram { ttl: 64, ..datagram });
    assert_eq!(forwarded, Err(PacketError::Ttl(64)));
}

#[test]
fn a_unicast_peer_may_be_some_hops_away() {
    let destination = IpAddr::from([10, 99, 0, 2]);
    let message = captured().emit(SOURCE, destination, PSEUDO);
    let datagram = Datagram { source: SOURCE, destination, ttl: 61, message: &message };
    assert_eq!(Advertisement::parse(&datagram), Ok((captured(), PSEUDO)));
    let misled = Datagram { destination: [10, 99, 0, 3].into(), ..datagram };
    assert_eq!(Advertisement::parse(&misled), Err(PacketError::Checksum), "meant for another");
}

#[test]
fn the_captured_advertisement_is_read_and_written_byte_for_byte() {
    assert_eq!(parse(&CAPTURED), Ok((captured(), PSEUDO)));
    assert_eq!(captured().emit(SOURCE, GROUP, PSEUDO), CAPTURED[20..].to_vec());
}

#[test]
fn the_captured_farewell_is_read_and_written_byte_for_byte() {
    let farewell = Advertisement { priority: 0, ..captured() };
    let bytes = [0x31, 0x33, 0x00, 0x01, 0x00, 0x0a, 0xd9, 0x07, 0x0a, 0x63, 0x00, 0x64];
    assert_eq!(farewell.emit(SOURCE, GROUP, PSEUDO), bytes);
    assert_eq!(parse(&packet(&bytes)), Ok((farewell.clone(), PSEUDO)));
    let bytes = [0x31, 0x33, 0x00, 0x01, 0x00, 0x0a, 0xc3, 0xfa, 0x0a, 0x63, 0x00, 0x64];
    assert_eq!(farewell.emit(SOURCE, GROUP, MESSAGE_ONLY), bytes);
    assert_eq!(parse(&packet(&bytes)), Ok((farewell, MESSAGE_ONLY)));
}

#[test]
fn the_checksum_form_of_the_newest_rfc_is_accepted() {
    let message = captured().emit(SOURCE, GROUP, MESSAGE_ONLY);
    assert_eq!(message[CHECKSUM], [0x2d, 0xfa]);
    assert_eq!(parse(&packet(&message)), Ok((captured(), MESSAGE_ONLY)));
}

#[test]
fn ethernet_padding_is_cut_by_the_total_length() {
    let mut padded = CAPTURED.to_vec();
    padded.extend([0xaa; 14]);
    assert_eq!(parse(&padded), Ok((captured(), PSEUDO)));
}

#[test]
fn the_authentication_trailer_of_keepalived_is_skipped() {
    let mut message = CAPTURED[20..].to_vec();
    message.extend([0x5a; KEEPALIVED_TRAILER]);
    assert_eq!(parse(&packet(&message)), Ok((captured(), PSEUDO)));
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
    // OpenBSD's CARP shares protocol 112 and starts like VRRPv2; its 36 bytes never fit.
    let carp = {
        let mut message = [0_u8; 36];
        message[..4].copy_from_slice(&[0x21, VRID, 0, 7]);
        packet(&message)
    };
    let mut flipped = V2;
    flipped[19] ^= 1;
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
        ("version 1", forged(&[(0, 0x11)]), PacketError::Version(1)),
        ("version 4", forged(&[(0, 0x41)]), PacketError::Version(4)),
        ("version 2 without authentication data", forged(&[(0, 0x21)]), {
            PacketError::Length { found: 12, expected: 20 }
        }),
        ("carp", carp, PacketError::Length { found: 36, expected: 44 }),
        ("authentication by ip ah", v2(&[(4, 2)]), PacketError::AuthenticationType(2)),
        ("a version 2 interval of 0", v2(&[(5, 0)]), PacketError::IntervalZero),
        ("a version 2 checksum with a bit flipped", packet(&flipped), PacketError::Checksum),
        ("a password cut short", packet(&V2[..19]), {
            PacketError::Length { found: 19, expected: 20 }
        }),
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
    fn advertisements(is_ipv6: bool)(
        vrid in 1_u8..,
        priority in any::<u8>(),
        centiseconds in 1_u16..=4095,
        addresses in prop::collection::vec(any::<u128>(), 1..=255),
    ) -> Advertisement {
        Advertisement {
            vrid: Vrid::new(vrid).unwrap(),
            priority,
            interval: Interval::from_centiseconds(centiseconds).unwrap(),
            addresses: addresses.into_iter().map(|bits| host(is_ipv6, bits)).collect(),
        }
    }
}

fn host(is_ipv6: bool, bits: u128) -> IpAddr {
    if is_ipv6 {
        Ipv6Addr::from(bits).into()
    } else {
        let octets = bits.to_be_bytes();
        Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
    }
}

/// A family, an advertisement of it, and a format in which it can be sent.
fn anything() -> impl Strategy<Value = (bool, Advertisement, Format)> {
    any::<bool>()
        .prop_flat_map(|is_ipv6| (Just(is_ipv6), advertisements(is_ipv6), 0..4_usize, 1_u8..))
        .prop_map(|(is_ipv6, mut advertisement, choice, seconds)| {
            let password = Password::new(&[seconds]).unwrap();
            let format = match choice {
                _ if is_ipv6 => PSEUDO,
                0 => PSEUDO,
                1 => MESSAGE_ONLY,
                2 => Format::V2(Authentication::None),
                _ => Format::V2(Authentication::Simple(password)),
            };
            if format.version() == Version::V2 {
                advertisement.interval = Interval::from_seconds(seconds).unwrap();
            }
            (is_ipv6, advertisement, format)
        })
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed_back(
        (is_ipv6, advertisement, format) in anything(),
        source in any::<u128>(),
        destination in any::<u128>(),
    ) {
        let (source, destination) = (host(is_ipv6, source), host(is_ipv6, destination));
        let message = advertisement.emit(source, destination, format);
        let datagram = Datagram { source, destination, ttl: TTL, message: &message };
        let (parsed, found) = Advertisement::parse(&datagram).unwrap();
        prop_assert_eq!(parsed, advertisement);
        // Once in 65,536 both forms give the same checksum.
        prop_assert_eq!(found.version(), format.version());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let _ = parse(&bytes);
        for (source, destination) in [(SOURCE, GROUP), (GROUP_V6, GROUP_V6)] {
            let message = &bytes;
            let _ = Advertisement::parse(&Datagram { source, destination, ttl: TTL, message });
        }
    }

    #[test]
    fn no_mutation_of_a_sound_packet_makes_the_parser_panic(
        (_, advertisement, format) in anything(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
    ) {
        let message = advertisement.emit(SOURCE, GROUP, format);
        let mut bytes = packet(&message);
        for (index, value) in changes {
            *index.get_mut(&mut bytes) = value;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        let _ = parse(&bytes);
    }
}
