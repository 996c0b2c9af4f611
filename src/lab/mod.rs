//! `trigon lab`: a whole pair, with a witness or without, on one machine, a real fault, and what it
//! cost.
//!
//! As root the lab makes network namespaces joined by a bridge, runs real `trigon run` processes
//! in them, puts an ExApp behind a tunnel, drives load at the virtual IP, injects a fault and
//! measures the outage from outside. `docs/reference/lab.md` defines every figure.
//!
//! Start reading at [`run()`]; `topology` builds the place, `formation` the cluster, `rounds` is the experiment, `moment`
//! chooses when a fault strikes, `trials` follows a broken network to its end, `soak` is the
//! experiment without a fault, `gauges` all that measures, `trace` and [`report`] are the arithmetic (sans-io). [`namespaces`],
//! [`nextcloud`], [`exapp`], [`journal`] and [`probe`] know nothing of the lab and serve the
//! integration tests as well.

mod answers;
mod configs;
mod console;
mod error;
pub mod exapp;
mod faults;
mod formation;
mod galera;
mod gauges;
pub mod journal;
mod load;
pub mod moment;
pub mod namespaces;
pub mod nextcloud;
mod node;
mod options;
mod ports;
pub mod probe;
pub mod report;
mod request;
mod rounds;
mod run;
mod soak;
mod sockets;
mod tally;
mod topology;
pub mod trace;
mod transactions;
mod trials;
mod tunnel;
mod web;

pub use error::Error;
pub use options::{Fault, Options};
pub use report::{Outcome, Soak};
pub use run::{Verdict, run};
