//! Nextcloud's web nodes, and other HTTP servers beside them such as notify_push: which paths go
//! to which pool, who of a pool gets the next request, and how they all are.
//!
//! `balance` decides, `pool` keeps count and looks after the servers, `check` asks one how it is,
//! `judge` and `status` say what answers mean. The requests themselves are carried by
//! `proxy::nextcloud`.

mod check;
mod config;
pub mod judge;
mod pool;
mod pools;
mod status;

pub use config::{Check, Checks, Config, PoolConfig, RouteConfig, ServerConfig};
pub use pool::{Place, Pool};
pub use pools::{Found, Pools};
