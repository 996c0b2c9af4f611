//! Our own yamux, server role: many streams over one tunnel connection.
//!
//! Written for one peer, stock frpc: every SYN is acknowledged at once, a slow stream never stops
//! the others, FIN goes out once, ping replies overtake data. `frame` and `session` decide,
//! `shell` moves bytes, `handle` is what callers hold.
//!
//! Dropping [`Incoming`] ends the session.

mod frame;
mod handle;
mod session;
mod shell;
mod stream;

pub use handle::{Control, Incoming, MuxStream};
pub use session::{CloseReason, Config, Violation};
pub use shell::serve;
