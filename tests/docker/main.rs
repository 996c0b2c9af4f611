//! AppAPI's actions on a real Docker engine: a container is created, given its certificates,
//! started, reached through its tunnel, updated and removed, with a real `trigon run`, a stock
//! frpc inside the container and one on a remote engine, each machine in its own namespace.
//! Needs root, iproute2 and docker.io, whose own daemon is neither needed nor touched.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

mod failover;
mod faults;
mod harness;
mod life;
mod local;
mod machine;
mod pair;
mod remote;
