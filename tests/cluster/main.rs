//! Whole clusters of real processes in network namespaces, and everything that happens to them.
//!
//! `table` holds what an operator may expect, row by row; `quorum` makes the failures and `judge`
//! holds the place against the row, `document` the page `docs/reference/failures.md`. `guests` is about
//! what nodes tell each other about clients, `strangers` about what comes to the cluster port. The rest builds the place: `place`, `machine`,
//! `disk`, `tunnel`, `users`, and `forming`, the only one that knows how members find each other.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../../cluster/tests/common/linearizability.rs"]
#[expect(dead_code, reason = "the simulation also checks refreshes")]
mod linearizability;

mod damage;
mod disk;
mod document;
mod forming;
mod guests;
mod history;
mod judge;
mod machine;
mod pairs;
mod place;
mod quorum;
mod strangers;
mod table;
mod tunnel;
mod users;
