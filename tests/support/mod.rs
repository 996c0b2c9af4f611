//! What whole-system tests share: a real `trigon run` on loopback, real frpc processes, a
//! stand-in Nextcloud, and a plain HTTP client. Everything ends with the value that holds it.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

pub(crate) mod appapi;
pub(crate) mod engine;
pub(crate) mod frpc;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod node;
pub(crate) mod registry;

use std::future::Future;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A port nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Polls until `probe` gives a value; fails the test after a generous limit, telling `what`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    // A disk that has to swallow somebody else's gigabytes may take most of a minute to sync.
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < limit, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
