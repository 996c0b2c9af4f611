//! Requests by reason and status, and how long their answers took to begin.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Two;
use super::histogram::Histogram;

/// Classes of statuses.
const CLASSES: [&str; 6] = ["dropped", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Reasons that get a handle of their own; further ones are looked up each time.
const REASONS: usize = 32;

/// Counts requests without looking anything up: the handle of a reason and class is kept where
/// its number says.
pub struct Requests {
    family: Family<Two, Counter>,
    handles: [[OnceLock<Counter>; CLASSES.len()]; REASONS],
    first_byte: Histogram,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        let first_byte = Histogram::default();
        let help = "Requests for ExApps and the control API, by reason and class of the status";
        registry.register("requests", help, Family::clone(&family));
        let help = "Time from a request's head to the head of its answer";
        registry.register("request_first_byte_seconds", help, first_byte.clone());
        let handles = std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new()));
        Self { family, handles, first_byte }
    }

    /// One request that ended for `reason`, whose number is `number`, with this status; `None` when
    /// it was dropped without an answer.
    pub fn ended(&self, number: usize, reason: &'static str, status: Option<u16>, took: Duration) {
        let class = class_number(status);
        let labels = [("reason", reason), ("status", CLASSES[class])];
        match self.handles.get(number).map(|classes| &classes[class]) {
            Some(handle) => {
                handle.get_or_init(|| self.family.get_or_create_owned(&labels)).inc();
            }
            None => {
                self.family.get_or_create(&labels).inc();
            }
        }
        if status.is_some() {
            self.first_byte.observe(took);
        }
    }
}

/// The word for a status.
pub(super) fn class(status: Option<u16>) -> &'static str {
    CLASSES[class_number(status)]
}

fn class_number(status: Option<u16>) -> usize {
    status.map_or(0, |status| usize::from(status / 100).clamp(1, CLASSES.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        for (status, word) in [
            (None, "dropped"),
            (Some(0), "1xx"),
            (Some(101), "1xx"),
            (Some(204), "2xx"),
            (Some(499), "4xx"),
            (Some(503), "5xx"),
            (Some(999), "5xx"),
        ] {
            assert_eq!(class(status), word, "{status:?}");
        }
    }
}
