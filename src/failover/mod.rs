//! Between who holds the address and what the product does about it: the steps of a takeover,
//! the tickles that wake orphaned connections, and the trackers priorities depend on. Who holds
//! the address is decided in `vrrp`.

pub mod alarms;
pub mod config;
pub mod counsel;
pub mod drain;
pub mod fitness;
pub mod heir;
pub mod isolation;
pub mod last_resort;
pub mod lookout;
pub mod opinion;
mod pace;
pub mod recorder;
mod segment;
pub mod takeover;
pub mod tickle;
pub mod trackers;
pub mod watch;
pub mod word;

pub use config::Config;
pub use recorder::Recorder;
pub use watch::{Effects, Told, Watch};
