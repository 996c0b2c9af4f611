//! What every node said last, and what it is good for because of that. Sans-io.

use std::time::{Duration, Instant};

use super::reading::{Reading, State};
use super::timers;
use super::verdict::{Fit, Patience, Reason, Verdict, alone};
use super::vote::{Standing, Voter, vote};
use crate::balance::roster::Admin;

/// Questions without an answer after which a node is silent.
const SILENT: u32 = 2;

/// How long all nodes may be silent at once before none is trusted any more: longer than they
/// need to evict one of them (six seconds with default timers).
const ALL_STALL: Duration = Duration::from_secs(10);

/// How long a locked donor may stay the writer.
const LOCKED: Duration = Duration::from_secs(2);

/// How long the first answers are waited for, so that not the fastest node becomes the writer.
const FIRST_WORDS: Duration = Duration::from_secs(2);

/// What came of asking a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has answered.
    Said(Box<Reading>),
    /// The connection stands and no answer came in time.
    Silent,
    /// There is no connection.
    Gone(String),
    /// It does not let the monitor in, or is no Galera node.
    Refused(String),
}

/// The memory of one load balancer.
#[derive(Debug)]
pub struct Board {
    nodes: Vec<Node>,
    most_queued: u32,
    started: Instant,
}

#[derive(Debug, Default)]
struct Node {
    said: Option<Said>,
    trouble: Option<Trouble>,
    order: Admin,
}

#[derive(Debug)]
struct Said {
    reading: Reading,
    asked: Instant,
    view_since: Instant,
    locked_since: Option<Instant>,
}

#[derive(Debug)]
enum Trouble {
    Silent { since: Instant, times: u32 },
    Gone(String),
    Refused(String),
}

impl Board {
    /// For so many nodes, in the order of their priority. `most_queued`: how many changes a good
    /// reader may have to apply.
    pub fn new(nodes: usize, most_queued: u32, now: Instant) -> Self {
        let nodes = std::iter::repeat_with(Node::default).take(nodes).collect();
        Self { nodes, most_queued, started: now }
    }

    /// What came of the question sent to `node` at `asked`. Words of a node that is not on the
    /// board are ignored.
    pub fn hear(&mut self, node: usize, asked: Instant, now: Instant, word: Word) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.trouble = match word {
            Word::Said(reading) => {
                let before = node.said.take();
                let same_view = before.as_ref().filter(|said| said.reading.view == reading.view);
                let locks = reading.state == State::Donor && reading.sst_locks;
                let locked_since = before.as_ref().and_then(|said| said.locked_since);
                node.said = Some(Said {
                    view_since: same_view.map_or(now, |said| said.view_since),
                    locked_since: locks.then(|| locked_since.unwrap_or(now)),
                    reading: *reading,
                    asked,
                });
                None
            }
            Word::Silent => Some(match node.trouble {
                Some(Trouble::Silent { since, times }) => {
                    Trouble::Silent { since, times: times + 1 }
                }
                _ => Trouble::Silent { since: asked, times: 1 },
            }),
            Word::Gone(why) => Some(Trouble::Gone(why)),
            Word::Refused(why) => Some(Trouble::Refused(why)),
        };
    }

    /// What an admin wants of a node.
    pub fn order(&mut self, node: usize, order: Admin) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.order = order;
        }
    }

    /// Whether enough is known to choose a writer: every node was heard of, or there was time.
    pub fn is_settled(&self, now: Instant) -> bool {
        let is_heard = |node: &Node| node.said.is_some() || node.trouble.is_some();
        self.nodes.iter().all(is_heard) || now.duration_since(self.started) >= FIRST_WORDS
    }

    /// What each node is good for here, with the admin's orders.
    pub fn verdicts(&self, now: Instant) -> Vec<Verdict> {
        let orders = self.nodes.iter().map(|node| node.order);
        self.health(now).into_iter().zip(orders).map(|(alone, order)| alone.under(order)).collect()
    }

    /// What each node is good for, whatever an admin wants of it.
    pub fn health(&self, now: Instant) -> Vec<Verdict> {
        let somebody_answers = self.nodes.iter().any(Node::answers);
        let mut verdicts: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.verdict(self.most_queued, somebody_answers, now))
            .collect();
        let voters =
            || self.nodes.iter().enumerate().filter_map(|(i, node)| Some((i, node.voter()?)));
        let votes: Vec<_> = voters().map(|(_, voter)| voter).collect();
        for ((index, _), standing) in voters().zip(vote(&votes)) {
            let verdict = &mut verdicts[index];
            match standing {
                Standing::Within => {}
                Standing::Unsettled => verdict.hold = true,
                Standing::LeftBehind => *verdict = Verdict::unfit(Reason::LeftBehind),
                Standing::OtherCluster => *verdict = Verdict::unfit(Reason::OtherCluster),
            }
        }
        verdicts
    }

    /// What a node said last, while it answers.
    pub fn reading(&self, node: usize) -> Option<&Reading> {
        let node = self.nodes.get(node)?;
        node.said.as_ref().filter(|_| node.trouble.is_none()).map(|said| &said.reading)
    }

    /// What is wrong with the way to a node, in the words of whoever noticed.
    pub fn trouble(&self, node: usize) -> Option<&str> {
        match self.nodes.get(node)?.trouble.as_ref()? {
            Trouble::Silent { .. } => None,
            Trouble::Gone(why) | Trouble::Refused(why) => Some(why),
        }
    }

    /// Timers of the replication that are not alike on all nodes, though they must be.
    pub fn mismatches(&self) -> Vec<&'static str> {
        let said = self.nodes.iter().filter_map(|node| node.said.as_ref());
        timers::mismatches(said.map(|said| said.reading.provider_options.as_str()))
    }
}

