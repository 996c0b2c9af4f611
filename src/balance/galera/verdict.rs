//! What a node is good for, and why not for more. Sans-io.

use std::fmt;

use super::reading::{Reading, State};
use crate::balance::roster::{Admin, Condition};

/// How good a node is for a kind of session, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// As it should be.
    Yes,
    /// Whoever is there stays; others come only where there is nothing better.
    Grudging(Reason),
    /// Only if there is nothing better at all.
    Last(Reason),
    /// Nobody new; whoever is there may finish.
    Ending(Reason),
    /// Not, and whoever is there has to leave.
    No(Reason),
}

/// Why a node is not quite fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nobody has heard of it yet.
    Unheard,
    /// No connection.
    Unreachable,
    /// Connected, and does not answer.
    Silent,
    /// It does not let the monitor in, or is no Galera node.
    Stranger,
    /// Cut off from most of the cluster, by its own word.
    NotPrimary,
    /// Takes no queries, by its own word.
    NotReady,
    /// An admin made it refuse queries.
    Rejecting,
    /// Does not have the whole state yet.
    Joining,
    /// The others have gone on without it, and it does not know yet.
    LeftBehind,
    /// It belongs to another cluster than the others.
    OtherCluster,
    /// It takes no writes.
    ReadOnly,
    /// It gives its state to another node.
    Donor,
    /// An admin lets it fall behind.
    Desynced,
    /// It has much to apply.
    Queue,
    /// An admin lets its sessions end.
    Drained,
    /// An admin has taken it out.
    Maintained,
}

/// What a node is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the one node that writes.
    pub writes: Fit,
    /// For reading.
    pub reads: Fit,
    /// New sessions wait: another node has told of a newer view, and this one was asked before.
    pub hold: bool,
}

/// How long a locked donor may stay the writer although another node could write. An incremental
/// transfer takes less than a second and locks nothing; a whole one of `rsync` locks all along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// There is time.
    Left,
    /// Not any more.
    Spent,
}

impl Fit {
    /// Whether new sessions may come at all.
    pub fn is_usable(self) -> bool {
        !matches!(self, Self::Ending(_) | Self::No(_))
    }

    /// Whether whoever is there may stay.
    pub fn keeps_sessions(self) -> bool {
        !matches!(self, Self::No(_))
    }

    /// Why it is not as it should be.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Yes => None,
            Self::Grudging(reason)
            | Self::Last(reason)
            | Self::Ending(reason)
            | Self::No(reason) => Some(reason),
        }
    }
}

impl Verdict {
    /// Good for nothing.
    pub fn unfit(reason: Reason) -> Self {
        Self { writes: Fit::No(reason), reads: Fit::No(reason), hold: false }
    }

    /// What is left of it under an admin's order. Whoever is at a node that can serve nobody has
    /// to leave whatever the order.
    pub fn under(self, order: Admin) -> Self {
        let ending =
            |fit: Fit| if fit.keeps_sessions() { Fit::Ending(Reason::Drained) } else { fit };
        match order {
            Admin::Ready => self,
            Admin::Drain => Self { writes: ending(self.writes), reads: ending(self.reads), ..self },
            Admin::Maint => Self::unfit(Reason::Maintained),
        }
    }

    /// How the node is, for people.
    pub fn condition(&self) -> Condition {
        match self.reads {
            Fit::No(Reason::Unheard) => Condition::Checking,
            Fit::No(_) => Condition::Down,
            _ => Condition::Up,
        }
    }
}

impl Reason {
    /// Whether the database itself said so, rather than this load balancer's own view of the
    /// network, which may be at fault itself.
    pub fn is_first_hand(self) -> bool {
        !matches!(self, Self::Unheard | Self::Unreachable | Self::Silent | Self::Stranger)
            && !self.is_order()
    }

    /// Whether an admin of this load balancer wanted it so. The others do not know.
    pub fn is_order(self) -> bool {
        matches!(self, Self::Drained | Self::Maintained)
    }

    /// One word, for metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unheard => "unheard",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Stranger => "stranger",
            Self::NotPrimary => "not_primary",
            Self::NotReady => "not_ready",
            Self::Rejecting => "rejecting",
            Self::Joining => "joining",
            Self::LeftBehind => "left_behind",
            Self::OtherCluster => "other_cluster",
            Self::ReadOnly => "read_only",
            Self::Donor => "donor",
            Self::Desynced => "desynced",
            Self::Queue => "queue",
            Self::Drained => "drained",
            Self::Maintained => "maintained",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unheard => "not asked yet",
            Self::Unreachable => "cannot be reached",
            Self::Silent => "does not answer",
            Self::Stranger => "does not let the monitor in",
            Self::NotPrimary => "cut off from most of the cluster",
            Self::NotReady => "takes no queries",
            Self::Rejecting => "rejects queries (wsrep_reject_queries)",
            Self::Joining => "does not have the whole state yet",
            Self::LeftBehind => "the others have gone on without it",
            Self::OtherCluster => "belongs to another cluster",
            Self::ReadOnly => "read only",
            Self::Donor => "gives its state to another node",
            Self::Desynced => "desynced (wsrep_desync)",
            Self::Queue => "far behind in applying changes",
            Self::Drained => "drained by an admin",
            Self::Maintained => "in maintenance by an admin",
        })
    }
}

