//! Which node writes: one for all load balancers, kept as long as it is any good. Sans-io.
//!
//! The choice is agreed in the cluster. When that cannot be done because there is no quorum, a
//! writer that is of no use is replaced by a stand-in, chosen by a rule that gives every load
//! balancer the same one where they see the same. Two writers at a time are no danger to the
//! data, Galera refuses one of two changes that meet; they cost clients a deadlock error.

use super::verdict::{Fit, Reason, Verdict};

/// What the load balancers have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Counts the agreements.
    pub epoch: u64,
    /// The node; none if the name means nothing here.
    pub node: Option<usize>,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Stay,
    /// This one is to be agreed on.
    Propose {
        /// The number of that agreement.
        epoch: u64,
        /// The node.
        node: usize,
        /// Why the one before has to go; none if there is none, or a stand-in is made regular.
        because: Option<Reason>,
    },
}

/// The one who decides, on each load balancer.
#[derive(Debug, Default)]
pub struct Helm {
    /// Writes in place of the agreement of this number.
    stand_in: Option<(u64, usize)>,
}

impl Helm {
    /// The node that writes now.
    pub fn writer(&self, agreed: Option<Agreed>) -> Option<usize> {
        let epoch = agreed.map_or(0, |agreed| agreed.epoch);
        let stand_in = self.stand_in.filter(|(since, _)| *since == epoch);
        stand_in.map(|(_, node)| node).or(agreed.and_then(|agreed| agreed.node))
    }

    /// Whether it is a stand-in.
    pub fn is_stand_in(&self, agreed: Option<Agreed>) -> bool {
        self.writer(agreed) != agreed.and_then(|agreed| agreed.node)
    }

    /// What is to be done. `verdicts` stand in the order of priority. `is_wanted`: clients ask
    /// this load balancer for a writer. One that nobody asks may be the only one that does not
    /// reach the database, so it leaves the writer alone unless the database itself tells it to;
    /// so it does when an admin drains the writer here, as the sessions are elsewhere.
    pub fn steer(&self, agreed: Option<Agreed>, verdicts: &[Verdict], is_wanted: bool) -> Order {
        let fit = |node: usize| verdicts.get(node).map_or(Fit::No(Reason::Unheard), |v| v.writes);
        // The first of the best: the order of the nodes decides among equals.
        let Some(best) = (0..verdicts.len()).min_by_key(|node| rank(fit(*node))) else {
            return Order::Stay;
        };
        if !fit(best).is_usable() {
            return Order::Stay;
        }
        let epoch = agreed.map_or(0, |agreed| agreed.epoch).saturating_add(1);
        let Some(now) = self.writer(agreed) else {
            return Order::Propose { epoch, node: best, because: None };
        };
        match fit(now) {
            Fit::Yes | Fit::Grudging(_) if self.is_stand_in(agreed) => {
                Order::Propose { epoch, node: now, because: None }
            }
            Fit::Yes | Fit::Grudging(_) => Order::Stay,
            Fit::Last(reason) if rank(fit(best)) < rank(fit(now)) => {
                Order::Propose { epoch, node: best, because: Some(reason) }
            }
            Fit::Last(_) => Order::Stay,
            Fit::Ending(reason) | Fit::No(reason) if is_wanted || reason.is_first_hand() => {
                Order::Propose { epoch, node: best, because: Some(reason) }
            }
            Fit::Ending(_) | Fit::No(_) => Order::Stay,
        }
    }

    /// The proposal of `node` was not confirmed: it writes here until there is an agreement.
    pub fn stand_in(&mut self, agreed: Option<Agreed>, node: usize) {
        self.stand_in = Some((agreed.map_or(0, |agreed| agreed.epoch), node));
    }
}

fn rank(fit: Fit) -> u8 {
    match fit {
        Fit::Yes => 0,
        Fit::Grudging(_) => 1,
        Fit::Last(_) => 2,
        Fit::Ending(_) | Fit::No(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fit::{Ending, Grudging, Last, No, Yes};
    use Reason::{Donor, Drained, Maintained, NotPrimary, Unreachable};

    fn verdicts(fits: &[Fit]) -> Vec<Verdict> {
        fits.iter().map(|&writes| Verdict { writes, reads: writes, hold: false }).collect()
    }

    #[test]
    fn the_writer_stays_while_it_is_any_good_and_the_first_of_the_best_comes_next() {
        let stay = Order::Stay;
        let propose = |epoch, node, because| Order::Propose { epoch, node, because };
        let agreed = |epoch, node| Some(Agreed { epoch, node: Some(node) });
        let unknown = Some(Agreed { epoch: 4, node: None });
        for (name, agreed, fits, is_wanted, expect) in [
            ("no nodes", None, &[][..], true, stay),
            ("the first one ever", None, &[Yes, Yes, Yes], false, propose(1, 0, None)),
            ("none is any good", None, &[No(NotPrimary), No(Unreachable)], true, stay),
            ("a name nobody knows", unknown, &[Grudging(Donor), Yes], false, propose(5, 1, None)),
            ("no way back", agreed(2, 1), &[Yes, Yes], true, stay),
            ("a donor stays", agreed(2, 1), &[Yes, Grudging(Donor)], true, stay),
            (
                "a locked donor",
                agreed(2, 1),
                &[Yes, Last(Donor)],
                false,
                propose(3, 0, Some(Donor)),
            ),
            ("the last one left", agreed(2, 1), &[No(Unreachable), Last(Donor)], true, stay),
            ("dead", agreed(2, 1), &[Yes, No(Unreachable)], true, propose(3, 0, Some(Unreachable))),
            ("dead for one nobody asks", agreed(2, 1), &[Yes, No(Unreachable)], false, stay),
            ("drained", agreed(2, 0), &[Ending(Drained), Yes], true, propose(3, 1, Some(Drained))),
            ("drained where nobody asks", agreed(2, 0), &[Ending(Drained), Yes], false, stay),
            ("all drained", agreed(2, 0), &[Ending(Drained), No(Maintained)], true, stay),
            (
                "cut off, by its own word",
                agreed(2, 0),
                &[No(NotPrimary), Yes],
                false,
                propose(3, 1, Some(NotPrimary)),
            ),
            (
                "a donor rather than none",
                agreed(2, 0),
                &[No(NotPrimary), Last(Donor), Grudging(Donor)],
                true,
                propose(3, 2, Some(NotPrimary)),
            ),
        ] {
            let order = Helm::default().steer(agreed, &verdicts(fits), is_wanted);
            assert_eq!(order, expect, "{name}");
        }
    }

    #[test]
    fn without_quorum_a_stand_in_writes_until_there_is_an_agreement() {
        let agreed = Some(Agreed { epoch: 2, node: Some(0) });
        let mut helm = Helm::default();
        assert_eq!(helm.writer(agreed), Some(0));
        helm.stand_in(agreed, 1);
        assert_eq!((helm.writer(agreed), helm.is_stand_in(agreed)), (Some(1), true));
        // The one agreed on is back, and the stand-in stays: sessions are there.
        let again = helm.steer(agreed, &verdicts(&[Yes, Yes]), true);
        assert_eq!(again, Order::Propose { epoch: 3, node: 1, because: None });
        let next = Some(Agreed { epoch: 3, node: Some(2) });
        assert_eq!((helm.writer(next), helm.is_stand_in(next)), (Some(2), false));
        let mut early = Helm::default();
        early.stand_in(None, 1);
        assert_eq!(early.writer(None), Some(1));
    }
}
