//! Whether this node has lost everybody: then it is the one that is cut off, and must not go on
//! holding addresses another node has taken over meanwhile. Sans-io.
//!
//! Sources are the other members (their beats) and the gateway. Losing one can be its own fault;
//! losing, at the same time, all that had been there is ours. So a node is *isolated* when
//!
//! 1. it is Active: others are simply silent when they hear nobody, and
//! 2. nothing was heard for the timeout: no beat, no advertisement, no answer of the gateway, and
//! 3. at least two sources fell silent together, within the timeout of each other.
//!
//! | members besides this one | gateway | isolated when |
//! |---|---|---|
//! | none | any | never: nobody would take over |
//! | one | none, or never answered | never: the silence may be the peer's death |
//! | one | answers | peer and gateway fall silent together |
//! | two or more | none | two of them fall silent together, the others before |
//! | two or more | answers | likewise, counting the gateway |
//!
//! A source that was never heard does not count, so a wrong `isolation_gateway` harms nobody and
//! the first node of a cluster that starts serves alone. An isolated node is back once it has
//! heard anybody for as long as it had to miss everybody.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use cluster::NodeId;

/// Who can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A member's beats.
    Peer(NodeId),
    /// The gateway's answers to ARP or neighbour solicitations.
    Gateway,
    /// Advertisements of another router. They show that the segment lives, but whose they are and
    /// whether their sender was counted already is not known, so they are no source of their own.
    Advertisements,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(node) => write!(f, "node {node}"),
            Self::Gateway => f.write_str("the gateway"),
            Self::Advertisements => f.write_str("advertisements"),
        }
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node is cut off; these fell silent together.
    Isolated(Vec<Source>),
    /// It hears somebody again.
    Back,
}

/// The machine.
#[derive(Debug)]
pub struct Isolation {
    timeout: Duration,
    heard: BTreeMap<Source, Instant>,
    /// While isolated: since when somebody is heard again.
    isolated: Option<Option<Instant>>,
}

