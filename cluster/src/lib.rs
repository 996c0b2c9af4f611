//! The replicated memory of Trigon's nodes.
//!
//! * Replicated and durable: the members, tokens and authorities of the cluster itself, ExApp
//!   records, tunnel registrations, the FRP certificates, bans set by admins and their pardons
//!   ([`Handle::propose`], needs a quorum). What is secret in them, and the key cookies are hashed
//!   with, is sealed ([`Kek`], `sealing`): a witness has them and can read none.
//! * Replicated, may be lost: validated sessions, failures ([`Handle::share`], never waits).
//! * Told from node to node, never in the log: which client connections end at virtual addresses
//!   ([`flows`]).
//! * Carried from node to node: requests for a tunnel that ends at another one ([`relay`]).
//! * Asked of another node: what an operator wants done there ([`Handle::errand`]).
//! * Not replicated, only told: who is there and what its virtual routers do ([`presence`]).
//! * Never here: sockets, cookies, request bodies.
//!
//! Reading ([`Handle::view`]) is local and lock-free and needs no quorum; only proposing does.
//!
//! How a change travels: `propose` finds the leader (`network/client` to `network/server` and
//! `service` when it is another node) → the raft engine → `log_store` and `log_writer` on every
//! voter → `state_store` applies it to [`State`] → `view` shows it. Pure and without I/O:
//! `record`, `command`, `state`, `batch`, `merge`, `timekeeper`, `codec`, `dto`, `config`, `token`,
//! `membership/plan`, `flows`, most of `pair`, and of `network` `frame`, `message`, `admission` and
//! `knocks`. The engine's types stay inside `types`, `dto`, the stores, `network` and `engine` with
//! its neighbours; no other crate sees them.
//!
//! What a node stands on: [`disk`] (files, or memory for simulations), `space` (what happens when
//! it is full), `feature` (what every member's release knows), `backup` and `restore`. `running` is
//! an engine with its tasks, `slot` the place where a node exchanges it for that of another raft
//! group, which only [`pair`] does.
//!
//! How a node comes to be: [`found`] makes the first one's directory, [`join`] that of every
//! further one (`joining` asks, `admission` answers, the state decides); [`Passport`] says who
//! lives there. Afterwards `membership` keeps votes and `papers` the certificates as they should
//! be.

pub mod clock;
pub mod command;
pub mod disk;
pub mod flows;
pub mod identity;
pub mod pair;
pub mod record;
pub mod relay;

mod administration;
mod admission;
mod backup;
mod batch;
mod checked;
mod codec;
mod config;
mod dice;
mod dto;
mod engine;
mod errand;
mod error;
mod fatal;
mod feature;
mod founding;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod guarded;
mod handle;
mod handover;
mod joining;
mod log_file;
mod log_store;
mod log_writer;
mod measures;
mod membership;
mod merge;
#[cfg(feature = "mutants")]
pub mod mutation;
#[cfg(not(feature = "mutants"))]
mod mutation;
mod network;
mod node;
mod papers;
mod passport;
pub mod presence;
mod propose;
mod restore;
mod running;
mod seal;
mod sealing;
mod service;
mod sharing;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
mod snapshot;
mod space;
mod state;
mod state_store;
mod status;
mod story;
mod timekeeper;
mod tls_transport;
mod token;
mod transport;
mod types;
mod view;

pub use administration::{AdminError, MAX_TOKEN_LIFE};
pub use backup::{Backup, BackupError, MAX_BACKUP};
pub use command::{AuthorityStep, Command, Genesis, Reply, SessionPut, Soft, SoftBatch, SoftPart};
pub use config::{
    Config, PairConfig, PairPolicy, Problem, Role, SessionReplication, Timers, TlsFiles,
};
pub use errand::{ErrandError, MAX_ERRAND, OnErrand};
pub use error::{ProposeError, StartError};
pub use flows::{Flow, FlowKind, FlowTable, Flows};
pub use founding::{
    Admission, FoundError, Founding, MAX_NODE_NAME, admit, admit_on, found, found_on,
};
pub use group::{ClusterId, Group, Lineage, NotALineage};
pub use handle::Handle;
pub use joining::{JoinError, Joining, join};
pub use measures::{Durations, Measures};
pub use node::Node;
pub use papers::{LinkAuthority, LinkCertificates};
pub use passport::{PASSPORT_FILE, Passport, PassportError, Seed};
pub use presence::Presence;
pub use record::{Member, NodeId};
pub use restore::{RestoreError, Restoring, restore};
pub use seal::{KEK_FILE, KEK_LEN, Kek, NoKek, Secret};
pub use sealing::SessionKeys;
pub use state::{Epoch, State};
pub use status::{ClockOff, ClusterStatus, RaftState, VoterStatus};
pub use token::{JoinToken, NotAToken};
pub use transport::{Arrival, Boxed, Dialler, Door, Guest, PeerStream, Stream, World};
pub use types::{RaftId, number_of, raft_id};
