//! The FRP server against stock frpc of both ends of the version range: real processes on
//! loopback, a real node, traffic all the way from HTTP to the ExApp's unix socket.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod garbage;
mod refusals;
mod traffic;
