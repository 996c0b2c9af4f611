//! What has to hold beyond "service came back" when the network or the witness breaks rather than
//! a node: the fault is left in place until its consequence was seen, then healed, and then watched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::console::Console;
use super::report::milliseconds;
use super::topology::{Lab, NodeIndex};
use super::{Error, Fault, faults};

/// Between two looks at who holds the address.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Looks per question to the nodes themselves.
const ASK_EVERY: u32 = 8;
/// How long a consequence may take; ten times what it should at the default intervals.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the healed network is watched for a flap.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// The alarm a Backup raises while it hears the Active on the control link only.
const CUT: &str = "vrrp_segment_cut";

/// Who held the address whenever somebody looked.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// Looks at which both did.
    pub(super) both: u32,
    /// Looks at which nobody did.
    pub(super) nobody: u32,
    /// Looks at which it was another node than expected.
    other: u32,
}

impl Sightings {
    /// Notes who holds it now.
    pub(super) fn note(&mut self, holders: &[NodeIndex], expected: NodeIndex) {
        match holders {
            [] => self.nobody += 1,
            [one] => self.other += u32::from(*one != expected),
            _ => self.both += 1,
        }
    }
}

/// What the trial found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Assertions by name, and whether they held.
    pub(super) checks: BTreeMap<&'static str, bool>,
    /// When the struck node was seen to have let go of the address, after the fault.
    pub(super) released_ms: Option<f64>,
}

/// Follows the fault to its end; heals the network on the way. `seen` is what was noted so far.
pub(super) async fn run(
    fault: Fault,
    lab: &Lab,
    (struck, at): (NodeIndex, Instant),
    seen: Sightings,
    console: &Console,
) -> Result<Findings, Error> {
    let trial = Trial { lab, struck, at, other: 1 - struck };
    match fault {
        Fault::SegmentCut => trial.segment_cut(seen, console).await,
        Fault::Isolate => trial.isolate(console).await,
        Fault::WitnessLoss => trial.witness_loss(seen, console).await,
        Fault::None | Fault::Kill | Fault::Crash | Fault::Drain => Ok(Findings::default()),
    }
}

struct Trial<'a> {
    lab: &'a Lab,
    struck: NodeIndex,
    other: NodeIndex,
    at: Instant,
}

impl Trial<'_> {
    async fn segment_cut(&self, mut seen: Sightings, console: &Console) -> Result<Findings, Error> {
        let raised = self.until(&mut seen, self.struck, async || self.has_alarm().await).await?;
        console.progress("the backup has raised its alarm; the network heals");
        faults::heal(Fault::SegmentCut, &self.lab.nodes)?;
        let clear = async || !self.has_alarm().await;
        let cleared = self.until(&mut seen, self.struck, clear).await?;
        self.watch(&mut seen, self.struck).await?;
        let settled = self.states(self.struck).await;
        let checks = BTreeMap::from([
            ("never_two_holders", seen.both == 0),
            ("never_without_holder", seen.nobody == 0),
            ("alarm_raised", raised),
            ("alarm_cleared", cleared),
            ("no_flap", seen.other == 0 && settled),
        ]);
        Ok(Findings { checks, released_ms: None })
    }

    async fn isolate(&self, console: &Console) -> Result<Findings, Error> {
        let mut meanwhile = Sightings::default();
        let holds = || self.lab.nodes[self.struck].holds(super::configs::VIP);
        let let_go = async || holds().is_ok_and(|holds| !holds);
        let released = self.until(&mut meanwhile, self.other, let_go).await?;
        let released_ms = released.then(|| milliseconds(self.at.elapsed()));
        if let Some(after) = released_ms {
            console.progress(&format!("the isolated node let go of the address after {after} ms"));
        }
        faults::heal(Fault::Isolate, &self.lab.nodes)?;
        let mut seen = Sightings::default();
        let back = async || self.states(self.other).await;
        let returned = self.until(&mut seen, self.other, back).await?;
        self.watch(&mut seen, self.other).await?;
        let settled = self.states(self.other).await;
        let one = seen.both == 0 && seen.nobody == 0 && seen.other == 0;
        let checks = BTreeMap::from([
            ("released_before_heal", released),
            ("returned_as_backup", returned),
            ("no_flap", one && settled),
        ]);
        Ok(Findings { checks, released_ms })
    }

    /// The nodes notice and go on: nothing moves, and changes can still be made.
    async fn witness_loss(
        &self,
        mut seen: Sightings,
        console: &Console,
    ) -> Result<Findings, Error> {
        let noticed = async || self.is_silent(super::configs::WITNESS.name).await;
        let noticed = self.until(&mut seen, self.struck, noticed).await?;
        console.progress("the nodes have noticed; watching whether anything moves");
        self.watch(&mut seen, self.struck).await?;
        let quorum = async || self.has_quorum().await;
        let quorum = self.until(&mut seen, self.struck, quorum).await?;
        let settled = self.states(self.struck).await;
        let stayed = seen.both == 0 && seen.nobody == 0 && seen.other == 0;
        let checks = BTreeMap::from([
            ("loss_noticed", noticed),
            ("no_flap", stayed && settled),
            ("quorum_kept", quorum),
        ]);
        Ok(Findings { checks, released_ms: None })
    }

    /// Whether the leader, which is one of the nodes, says that this member does not answer.
    async fn is_silent(&self, name: &str) -> bool {
        for node in &self.lab.nodes {
            let Some(status) = node.status().await else { continue };
            let mut members = status.cluster.members.0.iter();
            if members.any(|member| member.name == name && member.reachable == Some(false)) {
                return true;
            }
        }
        false
    }

    async fn has_quorum(&self) -> bool {
        for node in &self.lab.nodes {
            if !node.status().await.is_some_and(|status| status.cluster.quorum) {
                return false;
            }
        }
        true
    }

    /// Looks about until the condition holds or the limit has passed.
    async fn until(
        &self,
        seen: &mut Sightings,
        expected: NodeIndex,
        mut condition: impl AsyncFnMut() -> bool,
    ) -> Result<bool, Error> {
        let end = Instant::now() + LIMIT;
        let mut looks = 0;
        while Instant::now() < end {
            seen.note(&self.lab.holders()?, expected);
            if looks % ASK_EVERY == 0 && condition().await {
                return Ok(true);
            }
            looks += 1;
            sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    async fn watch(&self, seen: &mut Sightings, expected: NodeIndex) -> Result<(), Error> {
        let end = Instant::now() + AFTERWARDS;
        while Instant::now() < end {
            seen.note(&self.lab.holders()?, expected);
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn has_alarm(&self) -> bool {
        let status = self.lab.nodes[self.other].status().await;
        status.is_some_and(|status| status.alarms.iter().any(|alarm| alarm.name == CUT))
    }

    /// Whether that node is Active, the other one Backup, and both say so.
    async fn states(&self, active: NodeIndex) -> bool {
        for (node, expected) in [(active, "active"), (1 - active, "backup")] {
            let Some(status) = self.lab.nodes[node].status().await else { return false };
            if !status.vrrp.iter().all(|router| router.state == expected) {
                return false;
            }
        }
        true
    }
}
