//! Our own yamux, server role: many streams over one tunnel connection.
//!
//! Written for one peer, stock frpc: every SYN is acknowledged at once, a slow stream never stops
//! the others, FIN goes out once, ping replies overtake data. `frame` and `session` decide,
//! `shell` moves bytes, `handle` is what callers hold.
//!
//! Dropping [`Incoming`] ends the session.

mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
mod keepalive;
mod session;
mod shell;
mod stream;
mod terms;

pub use handle::{Control, Incoming, MuxStream};
pub use shell::serve;
pub use terms::{CloseReason, Config, Violation};
