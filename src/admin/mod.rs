//! The admin socket: what the commands for a running node ask, and what answers them. HTTP and
//! JSON over a unix socket that only root may open; `docs/reference/cli.md` describes the fields.
//!
//! `metrics` is the other listener, which tells Prometheus and load balancers how the node is.
//!
//! One file per answer (`status`, `exapps`, `tunnels`, `bans`, `certificates`, `vrrp`, `nodes`,
//! `tokens`, `cluster`, `events`, `drain`, `failover`, `backends`), which also shows it as text. The status is
//! assembled in `app`, what concerns the cluster and its members by `membership`, the rest by
//! `desk`; `orders` are carried out in `app` too.

pub mod backends;
pub mod bans;
pub mod certificates;
pub mod check;
pub mod client;
pub mod cluster;
pub mod desk;
pub mod drain;
pub mod events;
pub mod exapps;
pub mod failover;
pub mod membership;
pub mod metrics;
pub mod nodes;
pub mod orders;
pub mod public;
mod refusal;
pub mod reload;
pub mod server;
pub mod status;
mod table;
pub mod tokens;
pub mod tunnels;
pub mod vrrp;

pub use desk::Desk;
pub use membership::Membership;
pub use refusal::Refusal;
pub use status::Status;
