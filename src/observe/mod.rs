//! What the operator reads: log set-up and the names of log fields. Knows no domain type.

pub mod log;
