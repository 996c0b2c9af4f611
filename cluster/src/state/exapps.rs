//! ExApp records and the revisions that keep a slow fetch from undoing a push. Sans-io.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::record::{ExApp, MAX_EXAPPS};

/// Most ids whose last push or delete is remembered exactly.
const MAX_REVISIONS: usize = 4 * MAX_EXAPPS;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ExApps {
    #[serde(deserialize_with = "table::read")]
    records: OrdMap<String, Arc<ExApp>>,
    /// Number of the change that last pushed or deleted an id.
    #[serde(deserialize_with = "table::read")]
    revisions: OrdMap<String, u64>,
    /// Number of the newest change.
    newest: u64,
    /// What an id without its own revision answers: the highest revision ever forgotten. It only
    /// rises, so a fetch begun before is refused at worst, never wrongly believed.
    floor: u64,
}

impl ExApps {
    pub(super) fn record(&self, id: &str) -> Option<&Arc<ExApp>> {
        self.records.get(id)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<ExApp>> {
        self.records.values()
    }

    pub(super) fn revision(&self, id: &str) -> u64 {
        self.revisions.get(id).copied().unwrap_or(self.floor)
    }

    pub(super) fn push(&mut self, record: &ExApp) {
        self.bump(&record.id);
        self.insert(record);
    }

    /// False when something was pushed or deleted since `revision`.
    pub(super) fn cache(&mut self, record: &ExApp, revision: u64) -> bool {
        let current = self.revision(&record.id) == revision;
        if current {
            self.insert(record);
        }
        current
    }

    /// False when there was no such record.
    pub(super) fn delete(&mut self, id: &str) -> bool {
        self.bump(id);
        self.records.remove(id).is_some()
    }

    /// The record changed longest ago makes room; it is fetched again when somebody asks.
    fn insert(&mut self, record: &ExApp) {
        if !self.records.contains_key(&record.id) && self.records.len() >= MAX_EXAPPS {
            let oldest = self.records.keys().min_by_key(|id| (self.revision(id), *id)).cloned();
            if let Some(id) = oldest {
                self.records.remove(&id);
            }
        }
        self.records.insert(record.id.clone(), Arc::new(record.clone()));
    }

    fn bump(&mut self, id: &str) {
        self.newest += 1;
        self.revisions.insert(id.to_owned(), self.newest);
        if self.revisions.len() > MAX_REVISIONS {
            let oldest = self.revisions.iter().min_by_key(|(_, revision)| **revision);
            if let Some((id, revision)) = oldest.map(|(id, revision)| (id.clone(), *revision)) {
                self.revisions.remove(&id);
                self.floor = revision;
            }
        }
    }
}
