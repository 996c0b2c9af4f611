//! Changes the cluster has not confirmed: in force on this node, proposed again until they are
//! recorded or a later change has overtaken them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use cluster::Command;
use cluster::record::ExApp;

use super::{CONFIRM, Held, Inner};

/// One change that holds here.
#[derive(Clone)]
pub(super) struct Unsynced {
    /// `None` after a delete.
    pub(super) held: Option<Held>,
    /// Holds while the cluster is still at this revision.
    pub(super) revision: u64,
}

impl Inner {
    /// A record in use turned out to be another. It is in force here even if the cluster cannot be
    /// told now: a node that is cut off has nobody but Nextcloud to hear it from.
    pub(super) async fn correct(self: Arc<Self>, record: ExApp, revision: u64) {
        let id = record.id.clone();
        let (held, record) = self.hold(record);
        let command = Command::CacheExApp { tenant: self.tenant.clone(), record, revision };
        if let Err(error) = self.cluster.propose(command.clone(), CONFIRM).await {
            tracing::debug!(app_id = id, %error, "corrected record kept on this node only");
            self.keep_here(id, Unsynced { held: Some(held), revision }, command);
        }
    }

    pub(super) fn keep_here(self: &Arc<Self>, id: String, change: Unsynced, command: Command) {
        let revision = change.revision;
        self.write_unsynced(|table| {
            table.insert(id.clone(), change);
        });
        tokio::spawn(propose_until_recorded(Arc::clone(self), id, revision, command));
    }

    fn write_unsynced(&self, change: impl FnOnce(&mut HashMap<String, Unsynced>)) {
        let _one_writer = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = HashMap::clone(&self.unsynced.load());
        change(&mut table);
        self.unsynced.store(Arc::new(table));
    }
}

/// Proposes again until it is recorded or a later change has overtaken it.
async fn propose_until_recorded(inner: Arc<Inner>, id: String, revision: u64, command: Command) {
    loop {
        tokio::time::sleep(inner.config.retry).await;
        if inner.revision(&id) != revision {
            break;
        }
        match inner.cluster.propose(command.clone(), CONFIRM).await {
            Ok(_) => {
                tracing::info!(app_id = id, "record is on the cluster now");
                break;
            }
            Err(cluster::ProposeError::Stopped) => return,
            Err(_) => {}
        }
    }
    inner.write_unsynced(|table| {
        if table.get(&id).is_some_and(|kept| kept.revision == revision) {
            table.remove(&id);
        }
    });
}
