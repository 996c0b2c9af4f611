//! Sans-io: what became of requests and transactions, and which failures the fault excuses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Fault;
use super::request::Failure;
use super::trace::Hole;

/// A success slower than this is "delayed".
const DELAYED: Duration = Duration::from_secs(1);

/// One request or transaction of a load.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) sent: Instant,
    pub(super) took: Duration,
    pub(super) failure: Option<Failure>,
}

/// How often each kind of failure happened, for the progress log.
pub(super) fn failures(records: &[Record]) -> BTreeMap<&Failure, usize> {
    let mut count = BTreeMap::new();
    for failure in records.iter().filter_map(|record| record.failure.as_ref()) {
        *count.entry(failure).or_default() += 1;
    }
    count
}

/// Which failed requests the fault excuses: those count as lost, the others as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// There was no fault.
    None,
    /// Those sent before this moment.
    Before(Instant),
    /// Service never came back.
    All,
}

impl Excuse {
    /// A fault excuses what was sent before the virtual IP answered again. A planned hand-over may
    /// leave no hole at all: then it excuses what was sent before the address had `moved`.
    pub(super) fn of(fault: Fault, moved: Instant, vip_hole: Option<Hole>) -> Self {
        match (fault, vip_hole) {
            (Fault::None, _) => Self::None,
            (_, None) => Self::Before(moved),
            (_, Some(hole)) => hole.until.map_or(Self::All, Self::Before),
        }
    }
}

/// Requests by what became of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Failed, and nothing excuses it.
    pub(super) failed: u64,
    /// Failed, and the fault excuses it.
    pub(super) lost: u64,
    /// Succeeded late.
    pub(super) delayed: u64,
}

impl Tally {
    /// Counts them.
    pub(super) fn of(records: &[Record], excuse: Excuse) -> Self {
        let mut tally = Self::default();
        for record in records {
            let excused = match excuse {
                Excuse::None => false,
                Excuse::Before(moment) => record.sent < moment,
                Excuse::All => true,
            };
            match (&record.failure, excused) {
                (Some(_), true) => tally.lost += 1,
                (Some(_), false) => tally.failed += 1,
                (None, _) if record.took > DELAYED => tally.delayed += 1,
                (None, _) => {}
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_by_when_its_request_was_sent() {
        let start = Instant::now();
        let record = |sent, took, failed: bool| Record {
            sent: start + Duration::from_millis(sent),
            took: Duration::from_millis(took),
            failure: failed.then_some(Failure::Timeout),
        };
        let records = [
            record(0, 5, false),
            record(10, 400, true),
            record(20, 1500, false),
            record(300, 5, true),
            record(310, 1000, false),
        ];
        let back = start + Duration::from_millis(250);
        let table = [
            (Excuse::Before(back), Tally { failed: 1, lost: 1, delayed: 1 }),
            (Excuse::None, Tally { failed: 2, lost: 0, delayed: 1 }),
            (Excuse::All, Tally { failed: 0, lost: 2, delayed: 1 }),
        ];
        for (excuse, tally) in table {
            assert_eq!(Tally::of(&records, excuse), tally, "{excuse:?}");
        }
    }

    #[test]
    fn a_fault_excuses_what_was_sent_before_it_or_into_its_hole() {
        let at = Instant::now();
        let back = at + Duration::from_millis(250);
        let closed = Hole { from: at, until: Some(back) };
        let open = Hole { from: at, until: None };
        let table = [
            (Fault::None, None, Excuse::None),
            (Fault::None, Some(closed), Excuse::None),
            (Fault::Drain, None, Excuse::Before(at)),
            (Fault::Drain, Some(closed), Excuse::Before(back)),
            (Fault::Kill, Some(closed), Excuse::Before(back)),
            (Fault::Kill, Some(open), Excuse::All),
        ];
        for (fault, hole, excuse) in table {
            assert_eq!(Excuse::of(fault, at, hole), excuse, "{fault} {hole:?}");
        }
    }
}
