//! What a node of a pair is told about the world beside its peer: its virtual routers, Nextcloud,
//! and whether it is cut off. Told about every second; what follows is decided in `cluster::pair`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cluster::Handle;
use cluster::pair::Surroundings;
use tokio_util::sync::CancellationToken;
use vrrp::{RouterStatus, State};

use super::status::Speaker;
use super::vantage::Vantage;
use crate::failover::alarms::Kind;
use crate::nextcloud;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Longest wait for Nextcloud, and how many in a row must fail.
const NEXTCLOUD_WITHIN: Duration = Duration::from_secs(2);
const FAILURES: u32 = 2;

/// Tells until `stop`.
pub(super) async fn tell(
    handle: Handle,
    speaker: Speaker,
    nextcloud: nextcloud::Client,
    vantage: Arc<Vantage>,
    stop: CancellationToken,
) {
    let (mut adverts, mut failures) = (Adverts::default(), 0);
    loop {
        let answered = tokio::time::timeout(NEXTCLOUD_WITHIN, nextcloud.is_reachable()).await;
        failures = if answered == Ok(true) { 0 } else { failures + 1 };
        let states = {
            let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
            speaker.as_ref().map(vrrp::SpeakerHandle::states).unwrap_or_default()
        };
        let isolated = vantage.alarms().iter().any(|alarm| alarm.kind == Kind::Isolated);
        let (now, nextcloud) = (Instant::now(), failures < FAILURES);
        vantage.note_nextcloud(nextcloud);
        handle.tell_surroundings(seen(now, &states, &mut adverts, nextcloud, isolated));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Advertisements received by each router so far, and when the last one was noticed.
#[derive(Default)]
struct Adverts {
    counts: BTreeMap<Arc<str>, u64>,
    last: Option<Instant>,
}

fn seen(
    now: Instant,
    states: &[RouterStatus],
    adverts: &mut Adverts,
    nextcloud: bool,
    isolated: bool,
) -> Surroundings {
    for router in states {
        let count = adverts.counts.insert(Arc::clone(&router.name), router.adverts_in);
        if count.is_some_and(|count| count != router.adverts_in) {
            adverts.last = Some(now);
        }
    }
    let since = states.iter().filter(|router| router.state == State::Active);
    let since = since.map(|router| router.since).min();
    let ago = |at: Instant| now.saturating_duration_since(at);
    Surroundings {
        active: (!states.is_empty()).then_some(since.is_some()),
        active_for: since.map(ago),
        advert_heard: adverts.last.map(ago),
        // Nobody looks at the gateway of a node that is not Active.
        gateway: isolated.then_some(false),
        nextcloud: Some(nextcloud),
    }
}
