//! Tells the service manager that this process lives, and how it stands: `WATCHDOG=1` and
//! `STATUS=`.
//!
//! The word is only given while every part is seen at work, see `vigil.rs`: the VRRP thread made a
//! turn since it was last woken, a byte went through the event loop, the consensus engine answered
//! a question. All of it happens in one task, whose own timer is the fourth witness. Nothing here
//! waits for one part to find out about another.

mod headline;
mod vigil;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cluster::Handle;
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::{Facts, Speaker};
pub(super) use headline::headline;
use vigil::{Part, Vigil};

/// Longest time between two looks: `STATUS=` is no older than this.
const LONGEST_BEAT: Duration = Duration::from_secs(1);

/// What is looked at.
pub(super) struct Watched {
    pub(super) facts: Arc<Facts>,
    pub(super) cluster: Handle,
    /// Where the VRRP thread is, if there is one.
    pub(super) speaker: Speaker,
}

/// Looks after the process until `stop`; ends at once where nobody listens. To be started right
/// before READY=1, from when on the manager counts.
pub(super) async fn keep(watched: Watched, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return stop.cancelled().await;
    }
    let limit = sd_notify::watchdog_enabled();
    let beat = limit.map_or(LONGEST_BEAT, |limit| (limit / 4).min(LONGEST_BEAT));
    let (sight, seen) = mpsc::unbounded_channel();
    let Watched { facts, cluster, speaker } = watched;
    let mut parts = vec![Part::Reactor, Part::Engine];
    if speaker.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        parts.push(Part::Vrrp);
    }
    let vigil = limit.map(|limit| Vigil::new(&parts, limit, Instant::now()));
    tokio::select! {
        () = look_at_speaker(&speaker, beat, &sight) => {}
        () = look_at_reactor(beat, &sight) => {}
        () = look_at_engine(&cluster, beat, &sight) => {}
        () = report(&facts, vigil, beat, seen) => {}
        () = stop.cancelled() => {}
    }
}

type Sight = mpsc::UnboundedSender<Part>;

/// Gives the word, beat after beat, or says why it does not.
async fn report(
    facts: &Facts,
    mut vigil: Option<Vigil>,
    beat: Duration,
    mut seen: mpsc::UnboundedReceiver<Part>,
) {
    let (mut said, mut accused) = (String::new(), BTreeSet::new());
    let mut ticks = tokio::time::interval(beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What has been seen comes before the judgement of who was not.
            biased;
            Some(part) = seen.recv() => {
                if let Some(vigil) = &mut vigil {
                    vigil.saw(part, Instant::now());
                }
                continue;
            }
            _ = ticks.tick() => {}
        }
        if let Some(vigil) = &vigil {
            let missing = vigil.missing(Instant::now());
            if missing.is_empty() {
                super::notify(&[NotifyState::Watchdog]);
            }
            for (part, silence) in &missing {
                if !accused.contains(part.name()) {
                    tracing::error!(
                        part = part.name(),
                        silent_seconds = silence.as_secs(),
                        "a part of this process hangs; the service manager is left to restart it"
                    );
                }
            }
            accused = missing.iter().map(|(part, _)| part.name()).collect();
        }
        let headline = facts.headline();
        if headline != said {
            super::notify(&[NotifyState::Status(&headline)]);
            said = headline;
        }
    }
}

/// Sees the VRRP thread whenever it has made a turn since it was woken.
async fn look_at_speaker(speaker: &Speaker, beat: Duration, sight: &Sight) {
    let mut before = 0;
    loop {
        let turns = {
            let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
            speaker.as_ref().map(vrrp::SpeakerHandle::nudge)
        };
        if let Some(turns) = turns
            && turns != before
        {
            before = turns;
            let _ = sight.send(Part::Vrrp);
        }
        tokio::time::sleep(beat).await;
    }
}

/// Sees the event loop whenever a byte has come back. A machine without sockets for this would be
/// one without sockets for anything: then it is not seen.
async fn look_at_reactor(beat: Duration, sight: &Sight) {
    let Ok((mut near, mut far)) = UnixStream::pair() else {
        tracing::error!("the event loop cannot be watched");
        return std::future::pending().await;
    };
    // Room for more than is sent: a read that fills it would not wait for the next event.
    let mut byte = [0; 8];
    loop {
        if near.write_all(b"!").await.is_ok() && far.read(&mut byte).await.is_ok() {
            let _ = sight.send(Part::Reactor);
        }
        tokio::time::sleep(beat).await;
    }
}

/// Sees the consensus engine whenever it has answered.
async fn look_at_engine(cluster: &Handle, beat: Duration, sight: &Sight) {
    loop {
        if cluster.engine_answers().await {
            let _ = sight.send(Part::Engine);
        }
        tokio::time::sleep(beat).await;
    }
}
