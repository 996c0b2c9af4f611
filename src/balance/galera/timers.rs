//! The timers by which the nodes decide that one of them is dead. Sans-io.
//!
//! They must be alike on all nodes: when one node had other timers than the two that were left,
//! the death of the third left both of them non-primary until somebody bootstrapped the cluster.

/// The options whose values decide.
const TIMERS: [&str; 5] = [
    "evs.inactive_check_period",
    "evs.inactive_timeout",
    "evs.install_timeout",
    "evs.keepalive_period",
    "evs.suspect_timeout",
];

/// Names of the timers that differ among nodes with these provider options; an empty text is a
/// node that has not said.
pub fn mismatches<'o>(options: impl IntoIterator<Item = &'o str>) -> Vec<&'static str> {
    let told: Vec<_> = options.into_iter().filter(|options| !options.is_empty()).collect();
    let differs = |timer: &&str| {
        let mut values = told.iter().map(|options| value(options, timer));
        let first = values.next().flatten();
        values.any(|value| value != first)
    };
    TIMERS.into_iter().filter(differs).collect()
}

/// `name = value; name = value`, blanks as the provider pleases.
fn value<'o>(options: &'o str, name: &str) -> Option<&'o str> {
    let mut pairs = options.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_are_not_alike_are_named() {
        let tuned = "base_dir = /x; evs.suspect_timeout = PT2S; evs.keepalive_period = PT0.5S";
        let usual = "evs.suspect_timeout=PT5S;evs.keepalive_period=PT0.5S;gcache.size=16M";
        for (options, expect) in [
            (&[][..], &[][..]),
            (&[tuned], &[]),
            (&[tuned, tuned, ""], &[]),
            (&[tuned, usual, tuned], &["evs.suspect_timeout"]),
            (&[tuned, "evs.suspect_timeout = PT2S"], &["evs.keepalive_period"]),
        ] {
            assert_eq!(mismatches(options.iter().copied()), expect, "{options:?}");
        }
    }
}
