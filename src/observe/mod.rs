//! What the operator reads: log set-up and counters. Knows no domain type.

pub mod log;
pub mod metrics;
