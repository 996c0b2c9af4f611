//! Real nodes in one process: files in a temporary directory, TLS over loopback.

#![expect(clippy::unwrap_used, reason = "a helper that fails must fail its test")]

mod certificates;
mod joining;
mod link;
mod membership;
mod pair;
mod partition;
mod promotion;
mod relay;
mod restore;
mod sealing;
mod single;
mod strangers;
mod support;
mod three;
