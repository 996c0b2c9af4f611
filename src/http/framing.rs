//! Notices requests that name their length twice (`Content-Length` beside `Transfer-Encoding`) or
//! whose target has a fragment.
//!
//! hyper follows RFC 9112 section 6.3 in the first case: it goes by `Transfer-Encoding`, forgets
//! the `Content-Length` and closes after the answer, so nothing can be smuggled through us; in the
//! second it cuts the target off at the `#`. It does not tell, though, and such a request is an
//! attack or a defect. [`Tap`] reads along and lets the server refuse it. A head that shares a read
//! with the request before it (pipelining), or whose request line comes in pieces, may be missed;
//! hyper's handling stands then.

use std::io::{self, BufRead};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest request line looked for at the start of a read.
const MAX_LINE: usize = 8 * 1024;
/// Longest method; the longest registered one (RFC 3253) has 16 letters.
const MAX_METHOD: usize = 32;

/// Looks for the two header lines, and the `#`, in what is read. Sans-io.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    length: bool,
    encoding: bool,
    fragment: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In a body, or between requests: the next head begins with a read.
    #[default]
    Outside,
    /// In a head, at the start of a line; holds how much of it the last read left over.
    LineStart(Partial),
    /// In a head, within a line of no interest.
    InLine,
}

/// The start of a line that a read cut short, as far as it may matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Partial {
    bytes: [u8; Self::LEN],
    len: usize,
}

impl Partial {
    /// Enough for `transfer-encoding`.
    const LEN: usize = 17;
}

impl Scanner {
    /// Reads on; returns whether the current head is to be refused.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        if self.state == State::Outside {
            let Some((target, after)) = request_line(bytes) else {
                return self.is_doubtful();
            };
            let fragment = target.contains(&b'#');
            let state = State::LineStart(Partial::default());
            *self = Self { state, fragment, ..Self::default() };
            rest = after;
        }
        while !rest.is_empty() {
            match self.state {
                State::Outside => break,
                State::InLine => match position_of_newline(rest) {
                    Some(at) => {
                        self.state = State::LineStart(Partial::default());
                        rest = &rest[at + 1..];
                    }
                    None => break,
                },
                State::LineStart(mut partial) => {
                    let take = rest.len().min(Partial::LEN - partial.len);
                    partial.bytes[partial.len..partial.len + take].copy_from_slice(&rest[..take]);
                    let line = &partial.bytes[..partial.len + take];
                    if line.starts_with(b"\n") || line.starts_with(b"\r\n") {
                        self.state = State::Outside;
                        break;
                    }
                    let short = line.len() < Partial::LEN && !line.contains(&b'\n');
                    if short {
                        partial.len = line.len();
                        self.state = State::LineStart(partial);
                        break;
                    }
                    self.length |= names(line, b"content-length");
                    self.encoding |= names(line, b"transfer-encoding");
                    // What `partial` held before this read has no newline in it.
                    self.state = State::InLine;
                }
            }
        }
        self.is_doubtful()
    }

    fn is_doubtful(&self) -> bool {
        self.fragment || (self.length && self.encoding)
    }
}

fn names(line: &[u8], header: &[u8]) -> bool {
    line.get(..header.len()).is_some_and(|start| start.eq_ignore_ascii_case(header))
}

/// The target and what follows the request line, if `bytes` begin with one. Made to say no to a
/// body at once.
fn request_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let method = bytes.iter().take(MAX_METHOD).position(|byte| *byte == b' ')?;
    if !bytes[..method].is_ascii() || !bytes.get(method + 1).is_some_and(u8::is_ascii_graphic) {
        return None;
    }
    let at = position_of_newline(&bytes[..bytes.len().min(MAX_LINE)])?;
    let line = bytes[..at].trim_ascii_end();
    let (target, version) = line.get(method + 1..)?.split_last_chunk::<8>()?;
    version.starts_with(b"HTTP/1.").then(|| (target, &bytes[at + 1..]))
}

