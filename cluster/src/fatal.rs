//! The one-way switch of a node that must not go on: its disk failed, or its log holds what this
//! build does not understand.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by everything that may find out; the first reason stands.
#[derive(Clone)]
pub(crate) struct Fatal {
    reason: Arc<watch::Sender<Option<String>>>,
}

impl Fatal {
    pub(crate) fn new() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// The node has to stop.
    pub(crate) fn raise(&self, reason: String) {
        self.reason.send_if_modified(|known| {
            if known.is_some() {
                return false;
            }
            tracing::error!(error = reason, "this node stops taking part in the cluster");
            *known = Some(reason);
            true
        });
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.reason.borrow().is_some()
    }

    /// Waits for it.
    pub(crate) async fn raised(&self) -> String {
        let mut reason = self.reason.subscribe();
        loop {
            if let Some(text) = reason.borrow_and_update().clone() {
                return text;
            }
            if reason.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
