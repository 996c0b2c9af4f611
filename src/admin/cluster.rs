//! How the cluster stands and what an operator can order of a pair: `/cluster`, `trigon cluster`.

use std::fmt;

use cluster::pair::{Healed, PairStatus, Refusal as Rule, Sync};
use cluster::{ClusterStatus, RaftState};
use serde::{Deserialize, Serialize};

use super::table::span;

/// What kind of cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One node alone.
    Single,
    /// Two load balancers without a witness.
    Pair,
    /// Any other: changes need a majority.
    Quorum,
}

/// The answer to `GET /cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The node that was asked.
    pub node: u64,
    /// What kind of cluster it is.
    pub mode: Mode,
    /// Counts how often one node went on alone.
    pub generation: u64,
    /// Tells two generations of one number apart.
    pub lineage: String,
    /// The part this node plays in raft.
    pub state: RaftState,
    /// Who leads, as far as known.
    pub leader: Option<u64>,
    /// Whether a change made here now should be confirmed.
    pub quorum: bool,
    /// Members with a vote.
    pub voters: Vec<u64>,
    /// Members without one.
    pub learners: Vec<u64>,
    /// How the pair stands; none: it is none.
    pub pair: Option<PairStatus>,
}

impl From<ClusterStatus> for Cluster {
    fn from(status: ClusterStatus) -> Self {
        let members = status.voters.len() + status.learners.len();
        Self {
            node: status.node_id,
            mode: match (&status.pair, members) {
                (Some(_), _) => Mode::Pair,
                (None, 0 | 1) => Mode::Single,
                (None, _) => Mode::Quorum,
            },
            generation: status.group.generation,
            lineage: status.group.lineage.to_string(),
            state: status.state,
            leader: status.leader,
            quorum: status.quorum,
            voters: status.voters.iter().map(|member| member.id).collect(),
            learners: status.learners.iter().map(|member| member.id).collect(),
            pair: status.pair,
        }
    }
}

/// An order to go on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Whatever the rules say.
    pub force: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The generation that was opened.
    pub generation: u64,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Single => "one node",
            Mode::Pair => "pair",
            Mode::Quorum => "quorum",
        };
        let quorum = if self.quorum { "changes are taken" } else { "NO CHANGES ARE TAKEN" };
        let Self { node, generation, lineage, .. } = self;
        writeln!(f, "mode        {mode}, generation {generation} ({lineage}), {quorum}")?;
        let list = |ids: &[u64]| {
            let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
            if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
        };
        let leader = self.leader.map_or("none".to_owned(), |id| format!("node {id}"));
        let (voters, learners) = (list(&self.voters), list(&self.learners));
        writeln!(f, "members     voters {voters}; learners {learners}; leader {leader}")?;
        let Some(pair) = &self.pair else { return Ok(()) };
        let part = if pair.votes { "the voter" } else { "the learner" };
        writeln!(f, "this node   node {node}, {part}, {}", pair.standing)?;
        match pair.peer_silent_s {
            Some(silent) => {
                writeln!(f, "other node  node {}, heard {} ago", pair.peer, span(silent))?
            }
            None => {
                writeln!(f, "other node  node {}, not heard since this one started", pair.peer)?
            }
        }
        match pair.sync {
            Sync::Sync => writeln!(f, "copies      sync: what is acknowledged is on both nodes")?,
            Sync::Async { behind } => {
                writeln!(f, "copies      ASYNC: {behind} entries or more are on the voter only")?
            }
        }
        if let Some(came) = &pair.healed {
            writeln!(f, "history     {}", healed(came))?;
        }
        if let Some(silence) = pair.silence {
            writeln!(f, "silent      {silence}")?;
        }
        for refusal in &pair.waits_for {
            let rule =
                Rule::rule(refusal).map_or("policy".to_owned(), |rule| format!("rule {rule}"));
            writeln!(f, "promotion   {rule}: {refusal}")?;
        }
        Ok(())
    }
}

