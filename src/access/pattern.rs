//! One route pattern with the meaning Python's `re.match` gives it: anchored at the start only,
//! case sensitive, on the undecoded path. Sans-io.
//!
//! Patterns run on a linear engine where they can. Those that need look-around, back-references
//! or possessive quantifiers run on a backtracking one that gives up after [`STEP_LIMIT`] steps
//! (weakness W10: HaRP's engine has no limit and visitors choose the input).

use std::fmt::Write as _;

/// Backtracking steps one match may take. A path at the header limit costs an honest pattern a
/// few per byte.
const STEP_LIMIT: usize = 100_000;

/// Most bytes a compiled pattern may take.
const SIZE_LIMIT: usize = 2 << 20;

/// A compiled route pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    Linear(regex::Regex),
    Backtracking(fancy_regex::Regex),
    /// Valid, but larger than [`SIZE_LIMIT`]. Treated as one that always gives up, because
    /// leaving it out could let a later, more open route decide.
    TooLarge,
}

/// What matching found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// The step limit was reached; the answer is unknown.
    GaveUp,
}

impl Pattern {
    /// Compiles a Python pattern; an error means that neither engine accepts it.
    pub(super) fn new(python: &str) -> Result<Self, Box<fancy_regex::Error>> {
        let translated = Translation::of(python);
        if !translated.possessive {
            let built = regex::RegexBuilder::new(&translated.text).size_limit(SIZE_LIMIT).build();
            match built {
                Ok(regex) => return Ok(Self::Linear(regex)),
                Err(regex::Error::CompiledTooBig(_)) => return Ok(Self::TooLarge),
                Err(_) => {}
            }
        }
        // On its own first: wrapping would make `a)(b` valid.
        backtracking(&translated.text)?;
        backtracking(&format!(r"\A(?:{})", translated.text)).map(Self::Backtracking)
    }

    pub(super) fn matches(&self, path: &str) -> Match {
        match self {
            // The leftmost match starts at 0 exactly if there is a match at 0.
            Self::Linear(regex) => yes_if(regex.find(path).is_some_and(|found| found.start() == 0)),
            Self::Backtracking(regex) => regex.is_match(path).map_or(Match::GaveUp, yes_if),
            Self::TooLarge => Match::GaveUp,
        }
    }
}

fn backtracking(pattern: &str) -> Result<fancy_regex::Regex, Box<fancy_regex::Error>> {
    fancy_regex::RegexBuilder::new(pattern)
        .backtrack_limit(STEP_LIMIT)
        .delegate_size_limit(SIZE_LIMIT)
        .build()
        .map_err(Box::new)
}

fn yes_if(matched: bool) -> Match {
    if matched { Match::Yes } else { Match::No }
}

/// A Python pattern in the engines' spelling. What means the same in both is copied.
///
/// | Python | here |
/// |---|---|
/// | `\Z` | `\z` |
/// | `\<`, `\>` | the characters |
/// | `{` that begins no quantifier | `\{` |
/// | `{,n}` | `{0,n}` |
/// | `[`, `&`, `~` inside a class | escaped |
/// | quantifier followed by `+` | possessive: backtracking engine only |
struct Translation {
    text: String,
    possessive: bool,
}

impl Translation {
    fn of(python: &str) -> Self {
        let mut out = Self { text: String::with_capacity(python.len() + 8), possessive: false };
        let mut rest = python;
        let mut after_quantifier = false;
        while let Some(symbol) = rest.chars().next() {
            let tail = rest.get(symbol.len_utf8()..).unwrap_or_default();
            let was_quantifier = std::mem::take(&mut after_quantifier);
            rest = match symbol {
                '\\' => out.escape(tail),
                '[' => out.class(tail),
                '(' => {
                    // The `?` of `(?…` is no quantifier.
                    let extension = tail.strip_prefix('?');
                    out.text.push_str(if extension.is_some() { "(?" } else { "(" });
                    extension.unwrap_or(tail)
                }
                '{' => match counted(rest) {
                    Some((least, most, tail)) => {
                        after_quantifier = true;
                        let least = if least.is_empty() { "0" } else { least };
                        match most {
                            None => _ = write!(out.text, "{{{least}}}"),
                            Some(most) => _ = write!(out.text, "{{{least},{most}}}"),
                        }
                        tail
                    }
                    None => {
                        out.text.push_str(r"\{");
                        tail
                    }
                },
                _ => {
                    out.possessive |= was_quantifier && symbol == '+';
                    after_quantifier = !was_quantifier && "*+?".contains(symbol);
                    out.text.push(symbol);
                    tail
                }
            };
        }
        out
    }

