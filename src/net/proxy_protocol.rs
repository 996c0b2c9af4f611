//! The PROXY protocol, versions 1 and 2: the line or block with which a TCP load balancer says
//! whose connection it passes on. Sans-io: whoever reads asks how many more bytes surely belong to
//! it, so that not one byte of what follows is taken.
//!
//! Only what is carried over TCP names a client. A health check of the balancer itself (`LOCAL`,
//! `UNKNOWN`) names none, and the balancer is the client then.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: [u8; 6] = *b"PROXY ";

/// Longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;

/// Longest block of version 2 after its head: addresses and the balancer's own additions.
const LONGEST_BLOCK: usize = 2048;

/// Bytes of the head of version 2.
const HEAD: usize = 16;

/// How far a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// At least so many more bytes belong to it.
    Wants(usize),
    /// It is whole: the client, or none where none is named.
    Names(Option<SocketAddr>),
}

/// These bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a header of the PROXY protocol")]
pub struct Malformed;

/// Reads everything that came so far.
///
/// # Errors
/// [`Malformed`], as soon as that is certain.
pub fn read(bytes: &[u8]) -> Result<Header, Malformed> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] == SIGNATURE[..begun] && !bytes.is_empty() {
        return binary(bytes);
    }
    let begun = bytes.len().min(WORD.len());
    if bytes[..begun] != WORD[..begun] {
        return Err(Malformed);
    }
    line(bytes)
}

fn line(bytes: &[u8]) -> Result<Header, Malformed> {
    let Some(text) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= LONGEST_LINE || bytes.contains(&b'\n') {
            return Err(Malformed);
        }
        // Both versions are longer than this, whichever it is.
        let shortest = SIGNATURE.len().saturating_sub(bytes.len());
        return Ok(Header::Wants(shortest.max(if bytes.ends_with(b"\r") { 1 } else { 2 })));
    };
    let text = std::str::from_utf8(text).map_err(|_utf8| Malformed)?;
    let mut words = text.split(' ').skip(1);
    let mut next = || words.next().ok_or(Malformed);
    let family = next()?;
    if family == "UNKNOWN" {
        return Ok(Header::Names(None));
    }
    let (from, to) = (next()?, next()?);
    let (from_port, to_port) = (port(next()?)?, next()?);
    port(to_port)?;
    if next().is_ok() {
        return Err(Malformed);
    }
    let address = match family {
        "TCP4" => both::<Ipv4Addr>(from, to)?.into(),
        "TCP6" => both::<Ipv6Addr>(from, to)?.into(),
        _ => return Err(Malformed),
    };
    Ok(Header::Names(Some(SocketAddr::new(address, from_port))))
}

/// The first of two addresses that must both be some.
fn both<A: std::str::FromStr>(from: &str, to: &str) -> Result<A, Malformed> {
    let _: A = to.parse().map_err(|_no_address| Malformed)?;
    from.parse().map_err(|_no_address| Malformed)
}

fn port(text: &str) -> Result<u16, Malformed> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(Malformed)
}

fn binary(bytes: &[u8]) -> Result<Header, Malformed> {
    let Some((head, block)) = bytes.split_at_checked(HEAD) else {
        return Ok(Header::Wants(HEAD - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > LONGEST_BLOCK || block.len() > length {
        return Err(Malformed);
    }
    if block.len() < length {
        return Ok(Header::Wants(length - block.len()));
    }
    match head[12] {
        // LOCAL: whatever the block holds, it is not for us.
        0x20 => return Ok(Header::Names(None)),
        0x21 => {}
        _ => return Err(Malformed),
    }
    let number = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let client = match head[13] {
        0x11 if length >= 12 => {
            let address = <[u8; 4]>::try_from(&block[..4]).map_err(|_short| Malformed)?;
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), number(8)))
        }
        0x21 if length >= 36 => {
            let address = <[u8; 16]>::try_from(&block[..16]).map_err(|_short| Malformed)?;
            Some(SocketAddr::new(Ipv6Addr::from(address).into(), number(32)))
        }
        0x11 | 0x21 => return Err(Malformed),
        _ => None,
    };
    Ok(Header::Names(client))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// Feeds a whole header in the pieces that are asked for.
    fn fed(bytes: &[u8]) -> Result<(usize, Option<SocketAddr>), Malformed> {
        let mut taken = 0;
        loop {
            match read(&bytes[..taken])? {
                Header::Names(client) => return Ok((taken, client)),
                Header::Wants(more) if taken + more <= bytes.len() => taken += more,
                Header::Wants(_) => return Err(Malformed),
            }
        }
    }

    #[test]
    fn the_client_is_read_and_not_a_byte_of_what_follows() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xc3, 0x51, 1, 0xbb];
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let v6 = [&v6[..], &v6, &[0, 80, 1, 0xbb], b"a tlv"].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 50001 443\r\n".to_vec(), Some("192.0.2.7:50001")),
            (b"PROXY TCP6 2001:db8::7 ::1 80 443\r\n".to_vec(), Some("[2001:db8::7]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (block(0x21, 0x11, &v4), Some("192.0.2.7:50001")),
            (block(0x21, 0x21, &v6), Some("[2001:db8::7]:80")),
            (block(0x20, 0x11, &v4), None),
            (block(0x20, 0, b""), None),
            (block(0x21, 0x31, b"/run/socket"), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let length = header.len();
            let whole = [header, b"GET / HTTP/1.1\r\n\r\n\r\n\r\n".to_vec()].concat();
            assert_eq!(fed(&whole), Ok((length, client)), "{whole:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_at_once() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n",
            b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7\n10.0.0.1 1 2\r\n",
            &long,
            &block(0x22, 0x11, &[0; 12]),
            &block(0x21, 0x11, &[0; 11]),
            &block(0x21, 0x21, &[0; 12]),
            &block(0x21, 0x11, &[0; 3000]),
        ] {
            assert_eq!(fed(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), v2: bool) {
            let mut all = if v2 { SIGNATURE.to_vec() } else { WORD.to_vec() };
            let _ = read(&bytes);
            all.extend(bytes);
            if let Ok(Header::Wants(more)) = read(&all) {
                prop_assert!(more > 0);
            }
        }
    }
}