impl Isolation {
    /// A node that is not isolated. `timeout` is how long everybody has to be silent.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, heard: BTreeMap::new(), isolated: None }
    }

    /// Somebody was heard at that time, which may lie in the past.
    pub fn heard(&mut self, source: Source, at: Instant) {
        let last = self.heard.entry(source).or_insert(at);
        *last = at.max(*last);
    }

    /// Whether the node is cut off, as last decided.
    pub fn is_isolated(&self) -> bool {
        self.isolated.is_some()
    }

    /// Decides anew; to be called several times per timeout. `active`: some virtual router of
    /// this node is Active.
    pub fn look(&mut self, now: Instant, active: bool) -> Option<Change> {
        let latest = self.heard.values().max().copied()?;
        let silence = now.saturating_duration_since(latest);
        match &mut self.isolated {
            None => {
                let fell_silent = self.fell_silent_by(latest);
                if !active || silence < self.timeout || fell_silent.len() < 2 {
                    return None;
                }
                self.isolated = Some(None);
                Some(Change::Isolated(fell_silent))
            }
            // Half the timeout, so that one lost probe does not begin the wait again.
            Some(since) if silence >= self.timeout / 2 => {
                *since = None;
                None
            }
            Some(since) => {
                let since = *since.get_or_insert(now);
                if now.saturating_duration_since(since) < self.timeout {
                    return None;
                }
                self.isolated = None;
                Some(Change::Back)
            }
        }
    }

    /// The sources that were there until `latest`, the last time anybody was heard.
    fn fell_silent_by(&self, latest: Instant) -> Vec<Source> {
        let together = self.heard.iter().filter(|(source, at)| {
            **source != Source::Advertisements && latest - **at <= self.timeout
        });
        together.map(|(source, _)| *source).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const B: Source = Source::Peer(2);
    const WITNESS: Source = Source::Peer(3);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A node on which each source was last heard so many milliseconds after `start`.
    fn node(start: Instant, heard: &[(Source, u64)]) -> Isolation {
        let mut machine = Isolation::new(TIMEOUT);
        for (source, at) in heard {
            machine.heard(*source, start + ms(*at));
        }
        machine
    }

    #[test]
    fn the_table_of_isolation() {
        use Source::{Advertisements, Gateway};
        let start = Instant::now();
        let now = start + ms(60_000);
        // Last heard at 57.9 s means silent for 2.1 s.
        type Case = (&'static str, &'static [(Source, u64)], bool);
        let table: &[Case] = &[
            ("nobody was ever heard", &[], false),
            ("single node with a gateway", &[(Gateway, 57_900)], false),
            ("pair without a gateway", &[(B, 57_900)], false),
            ("pair, the gateway answers", &[(B, 57_900), (Gateway, 59_000)], false),
            ("pair, both silent", &[(B, 57_900), (Gateway, 57_500)], true),
            ("trio, both silent", &[(B, 57_900), (WITNESS, 57_950)], true),
            ("trio, the witness is heard", &[(B, 57_900), (WITNESS, 59_990)], false),
            ("trio, silent but not for long enough", &[(B, 58_100), (WITNESS, 58_100)], false),
            ("trio, b gone before, now the witness", &[(B, 30_000), (WITNESS, 57_900)], false),
            (
                "trio, b gone before, now witness and gateway",
                &[(B, 30_000), (WITNESS, 57_900), (Gateway, 57_500)],
                true,
            ),
            (
                "adverts are heard",
                &[(B, 57_900), (WITNESS, 57_900), (Advertisements, 59_900)],
                false,
            ),
            ("adverts are no second source", &[(B, 57_900), (Advertisements, 57_900)], false),
        ];
        for (name, heard, isolated) in table {
            let mut machine = node(start, heard);
            assert_eq!(machine.look(now, true).is_some(), *isolated, "{name}");
            assert_eq!(machine.is_isolated(), *isolated, "{name}");
            assert_eq!(node(start, heard).look(now, false), None, "{name}, not Active");
        }
    }

    #[test]
    fn it_is_told_once_and_with_whom() {
        let start = Instant::now();
        let mut machine = node(start, &[(B, 0), (WITNESS, 40)]);
        assert_eq!(machine.look(start + ms(2039), true), None);
        let change = machine.look(start + ms(2040), true);
        assert_eq!(change, Some(Change::Isolated(vec![B, WITNESS])));
        assert_eq!(machine.look(start + ms(2100), true), None);
        assert_eq!(machine.look(start + ms(9000), false), None);
        assert!(machine.is_isolated(), "also after it let go of the address");
    }

    #[test]
    fn it_is_back_only_after_hearing_somebody_for_a_quiet_time() {
        let start = Instant::now();
        let mut machine = node(start, &[(B, 0), (WITNESS, 0)]);
        assert!(machine.look(start + ms(2000), true).is_some());
        // A sign of life, then silence again: no return.
        machine.heard(B, start + ms(10_000));
        assert_eq!(machine.look(start + ms(10_000), false), None);
        assert_eq!(machine.look(start + ms(11_500), false), None);
        machine.heard(B, start + ms(11_900));
        assert_eq!(machine.look(start + ms(12_100), false), None, "the wait began anew");
        for at in (12_200..14_100).step_by(100) {
            machine.heard(B, start + ms(at));
            assert_eq!(machine.look(start + ms(at), false), None, "{at}");
        }
        machine.heard(B, start + ms(14_100));
        assert_eq!(machine.look(start + ms(14_100), false), Some(Change::Back));
        assert!(!machine.is_isolated());
    }

    proptest! {
        /// Whatever is heard in whatever order: as long as somebody was heard within the timeout,
        /// the node is not isolated; and between two isolations lies a quiet time.
        #[test]
        fn it_never_steps_down_while_it_hears_anybody(
            events in proptest::collection::vec((0_u64..4, 1_u64..900), 1..200)
        ) {
            let mut now = Instant::now();
            let mut machine = Isolation::new(TIMEOUT);
            let (mut last, mut isolated_at) = (None, None::<Instant>);
            for (who, pause) in events {
                now += ms(pause);
                if who > 0 {
                    machine.heard(Source::Peer(who), now);
                    last = Some(now);
                }
                match machine.look(now, true) {
                    Some(Change::Isolated(_)) => {
                        prop_assert!(last.is_some_and(|at| now - at >= TIMEOUT));
                        isolated_at = Some(now);
                    }
                    Some(Change::Back) => {
                        prop_assert!(isolated_at.is_some_and(|at| now - at >= TIMEOUT));
                        prop_assert!(last.is_some_and(|at| now - at < TIMEOUT));
                    }
                    None => {}
                }
            }
        }
    }
}