    /// Copies what follows a backslash outside of a class; returns what is left.
    fn escape<'p>(&mut self, tail: &'p str) -> &'p str {
        let mut left = tail.chars();
        match left.next() {
            Some('Z') => self.text.push_str(r"\z"),
            Some(literal @ ('<' | '>')) => self.text.push(literal),
            Some(other) => self.text.extend(['\\', other]),
            None => self.text.push('\\'),
        }
        left.as_str()
    }

    /// Copies a class whose `[` has been read; returns what is left.
    fn class<'p>(&mut self, tail: &'p str) -> &'p str {
        self.text.push('[');
        let mut left = tail;
        // A `]` in first place is a member, not the end.
        for first in ['^', ']'] {
            if let Some(after) = left.strip_prefix(first) {
                self.text.push(first);
                left = after;
            }
        }
        let mut symbols = left.chars();
        while let Some(symbol) = symbols.next() {
            match symbol {
                '\\' => self.text.extend(['\\'].into_iter().chain(symbols.next())),
                '[' | '&' | '~' => self.text.extend(['\\', symbol]),
                ']' => {
                    self.text.push(']');
                    break;
                }
                _ => self.text.push(symbol),
            }
        }
        symbols.as_str()
    }
}

/// Reads `{m}`, `{m,}`, `{,n}` or `{m,n}`: the bounds (`None` = no comma) and what follows.
fn counted(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inner, tail) = text.strip_prefix('{')?.split_once('}')?;
    let (least, most) = match inner.split_once(',') {
        Some((least, most)) => (least, Some(most)),
        None => (inner, None),
    };
    let digits = |bound: &str| bound.bytes().all(|byte| byte.is_ascii_digit());
    (!inner.is_empty() && digits(least) && most.is_none_or(digits)).then_some((least, most, tail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> Match {
        Pattern::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}")).matches(path)
    }

    #[test]
    fn patterns_mean_what_they_mean_to_python() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            // Anchored at the start only.
            ("^/public$", &["/public"], &["/public/", "/publics", "/x/public"]),
            ("/public", &["/public", "/publicity", "/public/x"], &["/x/public", "public"]),
            ("/mid", &["/middle", "/mid"], &["/a/mid", "/mi"]),
            ("admin", &[], &["/admin", "/x/admin"]),
            ("", &["/", "/anything"], &[]),
            (".*", &["/", "/anything/at/all"], &[]),
            ("^/a|^/b", &["/a", "/b/c"], &["/c"]),
            ("/a|/b", &["/ax", "/bx"], &["/c/a"]),
            // Case, flags, escapes.
            ("^/Public", &["/Public"], &["/public"]),
            ("(?i)^/public", &["/PUBLIC"], &["/x"]),
            (r"^\/api\/v\d+\.\d+$", &["/api/v1.20"], &["/api/v1x20", "/api/v1"]),
            (r"^/file\.(js|css)$", &["/file.js", "/file.css"], &["/filexjs", "/file.jsx"]),
            (r"^/\w+/\w+$", &["/a_1/b"], &["/a-1/b", "/a/b/c"]),
            (r"/end\Z", &["/end"], &["/end/"]),
            (r"/a\<b\>", &["/a<b>"], &["/ab"]),
            // Percent signs are ordinary characters: the path is undecoded.
            ("^/a b$", &[], &["/a%20b"]),
            ("^/a%20b$", &["/a%20b"], &["/a b"]),
            // Quantifiers, and braces that are none.
            ("^/v{2}$", &["/vv"], &["/v", "/vvv", "/v{2}"]),
            ("^/v{,2}$", &["/", "/v", "/vv"], &["/vvv"]),
            ("^/v{1,}$", &["/v", "/vvvv"], &["/"]),
            ("^/v{1,2}?$", &["/v", "/vv"], &["/vvv"]),
            ("^/item/{id}$", &["/item/{id}"], &["/item/7"]),
            ("^/item/{}$", &["/item/{}"], &["/item/"]),
            // Classes.
            ("^/[a-c]+$", &["/abc"], &["/abd", "/"]),
            ("^/[^/]+$", &["/abc"], &["/a/b"]),
            ("^/[[a]+$", &["/[a"], &["/b"]),
            ("^/[]a]+$", &["/]a"], &["/b"]),
            ("^/[^]a]+$", &["/b"], &["/]"]),
            ("^/[a&&b]+$", &["/a&b"], &["/c"]),
            ("^/[a~~b]+$", &["/a~b"], &["/c"]),
            (r"^/[\]\w]+$", &["/]x"], &["/-"]),
            // What only the backtracking engine knows.
            ("^/(?!admin).*", &["/user", "/"], &["/admin", "/administrator"]),
            ("(?!/admin)", &["/user", "/x/admin"], &["/admin"]),
            ("^/(?=.*x)[a-z]+$", &["/axb"], &["/ab"]),
            (r"^/(\w+)/\1$", &["/a/a"], &["/a/b"]),
            (r"^/(?P<x>\w+)/(?P=x)$", &["/ab/ab"], &["/a/b"]),
            (r"/x(?<=/x)y", &["/xy"], &["/a/xy"]),
            ("^/a++b", &["/aab"], &["/b"]),
            ("^/a*+a", &[], &["/aaa"]),
            ("^/(?>a+)a", &[], &["/aaa"]),
        ];
        for (pattern, hits, misses) in rows {
            for path in *hits {
                assert_eq!(matches(pattern, path), Match::Yes, "{pattern} on {path}");
            }
            for path in *misses {
                assert_eq!(matches(pattern, path), Match::No, "{pattern} on {path}");
            }
        }
    }

    #[test]
    fn broken_patterns_do_not_compile() {
        for pattern in ["(", ")", "a)(b", "[a", "*", "a)(?!b", r"(?!a)\", "(?P<x>a)(?P=y)"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn w10_the_pattern_that_stopped_harp_is_linear_here() {
        let path = format!("/{}!", "a".repeat(8000));
        assert!(matches!(Pattern::new("^/(a+)+$"), Ok(Pattern::Linear(_))));
        assert_eq!(matches("^/(a+)+$", &path), Match::No);
    }

    #[test]
    fn w10_a_backtracking_pattern_gives_up_instead_of_stalling() {
        let path = format!("/{}!", "a".repeat(60));
        assert_eq!(matches("^/(?!x)(a+)+(?<!b)$", "/aaa"), Match::Yes);
        assert_eq!(matches(r"^/(?:(a+)\1*)+$", &path), Match::GaveUp);
    }

    #[test]
    fn w10_an_oversized_pattern_decides_nothing() {
        assert!(matches!(Pattern::new(r"(\w{1000}){1000}"), Ok(Pattern::TooLarge)));
        assert_eq!(matches(r"(\w{1000}){1000}", "/"), Match::GaveUp);
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_panic(pattern in r"[\\/a\[\](){},0-9*+?^$|.Z<>&~-]{0,16}", path in ".{0,40}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _ = pattern.matches(&path);
            }
        }

        #[test]
        fn literal_patterns_are_prefixes(prefix in "/[a-z/]{0,8}", path in "/[a-z/]{0,12}") {
            prop_assert_eq!(matches(&prefix, &path), yes_if(path.starts_with(&prefix)));
        }
    }
}
