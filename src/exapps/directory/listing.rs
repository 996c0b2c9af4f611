//! The records in force on this node, for whoever administers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::record::ExApp;

use super::{Directory, Recorded};

/// One record. It holds the ExApp's secret: hand on what is needed, never all of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The record.
    pub record: Arc<ExApp>,
    /// Whether the other nodes have it too.
    pub recorded: Recorded,
    /// How long ago Nextcloud was last asked about it by this node; none if it never was.
    pub checked: Option<Duration>,
}

impl Directory {
    /// Every record in force on this node, by id.
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
        let on_record = view.exapps().map(|record| {
            let (record, recorded) = (Arc::clone(record), Recorded::Cluster);
            (record.id.clone(), Listed { checked: checked(&record.id), record, recorded })
        });
        let mut listed: BTreeMap<_, _> = on_record.collect();
        for (id, change) in unsynced.iter() {
            if change.revision != view.exapp_revision(id) {
                continue;
            }
            match &change.known {
                Some(known) => {
                    let (record, recorded) = (Arc::clone(&known.record), Recorded::Here);
                    listed.insert(id.clone(), Listed { record, recorded, checked: None });
                }
                None => {
                    listed.remove(id);
                }
            }
        }
        listed.into_values().collect()
    }
}
