//! Single values as keepalived writes them. A value it would refuse is a note, and its default
//! holds, as there. Sans-io.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::Note;
use super::syntax::Statement;

/// A number within a range; a note when it is none.
pub(super) fn number<T>(one: &Statement, low: T, high: T, notes: &mut Vec<Note>) -> Option<T>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = one.value().parse().ok().filter(|number| (&low..=&high).contains(&number));
    if number.is_none() {
        wrong(one, &format!("a whole number from {low} to {high}"), notes);
    }
    number
}

/// Seconds, with a fraction or without.
pub(super) fn seconds(one: &Statement, notes: &mut Vec<Note>) -> Option<Duration> {
    let time = parse_seconds(one.value());
    if time.is_none() {
        wrong(one, "a number of seconds", notes);
    }
    time
}

/// A day at most: nothing of keepalived's is longer.
fn parse_seconds(text: &str) -> Option<Duration> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|seconds| plain && *seconds <= 86_400.0)?;
    // The finest step of either program is ten milliseconds; nearer than one is no difference.
    Duration::try_from_secs_f64((seconds * 1000.0).round() / 1000.0).ok()
}

/// The protocol version of IPv4.
pub(super) fn version(one: &Statement, notes: &mut Vec<Note>) -> Option<u8> {
    number(one, 2, 3, notes)
}

/// A weight, and whether it stands reversed.
pub(super) struct Weight {
    pub(super) weight: i32,
    pub(super) reverse: bool,
}

/// `weight N [reverse]` from some word on; `None` when there is none.
pub(super) fn weight(words: &[String]) -> Option<Weight> {
    let at = words.iter().position(|word| word == "weight")?;
    let weight = words.get(at + 1)?.parse().ok()?;
    Some(Weight { weight, reverse: words.iter().any(|word| word == "reverse") })
}

/// An address with or without a prefix length.
pub(super) fn address(text: &str) -> Option<(IpAddr, Option<u8>)> {
    match text.split_once('/') {
        None => Some((text.parse().ok()?, None)),
        Some((address, prefix)) => {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most)?;
            Some((address, (prefix < most).then_some(prefix)))
        }
    }
}

/// A command line as keepalived splits it: words, with either quote and backslashes.
pub(in super::super) fn command(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What keepalived ignores.
pub(super) fn wrong(one: &Statement, expected: &str, notes: &mut Vec<Note>) {
    let found = one.words.get(1..).unwrap_or_default().join(" ");
    let text = format!("\"{found}\" is not {expected}; the default holds");
    notes.push(Note::new(one.line, one.word(), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        for (text, millis) in [
            ("1", Some(1000)),
            ("0.01", Some(10)),
            ("0.92", Some(920)),
            (".5", Some(500)),
            ("0", Some(0)),
            ("-1", None),
            ("1e3", None),
            ("inf", None),
            ("nan", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_seconds(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn commands_split_as_keepalived_splits_them() {
        for (text, expect) in [
            ("/bin/true", vec!["/bin/true"]),
            ("killall  -0 haproxy", vec!["killall", "-0", "haproxy"]),
            ("/bin/x 'a b' \"c d\" e\\ f", vec!["/bin/x", "a b", "c d", "e f"]),
            ("x '' y", vec!["x", "", "y"]),
            ("x 'it\\s'", vec!["x", "it\\s"]),
            ("x 'open", vec!["x", "open"]),
            ("  ", vec![]),
        ] {
            assert_eq!(command(text), expect, "{text}");
        }
    }
}
