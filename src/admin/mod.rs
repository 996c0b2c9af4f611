//! The admin socket: what the commands for a running node ask, and what answers them. HTTP and
//! JSON over a unix socket that only root may open; `docs/reference/cli.md` describes the fields.
//!
//! `metrics` is the other listener, which tells Prometheus and load balancers how the node is.
//!
//! One file per answer (`status`, `exapps`, `tunnels`, `bans`, `vrrp`), which also shows it as text. The
//! status is assembled in `app`, the rest by `desk`.

pub mod bans;
pub mod client;
pub mod desk;
pub mod exapps;
pub mod metrics;
pub mod server;
pub mod status;
mod table;
pub mod tunnels;
pub mod vrrp;

pub use desk::Desk;
pub use status::Status;