impl Node {
    fn answers(&self) -> bool {
        self.said.is_some() && self.trouble.is_none()
    }

    fn verdict(&self, most_queued: u32, somebody_answers: bool, now: Instant) -> Verdict {
        match self.trouble {
            Some(Trouble::Gone(_)) => return Verdict::unfit(Reason::Unreachable),
            Some(Trouble::Refused(_)) => return Verdict::unfit(Reason::Stranger),
            // That this one does not answer says something about it only while others do.
            Some(Trouble::Silent { since, times })
                if (times >= SILENT && somebody_answers)
                    || now.duration_since(since) >= ALL_STALL =>
            {
                return Verdict::unfit(Reason::Silent);
            }
            Some(Trouble::Silent { .. }) | None => {}
        }
        let Some(said) = &self.said else { return Verdict::unfit(Reason::Unheard) };
        let spent = said.locked_since.is_some_and(|since| now.duration_since(since) >= LOCKED);
        let patience = if spent { Patience::Spent } else { Patience::Left };
        alone(&said.reading, most_queued, patience)
    }

    fn voter(&self) -> Option<Voter<'_>> {
        let said = self.said.as_ref().filter(|_| self.trouble.is_none())?;
        Some(Voter {
            cluster: &said.reading.cluster,
            view: said.reading.view?,
            asked: said.asked,
            since: said.view_since,
        })
    }
}

/// Whether sessions of one kind may begin where a node is so fit.
impl Verdict {
    /// Whether a new session that writes may go there.
    pub fn takes_writes(&self) -> bool {
        self.writes.is_usable() && !self.hold
    }

