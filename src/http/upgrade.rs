//! What happens after a 101, or a 200 to an extended CONNECT: both connections stop speaking HTTP
//! and are joined (RFC 9110 section 7.8). WebSockets are the usual case.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::splice::{self, Spliced, splice};
use crate::observe::metrics::metrics;
use crate::observe::transfer::{End, Transfer};

/// Who goes on with the transfer of an upgraded request. Travels in the answer's extensions.
#[derive(Clone)]
pub struct Heir(Arc<Mutex<Option<oneshot::Sender<Transfer>>>>);

impl Heir {
    /// Hands the transfer over; only the first time.
    pub fn inherit(&self, transfer: Transfer) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A pair that ended meanwhile drops it, and with it the transfer ends.
            let _ = sender.send(transfer);
        }
    }
}

/// The joined pairs of one frontend. Cheap to clone.
#[derive(Clone)]
pub struct Upgrades {
    inner: Arc<Inner>,
}

struct Inner {
    idle: Duration,
    pairs: TaskTracker,
    cut: CancellationToken,
}

impl Upgrades {
    /// Pairs that end after `idle` without a byte in either direction.
    pub fn new(idle: Duration) -> Self {
        let inner = Inner { idle, pairs: TaskTracker::new(), cut: CancellationToken::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Joins the two ends once both have left HTTP. `places` are kept for as long as the pair
    /// lives, such as the one in the listener's connection limit. Whoever answers the request hands
    /// its transfer to the heir: it is over when the pair is.
    pub fn join(
        &self,
        client: OnUpgrade,
        upstream: OnUpgrade,
        places: impl Send + 'static,
    ) -> Heir {
        let inner = Arc::clone(&self.inner);
        let cut = self.inner.cut.clone();
        let (heir, inherited) = oneshot::channel::<Transfer>();
        self.inner.pairs.spawn(async move {
            let _places = places;
            let _open = metrics().upgraded.enter();
            let joined = async {
                let (client, upstream) = match tokio::try_join!(client, upstream) {
                    Ok(both) => both,
                    Err(error) => {
                        tracing::debug!(%error, "upgrade was not completed");
                        return (End::ClientAbort, 0, 0);
                    }
                };
                let done = splice(TokioIo::new(client), TokioIo::new(upstream), inner.idle).await;
                let Spliced { forth, back, end } = done;
                tracing::debug!(
                    bytes.up = forth,
                    bytes.down = back,
                    ?end,
                    "upgraded connection ended"
                );
                (reason(&end), forth, back)
            };
            let (end, forth, back) = tokio::select! {
                ended = joined => ended,
                () = cut.cancelled() => (End::Stopped, 0, 0),
            };
            metrics().upgraded_ended(end.as_str());
            // Handed over before the answer was sent; dropped if it never was.
            if let Ok(mut transfer) = inherited.await {
                transfer.carried(forth);
                transfer.sent(back);
                transfer.ends(end);
            }
        });
        Heir(Arc::new(Mutex::new(Some(heir))))
    }

    /// How many pairs are open.
    pub fn open(&self) -> usize {
        self.inner.pairs.len()
    }

    /// Waits until all pairs have ended by themselves, at most `within`, and cuts the rest.
    pub async fn finish(&self, within: Duration) {
        self.inner.pairs.close();
        if tokio::time::timeout(within, self.inner.pairs.wait()).await.is_err() {
            self.inner.cut.cancel();
            self.inner.pairs.wait().await;
        }
    }
}

fn reason(end: &splice::End) -> End {
    match end {
        splice::End::FirstClosed => End::ClientClose,
        splice::End::SecondClosed => End::UpstreamClose,
        splice::End::Idle => End::TimeoutTunnel,
        splice::End::Failed(_) => End::Broken,
    }
}
