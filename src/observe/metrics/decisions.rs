//! How the access of requests was decided.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::One;

/// Reasons that get a handle of their own; further ones are looked up each time.
const REASONS: usize = 32;

/// Counts decisions without looking anything up: the handle of a reason is kept where its number
/// says.
pub struct Decisions {
    family: Family<One, Counter>,
    handles: [OnceLock<Counter>; REASONS],
}

impl Decisions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        let help = "Requests for ExApps and the control API, by the reason of the decision";
        registry.register("exapp_auth", help, Family::clone(&family));
        Self { family, handles: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// One request was decided for `reason`, whose number is `number`.
    pub fn made(&self, number: usize, reason: &'static str) {
        let labels = [("result", reason)];
        match self.handles.get(number) {
            Some(handle) => {
                handle.get_or_init(|| self.family.get_or_create_owned(&labels)).inc();
            }
            None => {
                self.family.get_or_create(&labels).inc();
            }
        }
    }
}
