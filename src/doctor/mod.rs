//! `trigon doctor`: tries every leg of the way from this node's configuration to the ExApps, one
//! after the other, and says which one fails and what to do.
//!
//! `walk` knows the legs and their order; `judge` and `nextcloud_rules` (sans-io) say what an
//! observation means, `report` shows it, `call` has the connections. Nothing is changed, and what
//! could count against somebody (a wrong key) is tried once at most.

mod call;
mod judge;
mod nextcloud_rules;
pub mod report;
mod walk;

pub use report::{Outcome, Report, Verdict};
pub use walk::{Options, examine};
