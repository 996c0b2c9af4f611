//! Who belongs to the cluster, and what admits more. Sans-io.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Feature level of this release: raised when members must agree on something new.
pub const FEATURE: u16 = 1;

/// Members of a cluster, at most.
pub const MAX_MEMBERS: usize = 32;

/// Tokens kept, at most.
pub const MAX_TOKENS: usize = 256;

/// Nodes one token can admit, at most.
pub const MAX_USES: u16 = 32;

/// A spent or expired token is forgotten this long after its end.
pub const TOKEN_MEMORY: Millis = 24 * 3_600_000;

/// What a member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A load balancer.
    Node,
    /// The third vote: same engine, serves nothing, hands leadership over.
    Witness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Node => "node",
            Self::Witness => "witness",
        })
    }
}

/// One member, as the whole cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number, for ever.
    pub id: NodeId,
    /// What people call it; unique in the cluster.
    pub name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where it listens for peers; none for a cluster of one without a listener.
    pub address: Option<SocketAddr>,
    /// How often it came back with an empty log by consent of the cluster.
    pub incarnation: u32,
    /// Feature level of the release it runs.
    pub feature: u16,
    /// When it became a member.
    pub since: Millis,
    /// What it said about its certificates; none until it has started.
    pub papers: Option<Papers>,
}

/// Which authorities a member knows and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Papers {
    /// Serial of the newest authority it trusts.
    pub trusts: u32,
    /// Serial of the authority that issued its certificate.
    pub issued_by: u32,
}

/// What a member says about itself when something of it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who says it.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Feature level of its release.
    pub feature: u16,
    /// Its certificates.
    pub papers: Option<Papers>,
}

/// A certificate authority of the peer port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAuthority {
    /// Counts the authorities of the cluster.
    pub serial: u32,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, sealed with the KEK.
    pub key: Vec<u8>,
}

/// What the first leader of a new cluster brings in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Founders {
    /// The authority its certificates come from.
    pub authority: ClusterAuthority,
    /// The members prepared with it.
    pub members: Vec<Member>,
}

/// Names a token in lists and logs; no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 5]);

/// A text that names no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the 8 characters `token list` shows")]
pub struct NotATokenId;

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for TokenId {
    type Err = NotATokenId;

    fn from_str(text: &str) -> Result<Self, NotATokenId> {
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes());
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotATokenId)
    }
}

impl Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 5]>::deserialize(deserializer).map(Self)
        }
    }
}

/// What admits a node, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// SHA-256 of its secret part.
    pub hash: [u8; 32],
    /// What it admits.
    pub role: Role,
    /// Made by this member.
    pub by: NodeId,
    /// When it was made.
    pub since: Millis,
    /// Admits nobody from this moment on.
    pub expires_at: Millis,
    /// How many more it admits.
    pub uses_left: u16,
    /// Whom it has admitted: which attempt, and the number given.
    pub admitted: Vec<(Attempt, NodeId)>,
}

/// Names one attempt of a machine to join, so that repeating it after a lost answer gives the same
/// number: the first half of the SHA-256 of its public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt(pub [u8; 16]);

/// A node that shows a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applicant {
    /// Which token.
    pub token: TokenId,
    /// SHA-256 of the secret it showed.
    pub hash: [u8; 32],
    /// Which attempt this is.
    pub attempt: Attempt,
    /// What people call it.
    pub name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where it will listen.
    pub address: SocketAddr,
    /// Feature level of its release.
    pub feature: u16,
    /// When it asked, by the clock of the node that was asked.
    pub at: Millis,
}

/// Why the state did not do what was asked about members and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such token, or its secret is another one.
    WrongToken,
    /// It has admitted everybody it could.
    SpentToken,
    /// Its time is over.
    ExpiredToken,
    /// It admits another role.
    WrongRole,
    /// Another member has that name.
    NameTaken,
    /// Another member has that address.
    AddressTaken,
    /// There are as many members or tokens as there can be.
    Full,
    /// There is no such member.
    NotAMember,
    /// Without it no load balancer would be left.
    LastNode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_eight_characters_in_either_case() {
        let id = TokenId([0xff, 0, 1, 2, 3]);
        let text = id.to_string();
        assert_eq!(text.len(), 8);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(id));
        for wrong in ["", "abc", "abcdefgh1", "abcdefg!"] {
            assert_eq!(wrong.parse::<TokenId>(), Err(NotATokenId), "{wrong}");
        }
    }
}
