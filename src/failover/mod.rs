//! Between who holds the address and what the product does about it: the steps of a takeover,
//! and the tickles that wake orphaned connections. Who holds the address is decided in `vrrp`.

pub mod takeover;
pub mod tickle;
pub mod watch;

pub use watch::{Effects, Watch};
