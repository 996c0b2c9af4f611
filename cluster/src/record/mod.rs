//! The replicated records, which are also the product's vocabulary. Sans-io: plain values.
//!
//! Times are [`Millis`] of wall-clock time and travel inside the records; whoever reads a record
//! judges expiry, so that applying the same log gives the same bytes on every node.

mod acme;
mod ban;
mod event;
mod exapp;
mod member;
mod pki;
mod session;
mod tenant;
mod tunnel;
mod writer;

pub use acme::{
    Acme, AcmeAccount, AcmeCertificate, AcmeFailure, AcmeOrder, MAX_ACME_NAMES, MAX_ACME_REASON,
};
pub use ban::{
    Ban, MAX_BANS, MAX_PARDONS, MAX_REASON, MAX_STRIKE_AGE, MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY,
    NotASubnet, Strike, Subnet, ban_key,
};
pub use event::{Event, MAX_EVENT_KIND, MAX_EVENT_TEXT, MAX_EVENTS};
pub use exapp::{AccessLevel, ExApp, MAX_EXAPPS, Route, SealedExApp};
pub use member::{
    Announcement, Applicant, Attempt, ClusterAuthority, FEATURE, Founders, MAX_MEMBERS, MAX_TOKENS,
    MAX_USES, Member, NotATokenId, Papers, Refusal, Role, TOKEN_MEMORY, Token, TokenId,
};
pub use pki::{FrpAuthority, FrpCertificate, FrpPki, MAX_AUTHORITIES};
pub use session::{
    MAX_LIFETIME, MAX_SESSIONS, MAX_USER_ID, Moment, SLACK, Session, SessionKey, User,
};
pub use tenant::Tenant;
pub use tunnel::{MAX_TUNNELS, Tunnel, TunnelKey, TunnelStamp};
pub use writer::{MAX_WRITER_NAME, Writer};

/// Identifies a node for ever: never reused after a wipe or a removal.
pub type NodeId = u64;

/// Milliseconds since the Unix epoch.
pub type Millis = u64;
