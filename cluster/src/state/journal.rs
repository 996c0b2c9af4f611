//! Which durable changes were made, when and where: what two branches of a cluster need to know
//! to come together again. Sans-io.

use serde::{Deserialize, Serialize};

use super::by_tenant::ByTenant;
use crate::command::Command;
use crate::pair::{Parent, Stamp};
use crate::record::{MAX_EXAPPS, Millis, NodeId, Tenant};

/// Most ExApps whose last change is remembered; the one changed longest ago makes room.
const MAX_STAMPS: usize = 4 * MAX_EXAPPS;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) generation: u64,
    /// Where this branch left the one before.
    pub(super) parent: Option<Parent>,
    /// The time of the last change that both have.
    forked_at: Millis,
    /// Durable changes since then.
    pub(super) changes: u64,
    /// The time of the last one. It only rises, so that no two changes of one branch look alike.
    pub(super) changed_at: Millis,
    exapps: ByTenant<String, Stamp>,
}

impl Default for Journal {
    /// The first generation's.
    fn default() -> Self {
        Self {
            generation: 1,
            parent: None,
            forked_at: 0,
            changes: 0,
            changed_at: 0,
            exapps: ByTenant::default(),
        }
    }
}

impl Journal {
    /// A new branch begins here.
    pub(super) fn fork(&mut self, generation: u64, parent: Parent) {
        self.generation = generation;
        self.parent = Some(parent);
        self.forked_at = self.changed_at;
        self.changes = 0;
    }

    /// A command was carried out.
    pub(super) fn note(&mut self, command: &Command, at: Millis, node: NodeId) {
        match command {
            Command::PushExApp { tenant, record } => self.exapp(tenant, &record.id, at, node),
            Command::DeleteExApp { tenant, id } => self.exapp(tenant, id, at, node),
            // Soft ones, and copies of what others know.
            Command::Soft(_)
            | Command::TunnelUp(_)
            | Command::TunnelDown { .. }
            | Command::CacheExApp { .. }
            | Command::Genesis(_)
            | Command::Merge(_)
            | Command::Found(_)
            | Command::Announce(_)
            | Command::RaiseFeature { .. }
            | Command::RotateSessionKey { .. }
            | Command::Happened(_)
            | Command::SetAcme(_)
            | Command::SetWriter(_) => {}
            Command::SetPki(_)
            | Command::SetBan(_)
            | Command::Pardon { .. }
            | Command::CreateToken(_)
            | Command::RevokeToken { .. }
            | Command::Admit(_)
            | Command::RemoveMember { .. }
            | Command::Authority(_) => {
                self.change(at);
            }
        }
    }

    pub(super) fn stamp(&self, tenant: &Tenant, id: &str) -> Option<Stamp> {
        self.exapps.get(tenant, id).copied()
    }

    pub(super) fn stamps(&self) -> impl Iterator<Item = (&Tenant, &String, Stamp)> {
        self.exapps.iter().map(|(tenant, id, stamp)| (tenant, id, *stamp))
    }

    /// The time of the last change this branch has in common with `ended`, if one of them left the
    /// other, or both left a third.
    pub(super) fn fork_with(&self, ended: &Self) -> Option<Millis> {
        let parent = self.parent?;
        if parent.group.generation == ended.generation {
            return Some(self.forked_at);
        }
        let both = ended.parent.is_some_and(|other| other.group == parent.group);
        both.then(|| self.forked_at.min(ended.forked_at))
    }

    /// Whether a change with this stamp, made elsewhere, is not part of this branch's past.
    pub(super) fn is_after_fork(&self, stamp: Stamp) -> bool {
        let parent = self.parent.map_or(0, |parent| parent.group.generation);
        (stamp.generation, stamp.at) > (parent, self.forked_at)
    }

    pub(super) fn set_stamp(&mut self, tenant: &Tenant, id: &str, stamp: Stamp) {
        self.exapps.insert(tenant, id.to_owned(), stamp);
        if self.exapps.len() > MAX_STAMPS {
            let oldest = self.exapps.iter().min_by_key(|(_, _, stamp)| **stamp);
            if let Some((tenant, id)) = oldest.map(|(tenant, id, _)| (tenant.clone(), id.clone())) {
                self.exapps.remove(&tenant, &id);
            }
        }
    }

    fn exapp(&mut self, tenant: &Tenant, id: &str, at: Millis, node: NodeId) {
        let at = self.change(at);
        let stamp = Stamp { generation: self.generation, at, node };
        self.set_stamp(tenant, id, stamp);
    }

    fn change(&mut self, at: Millis) -> Millis {
        self.changes = self.changes.saturating_add(1);
        self.changed_at = at.max(self.changed_at.saturating_add(1));
        self.changed_at
    }
}
