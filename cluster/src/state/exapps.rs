//! ExApp records and the revisions that keep a slow fetch from undoing a push. Sans-io.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::by_tenant::ByTenant;
use crate::record::{MAX_EXAPPS, SealedExApp, Tenant};

/// Most ids whose last push or delete is remembered exactly.
const MAX_REVISIONS: usize = 4 * MAX_EXAPPS;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ExApps {
    records: ByTenant<String, Arc<SealedExApp>>,
    changes: ByTenant<String, Change>,
    /// Number of the newest change.
    newest: u64,
    /// What an id without its own revision answers: the highest revision ever forgotten. It only
    /// rises, so a fetch begun before is refused at worst, never wrongly believed.
    floor: u64,
}

/// The last push or delete of an id.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    number: u64,
    /// Nextcloud took the record back, and nothing has put it in force again.
    deleted: bool,
}

impl ExApps {
    pub(super) fn record(&self, tenant: &Tenant, id: &str) -> Option<&Arc<SealedExApp>> {
        self.records.get(tenant, id)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&Tenant, &Arc<SealedExApp>)> {
        self.records.iter().map(|(tenant, _, record)| (tenant, record))
    }

    pub(super) fn records_of(&self, tenant: &Tenant) -> impl Iterator<Item = &Arc<SealedExApp>> {
        self.records.of(tenant)
    }

    pub(super) fn revision(&self, tenant: &Tenant, id: &str) -> u64 {
        self.changes.get(tenant, id).map_or(self.floor, |change| change.number)
    }

    pub(super) fn is_deleted(&self, tenant: &Tenant, id: &str) -> bool {
        self.changes.get(tenant, id).is_some_and(|change| change.deleted)
    }

    pub(super) fn push(&mut self, tenant: &Tenant, record: &SealedExApp) {
        self.bump(tenant, &record.id, false);
        self.insert(tenant, record);
    }

    /// False when something was pushed or deleted since `revision`.
    pub(super) fn cache(&mut self, tenant: &Tenant, record: &SealedExApp, revision: u64) -> bool {
        let current = self.revision(tenant, &record.id) == revision;
        if current {
            if self.is_deleted(tenant, &record.id) {
                let change = Change { number: revision, deleted: false };
                self.changes.insert(tenant, record.id.clone(), change);
            }
            self.insert(tenant, record);
        }
        current
    }

    /// False when there was no such record.
    pub(super) fn delete(&mut self, tenant: &Tenant, id: &str) -> bool {
        self.bump(tenant, id, true);
        self.records.remove(tenant, id).is_some()
    }

    /// The record changed longest ago makes room; it is fetched again when somebody asks.
    fn insert(&mut self, tenant: &Tenant, record: &SealedExApp) {
        let known = self.records.get(tenant, record.id.as_str()).is_some();
        if !known && self.records.len() >= MAX_EXAPPS {
            let keys = self.records.iter().map(|(tenant, id, _)| (tenant, id));
            let oldest = keys.min_by_key(|(tenant, id)| (self.revision(tenant, id), *tenant, *id));
            if let Some((tenant, id)) = oldest.map(|(tenant, id)| (tenant.clone(), id.clone())) {
                self.records.remove(&tenant, &id);
            }
        }
        self.records.insert(tenant, record.id.clone(), Arc::new(record.clone()));
    }

    fn bump(&mut self, tenant: &Tenant, id: &str, deleted: bool) {
        self.newest += 1;
        self.changes.insert(tenant, id.to_owned(), Change { number: self.newest, deleted });
        if self.changes.len() > MAX_REVISIONS {
            let oldest = self.changes.iter().min_by_key(|(_, _, change)| change.number);
            let oldest =
                oldest.map(|(tenant, id, change)| (tenant.clone(), id.clone(), change.number));
            if let Some((tenant, id, number)) = oldest {
                self.changes.remove(&tenant, &id);
                self.floor = number;
            }
        }
    }
}
