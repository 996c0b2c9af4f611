//! How many of something are open now.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;

/// A gauge of open things. Clones are one gauge.
#[derive(Clone, Default)]
pub struct Open(Gauge<i64, AtomicI64>);

/// One open thing; dropped when it closes.
pub struct Counted(Open);

impl Open {
    /// Counts one more, for as long as the value lives.
    pub fn enter(&self) -> Counted {
        self.0.inc();
        Counted(self.clone())
    }

    pub(super) fn gauge(&self) -> Gauge<i64, AtomicI64> {
        self.0.clone()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}
