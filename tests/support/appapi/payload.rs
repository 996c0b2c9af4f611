//! An app, and the bodies AppAPI sends about it.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::Daemon;

/// An app as Nextcloud knows it.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) secret: String,
    /// Remote port of its tunnel.
    pub(crate) port: u16,
    /// `name:tag`.
    pub(crate) image: String,
}

/// Routes of every app here: pattern and access level.
pub(crate) const ROUTES: [(&str, u8); 2] = [("^/public", 0), ("^/user", 1)];

impl App {
    /// Names the container; `instance_id` is always empty.
    pub(super) fn name(&self) -> Value {
        json!({ "name": self.id, "instance_id": "" })
    }

    pub(super) fn removal(&self, data: bool) -> Value {
        json!({ "name": self.id, "instance_id": "", "remove_data": data })
    }

    pub(super) fn creation(&self, daemon: &Daemon, version: &str, limits: bool) -> Value {
        let variables = [
            ("AA_VERSION", version.to_owned()),
            ("APP_SECRET", self.secret.clone()),
            ("APP_ID", self.id.clone()),
            ("APP_DISPLAY_NAME", format!("The app {}", self.id)),
            ("APP_VERSION", self.version.clone()),
            ("APP_HOST", "127.0.0.1".to_owned()),
            ("APP_PORT", self.port.to_string()),
            ("APP_PERSISTENT_STORAGE", format!("/nc_app_{}_data", self.id)),
            ("NEXTCLOUD_URL", format!("http://{}/index.php", daemon.server)),
            ("COMPUTE_DEVICE", "CPU".to_owned()),
            ("HP_FRP_ADDRESS", daemon.frp.ip().to_string()),
            ("HP_FRP_PORT", daemon.frp.port().to_string()),
            ("HP_SHARED_KEY", daemon.key.to_owned()),
        ];
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut body = json!({
            "name": self.id,
            "instance_id": "",
            "image_id": self.image,
            "network_mode": "host",
            "environment_variables": variables,
            "restart_policy": "unless-stopped",
            "compute_device": "cpu",
            "mount_points": [],
            "start_container": true,
        });
        if limits {
            body["resource_limits"] = json!({ "memory": 268_435_456, "nanoCPUs": null });
        }
        body
    }

    pub(super) fn certificates(&self, bundle: usize) -> Value {
        let certificate = certificate();
        json!({
            "name": self.id,
            "instance_id": "",
            "system_certs_bundle": certificate.repeat(bundle / certificate.len() + 1),
            "install_frp_certs": true,
        })
    }

    /// The record pushed at the end of an enable: neither verbs nor excluded headers.
    pub(super) fn record(&self) -> Value {
        let route = |(url, level): (&str, u8)| json!({ "url": url, "access_level": level, "bruteforce_protection": [] });
        json!({
            "exapp_token": self.secret,
            "exapp_version": self.version,
            "host": "127.0.0.1",
            "port": self.port,
            "routes": ROUTES.map(route),
        })
    }
}

/// One real certificate; a bundle repeats it.
fn certificate() -> &'static str {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| {
        rcgen::generate_simple_self_signed(["bundle.test".to_owned()]).unwrap().cert.pem()
    })
}
