//! Reading `/exapps/{id}/…`: the app id, the target path, parent segments, and the canonical
//! form a lenient ExApp might see. Sans-io. Works on the path as received; nothing is decoded for
//! good.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_app_id_and_what_it_is_asked_for() {
        let rows = [
            ("/exapps/demo/x", Some(("demo", "/x"))),
            ("/exapps/demo/", Some(("demo", "/"))),
            ("/exapps/demo", Some(("demo", "/"))),
            ("/exapps/Demo/X/y", Some(("Demo", "/X/y"))),
            ("/exapps/demo//x", Some(("demo", "//x"))),
            ("/exapps/demo/exapps/other/x", Some(("demo", "/exapps/other/x"))),
            ("/exapps/dem%6f/x", Some(("dem%6f", "/x"))),
            ("/exapps/a.b-c_d/x", Some(("a.b-c_d", "/x"))),
            ("/exapps/d\u{e9}mo/\u{e9}", Some(("d\u{e9}mo", "/\u{e9}"))),
            // The id counts anywhere, the prefix only at the start.
            ("//exapps/demo/x", Some(("demo", "//exapps/demo/x"))),
            ("/foo/exapps/demo/x", Some(("demo", "/foo/exapps/demo/x"))),
            ("exapps/demo/x", Some(("demo", "exapps/demo/x"))),
            ("/xexapps/a/exapps/demo", Some(("demo", "/xexapps/a/exapps/demo"))),
            ("/exapps//exapps/demo", Some(("demo", "/exapps//exapps/demo"))),
            ("/exapps/exapps/x", Some(("exapps", "/x"))),
            // No id.
            ("/", None),
            ("", None),
            ("/foo", None),
            ("/exapps", None),
            ("/exapps/", None),
            ("/exapps//x", None),
            ("/exapps//", None),
            ("/Exapps/demo/x", None),
            ("/xexapps/demo/x", None),
            ("/%65xapps/demo/x", None),
            ("/exapps%2fdemo/x", None),
        ];
        for (path, expected) in rows {
            let split = ExAppPath::split(path).map(|found| (found.display_id, found.target));
            assert_eq!(split, expected, "{path}");
        }
    }

    #[test]
    fn parent_segments_are_seen_in_every_spelling_harp_knows() {
        for path in [
            "..",
            "../x",
            "/..",
            "/../",
            "/exapps/demo/../x",
            "/exapps/demo/..",
            "/exapps/demo/%2e%2e/x",
            "/exapps/demo/%2E%2e",
            "/exapps/demo/.%2e/x",
            "/exapps/demo/%2E./x",
            "/exapps/demo%2f..%2Fx",
            "/exapps/demo%2F%2e%2e",
            "%2f..",
            "/x/..%2fy",
        ] {
            assert!(has_parent_segment(path), "{path}");
        }
    }

    #[test]
    fn other_dots_are_no_parent_segment() {
        for path in [
            "",
            "/",
            ".",
            "/.",
            "/./x",
            "/...",
            "/a..",
            "/..a",
            "/a../b",
            "/.../",
            "/..;/x",
            "/..\\x",
            "/%252e%252e/x",
            "/..%00",
            "/.%2",
            "/%2",
            "/%",
            "/..%",
            "/..%5c",
            "/..%2",
            "/%2e",
            "/x%2e%2e",
        ] {
            assert!(!has_parent_segment(path), "{path}");
        }
    }

    #[test]
    fn the_canonical_form_is_what_a_normalising_server_reads() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/%61dmin", "/admin"),
            ("/%61%64%6Din/%7Ex", "/admin/~x"),
            ("//admin", "/admin"),
            ("///admin//x//", "/admin/x/"),
            ("/./admin", "/admin"),
            ("/%2e/admin", "/admin"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/.", "/"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
            // Reserved and unreadable escapes stay.
            ("/a%2fb", "/a%2fb"),
            ("/a%20b", "/a%20b"),
            ("/a%2", "/a%2"),
            ("/a%", "/a%"),
            ("/a%zz%61", "/a%zza"),
            ("/%+1", "/%+1"),
            ("/%2561", "/%2561"),
            ("/%\u{e9}x", "/%\u{e9}x"),
            ("exapps/x", "exapps/x"),
        ] {
            assert_eq!(canonical(path), expected, "{path}");
        }
    }

    /// Decodes the three spellings first and then looks at whole segments.
    fn slow_has_parent_segment(path: &str) -> bool {
        let spelled_out = ["%2e", "%2E", "%2f", "%2F"]
            .into_iter()
            .zip([".", ".", "/", "/"])
            .fold(path.to_owned(), |text, (escape, plain)| text.replace(escape, plain));
        spelled_out.split('/').any(|segment| segment == "..")
    }

    /// Tries every position, as a search for `(?:^|/)exapps/([^/]+)` would.
    fn slow_split(path: &str) -> Option<(&str, &str)> {
        let found = regex::Regex::new("(?:^|/)exapps/([^/]+)").unwrap().captures(path)?;
        let id = found.get(1)?.as_str();
        let prefix = format!("/exapps/{id}");
        match path.strip_prefix(&prefix) {
            Some("") => Some((id, "/")),
            Some(rest) => Some((id, rest)),
            None => Some((id, path)),
        }
    }

    proptest! {
        #[test]
        fn parent_segments_agree_with_the_slow_model(path in "([./%]|2e|2E|2f|2F|%2e|%2f|%2E|%2F|x){0,12}") {
            prop_assert_eq!(has_parent_segment(&path), slow_has_parent_segment(&path), "{}", path);
        }

        #[test]
        fn splitting_agrees_with_the_slow_model(path in "(/|exapps|exapps/|x|demo|%2f|\\PC){0,8}") {
            let split = ExAppPath::split(&path).map(|found| (found.display_id, found.target));
            prop_assert_eq!(split, slow_split(&path), "{}", path);
        }

        #[test]
        fn the_canonical_form_is_its_own(path in "(/|\\.|%2e|%61|%2f|a|\\PC){0,12}") {
            let once = canonical(&path).into_owned();
            if !once.contains('%') {
                let twice = canonical(&once).into_owned();
                prop_assert_eq!(twice, once.as_str());
            }
            prop_assert!(!once.get(1..).unwrap_or_default().contains("//"), "{} {}", path, once);
        }

        #[test]
        fn no_path_panics(path in ".{0,60}") {
            let _ = (ExAppPath::split(&path), has_parent_segment(&path), canonical(&path));
        }
    }
}
