//! What a machine that wants to join says, and what it is told. Sans-io.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::passport::Seed;
use crate::record::{Millis, NodeId, Refusal, Role, TokenId};

/// Most addresses of others a refused machine is told.
pub(crate) const MAX_OTHERS: usize = 8;

/// A machine shows its token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) token: TokenId,
    /// The secret part of the token.
    pub(crate) secret: Vec<u8>,
    /// A certificate signing request, DER.
    pub(crate) request: Vec<u8>,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
    /// Feature level of its release.
    pub(crate) feature: u16,
    /// Its wall clock.
    pub(crate) now: Millis,
    /// The number its directory still holds a passport for, in the same cluster.
    pub(crate) former: Option<NodeId>,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("token", &self.token)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Everything a new member needs.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) group: Group,
    pub(crate) cluster_name: String,
    pub(crate) number: NodeId,
    /// Its certificate with that of the issuer, PEM.
    pub(crate) certificate: String,
    /// The authorities to trust, PEM.
    pub(crate) authorities: String,
    pub(crate) members: Vec<Seed>,
    /// The key of the cluster; a witness gets none.
    pub(crate) kek: Option<Vec<u8>>,
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Welcome")
            .field("group", &self.group)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Why a machine is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotWelcome {
    /// The state says no: the token, the name, the address.
    Refused(Refusal),
    /// Its clock is too far from that of the node it asked.
    Clock { ours: Millis },
    /// Its release is too far from that of the node it asked.
    Version { ours: u16 },
    /// It was a member under this number and was removed.
    Removed(NodeId),
    /// It is a member under this number.
    StillMember(NodeId),
    /// No quorum confirmed it; it may have been admitted.
    NoQuorum,
    /// This node cannot admit anybody; these can.
    AskAnother(Vec<SocketAddr>),
    /// Too many tries from its address.
    TooMany,
    /// Its request makes no sense, in these words.
    Malformed(String),
}
