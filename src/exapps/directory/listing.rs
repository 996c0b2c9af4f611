//! The records in force on this node, for whoever administers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::record::{SealedExApp, Tenant};

use super::{Directory, Recorded};

/// One record.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Whose.
    pub tenant: Tenant,
    /// The record.
    pub record: Arc<SealedExApp>,
    /// Whether the other nodes have it too.
    pub recorded: Recorded,
    /// How long ago Nextcloud was last asked about it by this node; none if it never was.
    pub checked: Option<Duration>,
}

impl Directory {
    /// Every record of the tenant in force on this node, by id.
    pub fn list(&self) -> Vec<Listed> {
        let inner = &*self.inner;
        let compiled = inner.compiled.load();
        let unsynced = inner.unsynced.load();
        let view = inner.cluster.view();
        let now = inner.uptime();
        let checked = |id: &str| {
            let entry = compiled.get(id)?;
            let at = entry.checked.load(Ordering::Relaxed);
            Some(Duration::from_millis(now.saturating_sub(at)))
        };
        let tenant = &inner.tenant;
        let listed = |record: &Arc<SealedExApp>, recorded, checked| Listed {
            tenant: tenant.clone(),
            record: Arc::clone(record),
            recorded,
            checked,
        };
        let on_record = view.exapps_of(tenant).map(|record| {
            (record.id.clone(), listed(record, Recorded::Cluster, checked(&record.id)))
        });
        let mut by_id: BTreeMap<_, _> = on_record.collect();
        for (id, change) in unsynced.iter() {
            if change.revision != view.exapp_revision(tenant, id) {
                continue;
            }
            match &change.held {
                Some(held) => {
                    by_id.insert(id.clone(), listed(&held.stored, Recorded::Here, None));
                }
                None => {
                    by_id.remove(id);
                }
            }
        }
        by_id.into_values().collect()
    }
}
