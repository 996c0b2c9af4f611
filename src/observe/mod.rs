//! What an operator sees: log lines, the access log and counters. Knows no domain type.

pub mod access;
pub mod failure;
pub mod journal;
pub mod log;
pub mod message_id;
pub mod metrics;
pub mod trace;
pub mod transfer;
