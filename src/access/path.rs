//! Reading `/exapps/{id}/…`: the app id, the target path, parent segments, and the canonical
//! form a lenient ExApp might see. Works on the path as received; nothing is decoded for good.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The id that is not an ExApp but the control API. Compared exactly: `APP_API` is an ExApp.
pub const CONTROL_ID: &str = "app_api";

/// A lower-cased ExApp id, the key of its record. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppId(Arc<str>);

impl AppId {
    /// The lookup id for an id as typed.
    pub fn from_display(id: &str) -> Self {
        Self(id.to_lowercase().into())
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path taken apart (contract 1.2, step 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExAppPath<'p> {
    /// The id as typed.
    pub display_id: &'p str,
    /// What the ExApp is asked for; never empty.
    pub target: &'p str,
}

impl<'p> ExAppPath<'p> {
    /// Takes `path` apart, or `None` when no app id can be read from it.
    ///
    /// The id may stand anywhere in the path, but the prefix is removed only where the path
    /// starts with it: `//exapps/demo/x` asks `demo` for `//exapps/demo/x`.
    pub fn split(path: &'p str) -> Option<Self> {
        const MARK: &str = "exapps/";
        let display_id = path
            .match_indices(MARK)
            .filter(|(at, _)| *at == 0 || path.as_bytes().get(at - 1) == Some(&b'/'))
            .filter_map(|(at, _)| path.get(at + MARK.len()..)?.split('/').next())
            .find(|id| !id.is_empty())?;
        let target = path
            .strip_prefix("/exapps/")
            .and_then(|rest| rest.strip_prefix(display_id))
            .map_or(path, |rest| if rest.is_empty() { "/" } else { rest });
        Some(Self { display_id, target })
    }
}

/// Whether a segment consists of exactly two dots (contract 1.2, step 3). Dots may be written
/// `%2e`, separators `%2f`, in either case.
pub fn has_parent_segment(path: &str) -> bool {
    // Dots in the segment so far; `None` once it holds anything else.
    let mut dots = Some(0_u8);
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (symbol, tail) = match rest {
            [b'%', b'2', b'e' | b'E', tail @ ..] => (b'.', tail),
            [b'%', b'2', b'f' | b'F', tail @ ..] => (b'/', tail),
            _ => (byte, tail),
        };
        rest = tail;
        match symbol {
            b'/' if dots == Some(2) => return true,
            b'/' => dots = Some(0),
            b'.' => dots = dots.map(|count| count.saturating_add(1)),
            _ => dots = None,
        }
    }
    dots == Some(2)
}

/// The form an ExApp that normalises might act on: unreserved characters decoded (RFC 3986,
/// 6.2.2.2), then empty and single-dot segments removed. Encoded separators stay encoded.
pub fn canonical(target: &str) -> Cow<'_, str> {
    let decoded = decode_unreserved(target);
    if !decoded.contains("//") && !decoded.contains("/.") {
        return decoded;
    }
    let mut canonical = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').peekable();
    if let Some(first) = segments.next() {
        canonical.push_str(first);
    }
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." if !last => {}
            "." => canonical.push('/'),
            _ => {
                canonical.push('/');
                canonical.push_str(segment);
            }
        }
    }
    Cow::Owned(canonical)
}

fn decode_unreserved(path: &str) -> Cow<'_, str> {
    let mut decoded = String::new();
    let mut copied = 0;
    for (at, _) in path.match_indices('%') {
        let Some(byte) = path.get(at + 1..at + 3).and_then(hex_byte) else { continue };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            decoded.push_str(path.get(copied..at).unwrap_or_default());
            decoded.push(char::from(byte));
            copied = at + 3;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(path);
    }
    decoded.push_str(path.get(copied..).unwrap_or_default());
    Cow::Owned(decoded)
}

fn hex_byte(digits: &str) -> Option<u8> {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u8::from_str_radix(digits, 16).ok()
}
