//! What Nextcloud tells about an ExApp (contract 2.1). Sans-io.

use serde::{Deserialize, Serialize};

/// Most ExApp records kept; the one changed longest ago makes room.
pub const MAX_EXAPPS: usize = 1024;

/// Who may use a route; the order is HaRP's (0 PUBLIC, 1 USER, 2 ADMIN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccessLevel {
    /// Anyone, logged in or not.
    Public,
    /// Any enabled Nextcloud user.
    User,
    /// Members of the admin group.
    Admin,
}

impl AccessLevel {
    /// The level for Nextcloud's number; `None` for numbers Nextcloud does not define.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Public),
            1 => Some(Self::User),
            2 => Some(Self::Admin),
            _ => None,
        }
    }
}

/// One route of an ExApp, in the order Nextcloud stored it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Pattern in Python `re.match` semantics, matched against the target path.
    pub url: String,
    /// Level a visitor needs.
    pub access_level: AccessLevel,
    /// Response statuses that count as a failure of the visitor.
    pub bruteforce_protection: Vec<u16>,
}

/// An ExApp as Nextcloud describes it. The token is the ExApp's secret: never log a record. It
/// cannot be stored or sent; [`SealedExApp`] can.
#[derive(Clone, PartialEq, Eq)]
pub struct ExApp {
    /// Lower-cased id, the key of the record.
    pub id: String,
    /// The ExApp's secret.
    pub token: String,
    /// Version sent as `EX-APP-VERSION`.
    pub version: String,
    /// `127.0.0.1` for tunnels, else a name or address.
    pub host: String,
    /// Port at the host, or the tunnel's registered port.
    pub port: u16,
    /// Routes in stored order; the first match decides.
    pub routes: Vec<Route>,
}

impl std::fmt::Debug for ExApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExApp")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("routes", &self.routes.len())
            .finish_non_exhaustive()
    }
}

/// An ExApp as the nodes share it: whoever has no key of the cluster, such as a witness, cannot
/// read its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedExApp {
    /// Lower-cased id, the key of the record.
    pub id: String,
    /// The ExApp's secret, sealed; empty when the node that made the record had no key.
    pub token: Vec<u8>,
    /// Version sent as `EX-APP-VERSION`.
    pub version: String,
    /// `127.0.0.1` for tunnels, else a name or address.
    pub host: String,
    /// Port at the host, or the tunnel's registered port.
    pub port: u16,
    /// Routes in stored order; the first match decides.
    pub routes: Vec<Route>,
}
