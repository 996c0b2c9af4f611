//! The replicated memory of Trigon's nodes.
//!
//! * Replicated and durable: ExApp records, tunnel registrations, the FRP certificates
//!   ([`Handle::propose`]).
//! * Replicated, may be lost: validated sessions, failures ([`Handle::share`]).
//! * Never here: sockets, cookies, request bodies.
//!
//! Reading ([`Handle::view`]) is local and lock-free and needs no quorum; only proposing does.

pub mod command;
pub mod record;

mod error;
mod handle;
mod state;

pub use command::{Command, Reply, Soft, SoftBatch};
pub use error::ProposeError;
pub use handle::Handle;
pub use record::NodeId;
pub use state::State;
