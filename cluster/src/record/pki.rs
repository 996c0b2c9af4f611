//! The certificates of the FRP port, the same on every node. Sans-io.

use serde::{Deserialize, Serialize};

/// CA, server and client certificate of the FRP port. Private keys are sealed by the frp room
/// under a key derived from the shared key, so a witness (which has no shared key) cannot read
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrpPki {
    /// CA certificate, PEM.
    pub ca_certificate: String,
    /// CA key, sealed.
    pub ca_key: Vec<u8>,
    /// Server certificate (`harp.nc`), PEM.
    pub server_certificate: String,
    /// Server key, sealed.
    pub server_key: Vec<u8>,
    /// Client certificate (`harp.client.nc`), PEM.
    pub client_certificate: String,
    /// Client key, sealed.
    pub client_key: Vec<u8>,
}
