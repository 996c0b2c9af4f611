//! The little HTTP/1.1 both ends of the measurement need: where a head ends and how long its body
//! is. Both ends are ours and what lies between speaks proper HTTP, so this is no general parser.

/// Length of a head, the empty line included; `None` until it is complete.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header, without the blanks around it.
pub(crate) fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    let line = head.split(|byte| *byte == b'\n').skip(1).find(|line| {
        line.get(name.len()) == Some(&b':')
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    })?;
    std::str::from_utf8(&line[name.len() + 1..]).ok().map(str::trim)
}

/// What `Content-Length` says; `None` if there is none, which includes chunked bodies.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

/// The status of a response.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}
