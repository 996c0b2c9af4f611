//! Held to Python's own answers about patterns of real ExApps and about corners of the syntax
//! (`tests/fixtures/routes`), and to an end on hostile paths.

use std::collections::BTreeSet;

use super::super::pattern::{Match, Pattern};

const MATCHES: &str = include_str!("../../../tests/fixtures/routes/matches.jsonl");

/// In force here, while Python refuses them and HaRP skips the route.
const ONLY_HERE: &[&str] = &[
    // Quantifiers on top of each other, or on an anchor.
    "^/a{2}{3}$",
    "^/a**",
    "^/a+*",
    "^/a?*",
    "^*",
    "{1}",
    // Flags in the middle.
    "/(?i)x",
    // Escapes Python does not have.
    r"^/\x{61}$",
    r"^/\e",
    r"^/\h",
    r"^/\K",
    r"^/\R",
    r"^/\z",
    r"^/\G",
    r"^/\pL",
    r"^/[\B]",
    // Groups: Perl's names, names twice, names that begin with a digit, references forwards.
    r"^/(?<x>\w+)$",
    "^/(?P<a>x)(?P<a>y)$",
    "(?P<1a>x)",
    r"^/\1(a)$",
    // Look-behind of any length.
    "(?<=a+)b",
    "(?<=a|bc)/",
    // A class less another.
    "^/[a--b]+$",
];

/// Python's, and skipped here.
const NOT_HERE: &[&str] = &[r"(?a)^/\w+$", r"^/\141$", r"^/\0", r"^/\07"];

/// Python's, and read otherwise or too large here.
const OTHERWISE: &[&str] = &[r"^/\N{DIGIT ONE}", "^/a{65536}"];

/// A pattern and the paths it matches, by index; none where Python refuses it.
type Answer = (String, Option<BTreeSet<usize>>);

fn corpus() -> (Vec<String>, Vec<Answer>) {
    let mut lines = MATCHES.lines();
    let paths = serde_json::from_str(lines.next().unwrap()).unwrap();
    (paths, lines.map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn routes_match_as_python_does() {
    let (paths, patterns) = corpus();
    assert!(patterns.len() > 200, "{}", patterns.len());
    let (mut only_here, mut not_here, mut otherwise) = (Vec::new(), Vec::new(), Vec::new());
    for (python, answer) in &patterns {
        match (Pattern::new(python), answer) {
            (Err(_), None) => {}
            (Ok(_), None) => only_here.push(python.as_str()),
            (Err(_), Some(_)) => not_here.push(python.as_str()),
            (Ok(pattern), Some(matching)) => {
                let agrees = |(index, path): (usize, &String)| {
                    let expected = if matching.contains(&index) { Match::Yes } else { Match::No };
                    pattern.matches(path) == expected
                };
                if !paths.iter().enumerate().all(agrees) {
                    otherwise.push(python.as_str());
                }
            }
        }
    }
    let sorted =
        |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&only_here), sorted(ONLY_HERE));
    assert_eq!(sorted(&not_here), sorted(NOT_HERE));
    assert_eq!(sorted(&otherwise), sorted(OTHERWISE));
}

/// What a backtracking engine without a limit would chew on until the end of days. That the test
/// ends is half of what it shows.
#[test]
fn w10_hostile_paths_never_open_what_they_cannot_match() {
    let hostile = [format!("/{}!", "a".repeat(8_000)), format!("/{}!", "a/".repeat(4_000))];
    for pattern in [
        "^/(a+)+$",
        "^/(a|aa)+$",
        "^/(a|a)*$",
        "^/(.*)*$x",
        "^/(a*)*b",
        "^/([a-z/]+)*$",
        "^/((a+)+)+$",
        r"^/(\w+/?)+$",
        "^/(?!x)(a+)+$",
        r"^/(?:(a+)\1*)+$",
        r"^/(?=(a+))\1+$x",
        "^/(?<=/)(a+)+$",
        r"^/(a+)+(?=\d)$",
    ] {
        let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for path in &hostile {
            assert_ne!(compiled.matches(path), Match::Yes, "{pattern}");
        }
    }
}
