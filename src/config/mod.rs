//! The configuration file: read once at start, checked whole, handed out as finished values.
//!
//! Every room owns its `Config`; this room stands above them and builds them. `file` walks the
//! TOML, `value` reads single values, `problem` is what the admin is told, `parse` goes through the
//! sections, of which `galera`, `home`, `members`, `page`, `public`, `serve`, `tenants`, `web` and `routers` read their own. `env` makes
//! the same of HaRP's environment variables, `from_env` reads them; `keepalived` writes such a file
//! from a `keepalived.conf`. `changes` compares what two files say. Every key is described in `docs/reference/config.md`.

mod changes;
pub mod env;
mod failover;
pub mod file;
pub mod from_env;
mod galera;
mod home;
pub mod keepalived;
mod members;
mod page;
pub mod parse;
pub mod problem;
mod public;
mod routers;
mod serve;
mod tenants;
pub mod value;
mod web;

pub use changes::Written;
pub use home::{Home, host_name, load as load_home};
pub use parse::{Config, Node, load, load_routers};
pub use problem::{Problem, Problems};
pub use serve::Serve;
pub use tenants::TenantConfig;
