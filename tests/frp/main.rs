//! The FRP server against stock frpc of both ends of the version range: real processes on
//! loopback, a real node, traffic all the way from HTTP to the ExApp's unix socket.

#[path = "../support/mod.rs"]
mod support;

mod garbage;
mod refusals;
mod traffic;