/// A node by its own word alone. `most_queued` is how many changes a good reader may have to
/// apply.
pub(super) fn alone(said: &Reading, most_queued: u32, patience: Patience) -> Verdict {
    if !said.primary {
        return Verdict::unfit(Reason::NotPrimary);
    }
    if !said.ready {
        return Verdict::unfit(Reason::NotReady);
    }
    // Its status shows nothing of it, yet every query is refused.
    if said.rejects {
        return Verdict::unfit(Reason::Rejecting);
    }
    let (writes, reads) = match said.state {
        State::Joining | State::Joined => return Verdict::unfit(Reason::Joining),
        State::Donor if said.desynced => {
            (Fit::Grudging(Reason::Desynced), Fit::Last(Reason::Desynced))
        }
        State::Donor if said.sst_locks && patience == Patience::Spent => {
            (Fit::Last(Reason::Donor), Fit::Last(Reason::Donor))
        }
        State::Donor => (Fit::Grudging(Reason::Donor), Fit::Grudging(Reason::Donor)),
        State::Synced if said.desynced => {
            (Fit::Grudging(Reason::Desynced), Fit::Last(Reason::Desynced))
        }
        State::Synced if said.queue > most_queued => {
            (Fit::Grudging(Reason::Queue), Fit::Last(Reason::Queue))
        }
        State::Synced => (Fit::Yes, Fit::Yes),
    };
    let writes = if said.read_only { Fit::No(Reason::ReadOnly) } else { writes };
    Verdict { writes, reads, hold: false }
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::synced;
    use super::*;

    #[test]
    fn each_word_of_a_node_has_its_worth() {
        use Fit::{Grudging, Last, No, Yes};
        use Reason::{Desynced, Donor, Joining, NotPrimary, NotReady, Queue, ReadOnly, Rejecting};
        let good = synced(7);
        let donor = Reading { state: State::Donor, ..good.clone() };
        let locked = Reading { sst_locks: true, ..donor.clone() };
        let left = Patience::Left;
        for (name, said, patience, writes, reads) in [
            ("synced", good.clone(), left, Yes, Yes),
            (
                "not primary",
                Reading { primary: false, ..good.clone() },
                left,
                No(NotPrimary),
                No(NotPrimary),
            ),
            (
                "not ready",
                Reading { ready: false, ..good.clone() },
                left,
                No(NotReady),
                No(NotReady),
            ),
            (
                "rejects",
                Reading { rejects: true, ..good.clone() },
                left,
                No(Rejecting),
                No(Rejecting),
            ),
            (
                "joined",
                Reading { state: State::Joined, ..good.clone() },
                left,
                No(Joining),
                No(Joining),
            ),
            ("donor", donor.clone(), Patience::Spent, Grudging(Donor), Grudging(Donor)),
            ("locked donor", locked.clone(), left, Grudging(Donor), Grudging(Donor)),
            ("locked for long", locked, Patience::Spent, Last(Donor), Last(Donor)),
            (
                "desynced",
                Reading { desynced: true, ..donor },
                left,
                Grudging(Desynced),
                Last(Desynced),
            ),
            ("queue", Reading { queue: 101, ..good.clone() }, left, Grudging(Queue), Last(Queue)),
            ("short queue", Reading { queue: 100, ..good.clone() }, left, Yes, Yes),
            ("read only", Reading { read_only: true, ..good }, left, No(ReadOnly), Yes),
        ] {
            let verdict = alone(&said, 100, patience);
            assert_eq!((verdict.writes, verdict.reads), (writes, reads), "{name}");
        }
    }

    #[test]
    fn an_order_closes_a_node_and_never_makes_a_bad_one_better() {
        use Fit::{Ending, No, Yes};
        use Reason::{Drained, Maintained, NotPrimary, ReadOnly, Unheard};
        let good = Verdict { writes: Yes, reads: Yes, hold: false };
        let reads_only = Verdict { writes: No(ReadOnly), ..good };
        let bad = Verdict::unfit(NotPrimary);
        for (name, alone, order, writes, reads) in [
            ("ready", good, Admin::Ready, Yes, Yes),
            ("drained", good, Admin::Drain, Ending(Drained), Ending(Drained)),
            ("drained reader", reads_only, Admin::Drain, No(ReadOnly), Ending(Drained)),
            ("drained and cut off", bad, Admin::Drain, No(NotPrimary), No(NotPrimary)),
            ("in maintenance", good, Admin::Maint, No(Maintained), No(Maintained)),
        ] {
            let verdict = alone.under(order);
            assert_eq!((verdict.writes, verdict.reads), (writes, reads), "{name}");
            assert!(order == Admin::Ready || !verdict.takes_writes(), "{name}");
            assert!(order == Admin::Ready || !verdict.takes_reads(), "{name}");
        }
        let shown = [Verdict::unfit(Unheard), bad, good].map(|verdict| verdict.condition());
        assert_eq!(shown, [Condition::Checking, Condition::Down, Condition::Up]);
    }
}
