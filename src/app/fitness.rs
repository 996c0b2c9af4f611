//! Carries the condition of this node to its virtual routers and, by the presence, to the other
//! nodes. What a condition counts is decided in [`failover::fitness`](crate::failover::fitness).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cluster::{ClusterStatus, Handle, RaftState};
use tokio_util::sync::CancellationToken;
use vrrp::State;

use super::status::Speaker;
use super::vantage::{self, Vantage};
use crate::failover::fitness::{Condition, Fitness, Others, reading};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// From so many voters on a node by itself has no quorum.
const QUORUM_OF: usize = 3;

/// Watches until `stop`.
pub(super) async fn watch(
    handle: Handle,
    speaker: Speaker,
    vantage: Arc<Vantage>,
    stop: CancellationToken,
) {
    let mut routers: BTreeMap<Arc<str>, Fitness> = BTreeMap::new();
    loop {
        let status = handle.status();
        let control = takes_part(&status);
        vantage.note_cluster(status.quorum, control);
        let condition = Condition {
            quorum: (status.voters.len() >= QUORUM_OF).then_some(status.quorum),
            control,
            nextcloud: vantage.condition().nextcloud,
        };
        let now = Instant::now();
        let others = Others::of(&vantage.presence().heard(), now);
        for router in vantage::states(&speaker) {
            let fitness = routers.entry(Arc::clone(&router.name)).or_default();
            let active = router.state == State::Active;
            for (rule, lowered) in fitness.look(now, condition, others, active) {
                tracing::info!(
                    router = &*router.name,
                    rule = rule.name(),
                    weight = rule.weight(),
                    lowered,
                    "the condition of this node changes the priority of a virtual router"
                );
                let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(handle) = &*speaker {
                    // Fails only when the thread has ended, which ends this process too.
                    let _ = handle.set_tracker(&router.name, rule.name(), reading(lowered));
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn takes_part(status: &ClusterStatus) -> bool {
    status.state != RaftState::Shutdown && !status.disk_full
}
