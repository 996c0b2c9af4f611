//! Rules for spreading work over several servers: who is healthy, who answers badly, who gets the
//! next request or session, what may be sent again. `web` does what they say for Nextcloud's web
//! nodes, `database` for those of a Galera cluster.
//!
//! Everything here is sans-io: a time goes in with every event.

pub mod budget;
pub mod ejection;
pub mod galera;
pub mod health;
pub mod pool;
pub mod roster;

pub use budget::Budget;
pub use pool::Pool;
pub use roster::{Admin, Member};