fn position_of_newline(mut bytes: &[u8]) -> Option<usize> {
    let whole = bytes;
    // The standard library's way to the C library's memchr; reading from memory cannot fail.
    let read = bytes.skip_until(b'\n').unwrap_or_default();
    let last = read.checked_sub(1)?;
    (whole.get(last) == Some(&b'\n')).then_some(last)
}

/// Whether the head read last is to be refused; shared between a [`Tap`] and its server.
#[derive(Clone, Debug, Default)]
pub struct Doubt(Arc<AtomicBool>);

impl Doubt {
    /// Whether to refuse the request just received.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose read side is watched.
#[derive(Debug)]
pub struct Tap<S> {
    inner: S,
    scanner: Scanner,
    doubt: Doubt,
}

impl<S> Tap<S> {
    /// Watches `inner`; the second value tells what was seen.
    pub fn new(inner: S) -> (Self, Doubt) {
        let doubt = Doubt::default();
        (Self { inner, scanner: Scanner::default(), doubt: doubt.clone() }, doubt)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        if let Some(new) = buffer.filled().get(before..).filter(|new| !new.is_empty()) {
            let raised = this.scanner.read(new);
            if raised != this.doubt.is_raised() {
                this.doubt.0.store(raised, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_head_with_both_lines_raises_doubt() {
        for (head, doubtful) in [
            ("content-length: 4\r\ntransfer-encoding: chunked\r\n", true),
            ("Transfer-Encoding: chunked\r\nx: y\r\nCONTENT-LENGTH: 4\r\n", true),
            ("content-length: 4\r\n", false),
            ("transfer-encoding: chunked\r\n", false),
            ("x: content-length\r\ntransfer-encoding: chunked\r\n", false),
            ("", false),
        ] {
            let bytes = format!("POST /x HTTP/1.1\r\nhost: h\r\n{head}\r\n");
            assert_eq!(Scanner::default().read(bytes.as_bytes()), doubtful, "{head}");
        }
    }

    #[test]
    fn a_body_that_names_headers_is_a_body() {
        let mut scanner = Scanner::default();
        assert!(!scanner.read(b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"));
        assert!(!scanner.read(b"14\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"));
        assert!(!scanner.read(b"PUT /x HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody"));
        assert!(
            scanner.read(b"PUT / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: x\r\n\r\n")
        );
        assert!(!scanner.read(b"GET / HTTP/1.1\r\n\r\n"), "a new head starts without doubt");
    }

    #[test]
    fn a_fragment_has_no_place_in_a_target() {
        for (line, doubtful) in [
            ("GET /x#y HTTP/1.1", true),
            ("GET /x?y#z HTTP/1.1", true),
            ("GET http://h/#x HTTP/1.1", true),
            ("GET /x?y=%23 HTTP/1.1", false),
            ("M#THOD /x HTTP/1.1", false),
        ] {
            let bytes = format!("{line}\r\nx: #\r\n\r\n");
            let mut scanner = Scanner::default();
            assert_eq!(scanner.read(bytes.as_bytes()), doubtful, "{line}");
            assert!(!scanner.read(b"GET / HTTP/1.1\r\n\r\n"), "a new head, a new chance");
        }
    }

    proptest! {
        #[test]
        fn the_head_may_arrive_in_pieces(cuts in proptest::collection::vec(18_usize..90, 0..6)) {
            let head = b"POST /x HTTP/1.1\r\nContent-Length: 4\r\nHost: cloud.example\r\n\
                         Transfer-Encoding: chunked\r\n\r\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(head.len())).collect();
            cuts.sort_unstable();
            let mut scanner = Scanner::default();
            let mut from = 0;
            let mut doubtful = false;
            for to in cuts.into_iter().chain([head.len()]) {
                doubtful = scanner.read(&head[from..to]);
                from = to;
            }
            prop_assert!(doubtful);
        }
    }
}
