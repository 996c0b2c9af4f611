//! Looks at the state of this node every few seconds for what is an alarm. What is one is decided
//! in `conditions`; what it does to the log in [`failover::alarms`](crate::failover::alarms).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::conditions::{Conditions, Look};
use super::status::Facts;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Certificates are files that are read; they change slowly.
const CERTIFICATES_EVERY: u32 = 30;

/// Watches until `stop`; `files` are certificates besides those of the cluster.
pub(super) async fn watch(
    facts: Arc<Facts>,
    files: Vec<(&'static str, PathBuf)>,
    stop: CancellationToken,
) {
    let (mut conditions, mut certificates) = (Conditions::default(), Vec::new());
    let mut looks = 0_u32;
    loop {
        if looks.is_multiple_of(CERTIFICATES_EVERY) || certificates.is_empty() {
            certificates = facts.certificates_in_use(&files);
        }
        looks = looks.wrapping_add(1);
        let now = Instant::now();
        let drain = facts.drain();
        let last_resort = drain.as_ref().filter(|drain| drain.is_done());
        let current = conditions.look(&Look {
            now,
            up_for: facts.up_for(),
            cluster: &facts.cluster_status(),
            heard: &facts.heard(),
            certificates: &certificates,
            draining: drain.is_some(),
            last_resort: last_resort.map_or(&[], |drain| &drain.addresses),
            wall: cluster::clock::now() / 1000,
        });
        facts.raise(now, current);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
