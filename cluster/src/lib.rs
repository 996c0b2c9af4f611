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

mod batch;
mod clock;
mod codec;
mod config;
mod dto;
mod engine;
mod error;
mod fatal;
mod formation;
mod handle;
mod handover;
mod log_file;
mod log_store;
mod log_writer;
mod network;
mod node;
mod propose;
mod service;
mod sharing;
mod snapshot;
mod state;
mod state_store;
mod status;
mod types;
mod view;

pub use command::{Command, Reply, Soft, SoftBatch};
pub use config::{Config, Member, Problem, Role, Timers, TlsFiles};
pub use error::{ProposeError, StartError};
pub use handle::Handle;
pub use node::Node;
pub use record::NodeId;
pub use state::State;
pub use status::{ClusterStatus, RaftState, VoterStatus};
