//! Following the replicated members: whom to dial, whom presence greets, what the passport says
//! for the next start, and whether this node is still one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::engine::Engine;
use crate::passport::Seed;

/// A removed leader stays until another leads, but no longer than this.
const LAST_DUTY: Duration = Duration::from_secs(30);

/// A removed node stays this much longer, so that whoever waits for its last acknowledgements
/// gets them.
const FAREWELL: Duration = Duration::from_millis(500);

/// Between two looks whether another leads.
const LOOK: Duration = Duration::from_millis(50);

/// Where the members are told.
pub(crate) struct Following {
    pub(crate) engine: Arc<Engine>,
    pub(crate) presence: watch::Sender<Arc<[Seed]>>,
}

impl Following {
    /// Follows until dropped.
    pub(crate) async fn run(self) {
        let engine = &self.engine;
        let mut changes = engine.view.changes();
        let mut seen = None;
        loop {
            let state = engine.view.load();
            let version = state.members_version();
            if seen != Some(version) && state.is_founded() {
                seen = Some(version);
                self.tell().await;
            }
            if state.is_removed(engine.own.number) {
                return self.leave().await;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = engine.peers.removed() => return self.leave().await,
            }
        }
    }

    async fn tell(&self) {
        let engine = &self.engine;
        let seeds = engine.seeds().await;
        let addresses = seeds.iter().filter_map(|seed| Some((seed.number, seed.address?)));
        engine.peers.follow(addresses);
        self.presence.send_replace(seeds.clone().into());
        if let Err(error) = engine.amend_passport(|passport| passport.seeds = seeds).await {
            // The next start looks for the members known before.
            tracing::warn!(error, "the members cannot be noted for the next start");
        }
    }

    /// The members go on without this node.
    async fn leave(&self) {
        let engine = &self.engine;
        let last_duty = async {
            while engine.metrics().state == ServerState::Leader {
                sleep(LOOK).await;
            }
            sleep(FAREWELL).await;
        };
        tokio::select! {
            _ = timeout(LAST_DUTY, last_duty) => {}
            () = engine.peers.removed() => {}
        }
        let (number, leaving) = (engine.own.number, engine.leaving.load(Ordering::Relaxed));
        let what = if leaving { "has left" } else { "was removed from" };
        engine.fatal.raise(format!(
            "node {number} {what} the cluster; to use this machine again, empty its state \
             directory and join it as a new node"
        ));
    }
}

impl Engine {
    /// Changes the passport, in memory and on disk.
    pub(crate) async fn amend_passport(
        &self,
        amend: impl FnOnce(&mut crate::passport::Passport),
    ) -> Result<(), String> {
        let mut passport = self.passport.lock().await;
        let mut amended = passport.clone();
        amend(&mut amended);
        if amended == *passport {
            return Ok(());
        }
        let (disk, dir, stored) =
            (self.disk.clone(), self.config.state_dir.clone(), amended.clone());
        let stored = self.disk.work(move || stored.store_on(&disk, &dir)).await;
        match stored {
            Ok(Ok(())) => {
                *passport = amended;
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