/// A pair in the lines of the status.
pub(super) fn pair_lines(pair: &PairStatus, generation: u64, lag: Option<u64>) -> Vec<String> {
    let PairStatus { standing, peer, .. } = pair;
    let part = if pair.votes { "voter" } else { "learner" };
    let heard = match pair.peer_silent_s {
        Some(silent) => format!("heard {} ago", span(silent)),
        None => "not heard yet".to_owned(),
    };
    let copies = match pair.sync {
        Sync::Sync => "sync".to_owned(),
        Sync::Async { behind } => format!("ASYNC, {behind} entries or more are on one node only"),
    };
    let lag = match lag.filter(|lag| *lag > 0) {
        Some(lag) => format!(", the learner lacks {lag} entries"),
        None => String::new(),
    };
    let mut lines = vec![format!(
        "{standing}, {part}, generation {generation}, node {peer} {heard}, {copies}{lag}"
    )];
    lines.extend(pair.healed.as_ref().map(healed));
    lines
}

/// How this node came back last, and what was set aside.
fn healed(healed: &Healed) -> String {
    let seconds = cluster::clock::now().saturating_sub(healed.at) / 1000;
    let ago = span(seconds);
    let left = healed.left.generation;
    let kept = healed.kept_in();
    let kept = kept.display();
    if !healed.is_fork() {
        return format!("came back from generation {left} {ago} ago, with nothing to bring over");
    }
    let report = &healed.report;
    let overruled = report.overruled.iter().map(|id| format!("ExApp {id}"));
    let lost: Vec<_> = overruled.chain(report.void()).collect();
    let lost = match lost.as_slice() {
        [] => "nothing is lost".to_owned(),
        lost => format!("SET ASIDE: {}", lost.join(", ")),
    };
    format!(
        "FORKED: came back from generation {left} {ago} ago, {} changes brought over, {lost} \
         (kept in {kept})",
        report.given
    )
}

#[cfg(test)]
mod tests {
    use cluster::pair::{MergeReport, Refusal, Standing};

    use super::*;

    #[test]
    fn a_pair_tells_what_a_promotion_waits_for_by_rule() {
        let shown = Cluster {
            node: 2,
            mode: Mode::Pair,
            generation: 1,
            lineage: "ab".repeat(16),
            state: RaftState::Learner,
            leader: Some(1),
            quorum: false,
            voters: vec![1],
            learners: vec![2],
            pair: Some(PairStatus {
                standing: Standing::Degraded,
                peer: 1,
                peer_silent_s: Some(4),
                votes: false,
                sync: Sync::Async { behind: 3 },
                silence: None,
                waits_for: vec![Refusal::NotActive, Refusal::Manual],
                healed: None,
            }),
        };
        let text = shown.to_string();
        for part in ["NO CHANGES", "degraded", "heard 4s ago", "3 entries", "rule 2: ", "policy: "]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<Cluster>(&json).unwrap(), shown);
    }

    #[test]
    fn a_pair_tells_its_condition_and_what_a_fork_has_cost() {
        let pair = PairStatus {
            standing: Standing::Normal,
            peer: 1,
            peer_silent_s: Some(0),
            votes: true,
            sync: Sync::Sync,
            silence: None,
            waits_for: Vec::new(),
            healed: None,
        };
        let lines = pair_lines(&pair, 2, Some(0));
        assert_eq!(lines, ["normal, voter, generation 2, node 1 heard 0s ago, sync"]);
        assert!(pair_lines(&pair, 2, Some(7))[0].ends_with("the learner lacks 7 entries"));
        let left = cluster::Handle::in_memory(1).status().group;
        let came =
            |report| PairStatus { healed: Some(Healed { at: 0, left, report }), ..pair.clone() };
        let table = [
            (MergeReport::default(), "with nothing to bring over"),
            (MergeReport { given: 3, ..MergeReport::default() }, "3 changes brought over, nothing"),
            (
                MergeReport {
                    overruled: vec!["app".into()],
                    void_members: vec!["w".into()],
                    ..MergeReport::default()
                },
                "SET ASIDE: ExApp app, member w (kept in raft/1-",
            ),
        ];
        for (report, part) in table {
            let line = pair_lines(&came(report), 2, None).remove(1);
            assert!(line.contains(part), "{line}");
            assert_eq!(line.starts_with("FORKED"), !part.starts_with("with nothing"), "{line}");
        }
    }
}
