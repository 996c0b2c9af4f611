//! `trigon drill`: a planned failover there and back on the live cluster, with a probe running.
//!
//! Speaks with the node on this machine only through its admin socket, as an admin would. `conduct`
//! goes the way, `probe` asks the address all the while, `timeline` says what the probes mean,
//! `report` shows it.

mod conduct;
mod probe;
mod report;
pub mod timeline;

pub use conduct::{Error, Options, run};
pub use probe::Target;
pub use report::{Leg, Moment, Report};
