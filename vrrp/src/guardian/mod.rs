//! The guardian: a second, tiny process that ends in order what a dead worker leaves behind.
//!
//! The worker (the process with the VRRP thread) may be killed or crash as Active. Its kernel
//! lives on and holds the virtual addresses until their lease ends, while the Backup waits for
//! Active_Down_Timer. The guardian turns that into a goodbye: it holds one end of a socket pair,
//! and when the worker's end closes without having given up being Active, it says what a leaving
//! Active says and removes the addresses.
//!
//! It knows nothing of VRRP. Whenever a router becomes or ceases to be Active the VRRP thread
//! leaves a *will* (`will.rs`) with it: the finished farewell messages, the addresses, and a
//! second hand on the very socket the worker sends from. `notary.rs` and `lifeline.rs` are the
//! worker's side, `guard.rs` is the guardian's.

mod guard;
mod lifeline;
mod notary;
mod will;

pub use guard::{Ending, keep_watch};
pub use lifeline::{Lifeline, Observer, pair};
pub(crate) use notary::{Estate, Notary};
