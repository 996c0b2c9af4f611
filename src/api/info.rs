//! `GET /heartbeat` and `GET /info` (contract 3.1).

use serde::Serialize;

/// The HaRP this build stands in for: AppAPI compares it with the least version it wants.
const HARP_VERSION: &str = "0.4.4";

/// Body of `/heartbeat`.
pub const HEARTBEAT: &str = r#"{"status":"ok"}"#;

/// Body of `/info`.
#[derive(Debug, Serialize)]
pub struct Info {
    version: &'static str,
    docker: bool,
    kubernetes: Kubernetes,
    trigon: Trigon,
}

#[derive(Debug, Serialize)]
struct Kubernetes {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct Trigon {
    version: &'static str,
}

impl Info {
    /// What this node can do; `docker` tells whether it has an engine to call.
    pub fn current(docker: bool) -> Self {
        Self {
            version: HARP_VERSION,
            docker,
            kubernetes: Kubernetes { enabled: false },
            trigon: Trigon { version: env!("CARGO_PKG_VERSION") },
        }
    }
}
