//! Certificates from an authority that speaks ACME (RFC 8555), ordered by one load balancer and
//! shown by all.
//!
//! `plan` decides when an order is due and for which node, `order` goes through one with the
//! authority, `keeper` does both in time and puts what was issued into force, `transport` carries the
//! calls. Everything between two steps lies in the cluster (`cluster::record::Acme`): the account,
//! so that there is one; the answers to challenges, because the authority may ask any node; the
//! certificate; and who orders, so that another takes over when that node is gone.

mod keeper;
mod order;
mod plan;
mod transport;

use std::path::PathBuf;

use cluster::ProposeError;

pub use keeper::Keeper;

/// What is ordered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// URL of the authority's directory.
    pub directory: String,
    /// The names of the certificate, lower-cased; the same on every node.
    pub names: Vec<String>,
    /// Whom the authority may write to.
    pub contact: Option<String>,
    /// PEM: the authorities that vouch for the directory's server, in place of the machine's.
    pub authorities: Option<PathBuf>,
}

impl Config {
    /// Let's Encrypt.
    pub const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A witness has no key to seal or open with.
    #[error("acme: this member has no cluster key")]
    NoClusterKey,
    /// The directory's URL cannot be called.
    #[error("acme: {0:?} is not a usable URL; expected https://host[:port]/path")]
    Url(String),
    /// The authorities of the directory's server cannot be used.
    #[error("public.acme.authorities: {0}")]
    Authorities(String),
    /// TLS could not be set up.
    #[error("acme: TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// The authority refused, or could not be asked.
    #[error("the authority: {0}")]
    Authority(#[source] instant_acme::Error),
    /// It found that a name does not lead here, or the like.
    #[error("the authority did not accept {0}")]
    NotValid(String),
    /// It offers no challenge that can be answered here.
    #[error("the authority offers no http-01 challenge for {0}")]
    NoChallenge(String),
    /// It did not come to an end with the order.
    #[error("the authority did not answer the order in time")]
    TimedOut,
    /// What it issued or what is made for it is not usable.
    #[error("the certificate request or what was issued for it: {0}")]
    Certificate(String),
    /// Another node is at it, or has changed something meanwhile.
    #[error("another node sees to it")]
    Taken,
    /// The cluster did not confirm a step.
    #[error("the cluster did not confirm a step of the order")]
    Unconfirmed(#[source] ProposeError),
}
