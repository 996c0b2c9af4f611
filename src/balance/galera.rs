//! The nodes of a MariaDB Galera cluster: who may get sessions, and who of them writes. Sans-io.
//!
//! `reading` is what one node says of itself, `verdict` what that is worth, `vote` what it is
//! worth beside what the others say, `board` the memory in between, `helm` the writer. Words come
//! in with their moment, opinions go out; `crate::database` asks the nodes and carries sessions.
//!
//! Why one node's word is not enough: a node that was frozen, or is cut off from the others, says
//! "Synced, ready, Primary" for seconds after the others have gone on without it (six with default
//! timers). And why a slow answer is not death: while the others evict such a node their commits
//! stall, and they are the only ones that are right.

pub mod board;
pub mod helm;
pub mod reading;
pub mod timers;
pub mod verdict;
mod vote;

pub use board::{Board, Word};
pub use helm::{Agreed, Helm, Order};
pub use reading::Reading;
pub use verdict::{Fit, Reason, Verdict};