    /// Whether a new session that reads may go there.
    pub fn takes_reads(&self) -> bool {
        matches!(self.reads, Fit::Yes | Fit::Grudging(_)) && !self.hold
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::synced;
    use super::*;

    struct Story {
        board: Board,
        start: Instant,
    }

    impl Story {
        fn new() -> Self {
            let start = Instant::now();
            let mut story = Self { board: Board::new(3, 100, start), start };
            for node in 0..3 {
                story.says(node, 0, synced(5));
            }
            story
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn says(&mut self, node: usize, millis: u64, reading: Reading) {
            self.hears(node, millis, Word::Said(Box::new(reading)));
        }

        fn hears(&mut self, node: usize, millis: u64, word: Word) {
            let at = self.at(millis);
            self.board.hear(node, at, at, word);
        }

        /// Why each node may not write, if it may not; `"hold"` for one that has to be asked again.
        fn writes(&self, millis: u64) -> Vec<&'static str> {
            let verdicts = self.board.verdicts(self.at(millis));
            let word = |verdict: &Verdict| match verdict.writes.reason() {
                _ if verdict.hold => "hold",
                None => "yes",
                Some(reason) => reason.word(),
            };
            verdicts.iter().map(word).collect()
        }
    }

    #[test]
    fn nobody_is_chosen_before_all_have_spoken_or_had_the_time() {
        let start = Instant::now();
        let mut board = Board::new(2, 100, start);
        board.hear(1, start, start, Word::Said(Box::new(synced(5))));
        assert!(!board.is_settled(start + Duration::from_millis(1999)));
        assert!(board.is_settled(start + Duration::from_secs(2)));
        board.hear(0, start, start, Word::Gone("refused".into()));
        assert!(board.is_settled(start));
        assert_eq!(board.trouble(0), Some("refused"));
    }

    #[test]
    fn a_killed_node_is_unfit_at_once_and_the_survivors_stall_in_peace() {
        let mut story = Story::new();
        story.hears(0, 500, Word::Gone("reset".into()));
        story.hears(1, 1500, Word::Silent);
        assert_eq!(story.writes(1500), ["unreachable", "yes", "yes"]);
        // They answer in the midst of the stall, and their number is the old one until its end.
        story.says(1, 2000, synced(5));
        story.says(2, 2000, synced(5));
        assert_eq!(story.writes(2000), ["unreachable", "yes", "yes"]);
    }

    #[test]
    fn a_frozen_node_is_unfit_after_two_questions_and_not_fit_when_it_wakes() {
        let mut story = Story::new();
        story.hears(0, 1000, Word::Silent);
        assert_eq!(story.writes(1000), ["yes"; 3]);
        story.hears(0, 2000, Word::Silent);
        assert_eq!(story.writes(2000), ["silent", "yes", "yes"]);
        for node in [1, 2] {
            story.says(node, 6000, synced(6));
        }
        // It wakes and says what it said before it froze, for six seconds.
        for millis in [12_000, 15_000, 17_900] {
            story.says(0, millis, synced(5));
            assert_eq!(story.writes(millis), ["left_behind", "yes", "yes"]);
        }
        story.says(0, 18_000, Reading { primary: false, view: None, ..synced(5) });
        assert_eq!(story.writes(18_000), ["not_primary", "yes", "yes"]);
        story.says(0, 19_000, synced(7));
        for node in [1, 2] {
            story.says(node, 19_000, synced(7));
        }
        assert_eq!(story.writes(19_000), ["yes"; 3]);
    }

    #[test]
    fn when_none_answers_it_is_not_their_fault_for_ten_seconds() {
        let mut story = Story::new();
        for millis in (1000..11_000).step_by(1000) {
            for node in 0..3 {
                story.hears(node, millis, Word::Silent);
            }
            assert_eq!(story.writes(millis), ["yes"; 3], "{millis}");
        }
        assert_eq!(story.writes(11_000), ["silent"; 3]);
    }

    #[test]
    fn new_sessions_wait_while_a_newer_view_is_known_from_others() {
        let mut story = Story::new();
        story.says(1, 1000, synced(6));
        assert_eq!(story.writes(1000), ["hold", "yes", "hold"]);
        story.says(0, 1010, synced(6));
        story.says(2, 1020, synced(5));
        assert_eq!(story.writes(1020), ["yes", "yes", "hold"]);
        story.says(2, 1300, synced(5));
        assert_eq!(story.writes(1300), ["yes", "yes", "left_behind"]);
    }

    #[test]
    fn a_locked_donor_is_the_last_choice_after_two_seconds() {
        let mut story = Story::new();
        let donor = || Reading { state: State::Donor, sst_locks: true, ..synced(5) };
        story.says(0, 1000, donor());
        story.says(0, 2000, donor());
        let fit = |story: &Story, millis| story.board.verdicts(story.at(millis))[0].writes;
        assert_eq!(fit(&story, 2999), Fit::Grudging(Reason::Donor));
        assert_eq!(fit(&story, 3000), Fit::Last(Reason::Donor));
        story.says(0, 3500, synced(5));
        story.says(0, 4000, donor());
        assert_eq!(fit(&story, 4000), Fit::Grudging(Reason::Donor));
    }

    #[test]
    fn what_others_may_not_do_they_hear_of() {
        let mut story = Story::new();
        story.hears(0, 10, Word::Refused("access denied".into()));
        story.says(1, 10, Reading { cluster: "else".into(), ..synced(9) });
        story.hears(9, 10, Word::Silent);
        assert_eq!(story.writes(10), ["stranger", "yes", "other_cluster"]);
        let tuned = Reading { provider_options: "evs.suspect_timeout=PT2S".into(), ..synced(9) };
        story.says(1, 20, tuned);
        story.says(2, 20, Reading { provider_options: "a=b".into(), ..synced(5) });
        assert_eq!(story.board.mismatches(), ["evs.suspect_timeout"]);
    }
}
