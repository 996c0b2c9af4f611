//! What a virtual router is worth and whether it may run: base priority, trackers, faults,
//! permission, and what its sync group adds to that. Sans-io.

use crate::{
    config::{Priority, RouterConfig},
    tracking::{Adjustment, Cause, Tracked, Tracking},
};

/// Everything that is said about a router from outside the protocol.
#[derive(Debug)]
pub(super) struct Standing {
    base: Priority,
    tracking: Tracking,
    named: Vec<&'static str>,
    pub(super) permission: bool,
    /// The lowest priority in the sync group.
    cap: Option<Priority>,
    /// Another member of the sync group is in fault.
    halted: bool,
}

impl Standing {
    pub(super) fn new(config: &RouterConfig) -> Self {
        Self {
            base: config.priority(),
            tracking: Tracking::new(config.trackers()),
            named: Vec::new(),
            permission: config.permission(),
            cap: None,
            halted: false,
        }
    }

    pub(super) fn set_base(&mut self, base: Priority) {
        self.base = base;
    }

    pub(super) fn set_fault(&mut self, cause: &'static str, present: bool) {
        self.named.retain(|named| *named != cause);
        if present {
            self.named.push(cause);
        }
    }

    pub(super) fn track(&mut self, tracker: &str, seen: Tracked) {
        self.tracking.set(tracker, seen);
    }

    pub(super) fn set_cap(&mut self, cap: Priority) {
        self.cap = Some(cap);
    }

    pub(super) fn set_halted(&mut self, halted: bool) {
        self.halted = halted;
    }

    pub(super) fn base(&self) -> Priority {
        self.base
    }

    /// The priority with all trackers, without the sync group.
    pub(super) fn own_priority(&self) -> Priority {
        self.tracking.apply(self.base)
    }

    /// The priority in force.
    pub(super) fn priority(&self) -> Priority {
        let own = self.own_priority();
        self.cap.map_or(own, |cap| own.min(cap))
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted
    }

    /// Faults of this router alone.
    pub(super) fn own_faults(&self) -> impl Iterator<Item = Cause> {
        self.named.iter().map(|named| Cause::Named(named)).chain(self.tracking.faults())
    }

    /// All that keeps it from running.
    pub(super) fn faults(&self) -> impl Iterator<Item = Cause> {
        self.own_faults().chain(self.halted.then_some(Cause::SyncGroup))
    }

    /// What lies between base and the priority in force.
    pub(super) fn adjustments(&self) -> Vec<Adjustment> {
        let mut adjustments: Vec<_> = self.tracking.adjustments().collect();
        let (own, priority) = (self.own_priority(), self.priority());
        if priority < own {
            let by = i32::from(priority.as_u8()) - i32::from(own.as_u8());
            adjustments.push(Adjustment { by, cause: Cause::SyncGroup });
        }
        adjustments
    }
}
