//! The replicated memory of Trigon's nodes.
//!
//! * Replicated and durable: ExApp records, tunnel registrations, the FRP certificates
//!   ([`Handle::propose`]).
//! * Replicated, may be lost: validated sessions, failures ([`Handle::share`]).
//! * Never here: sockets, cookies, request bodies.
//!
//! Reading ([`Handle::view`]) is local and lock-free and needs no quorum; only proposing does.

pub mod command;
pub mod identity;
pub mod record;

mod clock;
mod codec;
mod config;
mod error;
mod handle;
mod node;
mod state;
mod status;

pub use command::{Command, Reply, Soft, SoftBatch};
pub use config::{Config, Member, Problem, Role, Timers, TlsFiles};
pub use error::{ProposeError, StartError};
pub use handle::Handle;
pub use node::Node;
pub use record::NodeId;
pub use state::State;
pub use status::{ClusterStatus, RaftState, VoterStatus};
