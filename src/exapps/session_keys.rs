//! What cookies are hashed with before anything about them is remembered or shared.
//!
//! The nodes share one key, made anew every day and when a node is removed (`cluster`). The one
//! before stays good for ten seconds, longer than any answer is remembered. Until there is a key,
//! and on a node that cannot open it, this node uses one of its own: what it remembers then is of
//! use to itself only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use aws_lc_rs::{hmac, rand};
use cluster::{Epoch, Handle, Secret, State};

/// How long the key before is good for.
const OVERLAP: Duration = Duration::from_secs(10);

/// The keys as this node has them.
pub(super) struct SessionKeys {
    cluster: Handle,
    /// This node's own.
    own: hmac::Key,
    opened: ArcSwap<Opened>,
}

/// Keys of one epoch.
pub(super) struct Opened {
    epoch: Epoch,
    /// In force.
    pub(super) current: hmac::Key,
    previous: Option<(hmac::Key, Instant)>,
}

impl Opened {
    /// The key before, while it is good.
    pub(super) fn previous(&self) -> Option<&hmac::Key> {
        let (key, until) = self.previous.as_ref()?;
        (Instant::now() < *until).then_some(key)
    }
}

impl SessionKeys {
    pub(super) fn new(cluster: Handle) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        // Kept by aws-lc in user space and seeded by the kernel: it has no way to fail once started.
        rand::fill(&mut bytes).expect("the random generator of aws-lc works");
        let own = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let opened = Opened { epoch: Epoch::default(), current: own.clone(), previous: None };
        Self { cluster, own, opened: ArcSwap::from_pointee(opened) }
    }

    /// Opens them when they are others than before, else costs two loads.
    pub(super) fn load(&self) -> Guard<Arc<Opened>> {
        if self.cluster.read(State::session_epoch) != self.opened.load().epoch {
            let keys = self.cluster.session_keys();
            let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
            let until = Instant::now() + OVERLAP;
            self.opened.store(Arc::new(Opened {
                epoch: keys.epoch,
                current: keys.current.as_ref().map_or_else(|| self.own.clone(), key),
                previous: keys.previous.as_ref().map(|secret| (key(secret), until)),
            }));
        }
        self.opened.load()
    }
}
