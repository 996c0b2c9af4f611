//! The Internet checksum (RFC 1071) in the two forms VRRP speakers put over IPv4. Sans-io.
//!
//! Over IPv6 there is only the one with pseudo-header, in version 2 only the one without. In version
//! 3 over IPv4 RFC 9568 section 5.2.8 covers the message alone; RFC 5798 was read by keepalived, FRR and the
//! packet analysers to include a pseudo-header. keepalived drops the former, so that we send the
//! latter and accept both.

use std::net::IpAddr;

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;

/// What the checksum of an advertisement covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumForm {
    /// Pseudo-header (source, destination, protocol, length) and message.
    PseudoHeader,
    /// The message alone, as RFC 9568 section 5.2.8 has it.
    MessageOnly,
}

/// Checksum of `message`, whose own checksum field must be zero.
pub(crate) fn checksum(
    form: ChecksumForm,
    message: &[u8],
    source: IpAddr,
    destination: IpAddr,
) -> u16 {
    !fold(sum(form, message, source, destination))
}

/// Whether `message`, with its checksum field as received, is sound in this form.
pub(crate) fn is_sound(
    form: ChecksumForm,
    message: &[u8],
    source: IpAddr,
    destination: IpAddr,
) -> bool {
    fold(sum(form, message, source, destination)) == 0xffff
}

fn sum(form: ChecksumForm, message: &[u8], source: IpAddr, destination: IpAddr) -> u64 {
    let message_sum = words(message);
    match form {
        ChecksumForm::MessageOnly => message_sum,
        ChecksumForm::PseudoHeader => {
            message_sum
                + address(source)
                + address(destination)
                + u64::from(PROTOCOL)
                + message.len() as u64
        }
    }
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    }
}

fn words(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        })
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 18));
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1));
    /// VRID 51, priority 150, 10 cs, 10.99.0.100, as keepalived sends it, checksum zeroed.
    const MESSAGE: [u8; 12] = [0x31, 0x33, 0x96, 1, 0, 10, 0, 0, 10, 99, 0, 100];

    #[test]
    fn both_forms_match_the_captured_advertisement() {
        assert_eq!(checksum(ChecksumForm::PseudoHeader, &MESSAGE, SOURCE, GROUP), 0x4307);
        assert_eq!(checksum(ChecksumForm::MessageOnly, &MESSAGE, SOURCE, GROUP), 0x2dfa);
    }

    #[test]
    fn each_form_is_sound_only_with_its_own_checksum() {
        let mut message = MESSAGE;
        message[6..8].copy_from_slice(&[0x43, 0x07]);
        assert!(is_sound(ChecksumForm::PseudoHeader, &message, SOURCE, GROUP));
        assert!(!is_sound(ChecksumForm::MessageOnly, &message, SOURCE, GROUP));
        assert!(!is_sound(ChecksumForm::PseudoHeader, &message, GROUP, GROUP));
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half() {
        assert_eq!(checksum(ChecksumForm::MessageOnly, &[0x12], SOURCE, GROUP), !0x1200);
    }
}
