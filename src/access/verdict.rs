//! How a decision ends: what to do with the request, and whether the client is charged for it.
//! Sans-io.
//!
//! Turning an [`Outcome`] into bytes is `proxy::answer`'s work, into a request `proxy::rewrite`'s.

use std::sync::Arc;

use cluster::record::ExApp;

/// The end of a [`Decision`](super::Decision).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'r> {
    /// What happens to the request.
    pub outcome: Outcome<'r>,
    /// Whether to count a failure against the true client, never against the proxy in front of it
    /// (HaRP charges the TCP peer for a wrong key in a signed request, weakness W5).
    pub strike: bool,
    /// Why, for logs and counters. Not for the client.
    pub reason: Reason,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// Send it to the ExApp.
    Forward(Grant<'r>),
    /// It is a call of the control API; the key has been checked.
    ControlApi {
        /// Path without the `/exapps/app_api` prefix; the query is the caller's.
        path: &'r str,
    },
    /// It is a call for a Docker engine; the key has been checked, the allow-list has not.
    DockerEngine {
        /// Registered port of the engine.
        port: u16,
        /// Path without the `/exapps/app_api` prefix; the query is the caller's.
        path: &'r str,
    },
    /// Abandon the connection without an answer.
    SilentDrop,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 503.
    Unavailable,
}

/// Why a decision ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An ordinary request that may pass.
    Allowed,
    /// A request signed by AppAPI with the right key.
    Signed,
    /// A control or engine call with the right key.
    Control,
    /// The client has failed too often lately.
    Banned,
    /// The path holds a parent-directory segment.
    ParentSegment,
    /// No app id could be read from the path.
    NoAppId,
    /// The shared key is missing or wrong where only its holder may pass.
    WrongKey,
    /// The key holder named an engine or ExApp port that is not a port.
    BadPort,
    /// Nextcloud knows no such ExApp.
    UnknownApp,
    /// Nextcloud has taken the ExApp's record back.
    Withdrawn,
    /// Nextcloud could not be asked about the ExApp.
    AppLookupFailed,
    /// An ordinary visitor asked for an endpoint only AppAPI may call.
    InternalEndpoint,
    /// No route matched.
    NoRoute,
    /// A route pattern needed more steps than it is given, so nothing is known about the path.
    RouteTooCostly,
    /// The route needs a higher access level than the visitor has.
    AccessDenied,
    /// Nextcloud could not be asked about the visitor.
    UserLookupFailed,
    /// The shell supplied an answer to a question that was not open.
    OutOfTurn,
}

impl Reason {
    /// A stable word for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Signed => "signed",
            Self::Control => "control",
            Self::Banned => "banned",
            Self::ParentSegment => "parent_segment",
            Self::NoAppId => "no_app_id",
            Self::WrongKey => "wrong_key",
            Self::BadPort => "bad_port",
            Self::UnknownApp => "unknown_app",
            Self::Withdrawn => "withdrawn",
            Self::AppLookupFailed => "app_lookup_failed",
            Self::InternalEndpoint => "internal_endpoint",
            Self::NoRoute => "no_route",
            Self::RouteTooCostly => "route_too_costly",
            Self::AccessDenied => "access_denied",
            Self::UserLookupFailed => "user_lookup_failed",
            Self::OutOfTurn => "out_of_turn",
        }
    }
}

/// Everything needed to forward an allowed request (contract 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant<'r> {
    /// `EX-APP-ID`: the id exactly as the client typed it.
    pub app_id: &'r str,
    /// Path for the ExApp, undecoded and never empty; the query is the caller's.
    pub path: &'r str,
    /// Where the ExApp is and how it proves itself.
    pub upstream: Upstream<'r>,
    /// What `AUTHORIZATION-APP-API` shall carry.
    pub authorization: Authorization,
    /// Response statuses that count as a failure of the client; empty for signed requests.
    pub bruteforce_statuses: Vec<u16>,
}

/// Where an ExApp is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream<'r> {
    /// As Nextcloud describes it.
    Known(Arc<ExApp>),
    /// As AppAPI's own headers say, while Nextcloud does not describe it yet (contract 1.2,
    /// step 6: between install and enable).
    Announced {
        /// Value of `ex-app-host`, not empty.
        host: &'r str,
        /// Value of `ex-app-port`.
        port: u16,
        /// Value of `ex-app-version`.
        version: &'r str,
    },
}

impl Upstream<'_> {
    /// `127.0.0.1` for tunnels, else a name or address.
    pub fn host(&self) -> &str {
        match self {
            Self::Known(app) => &app.host,
            Self::Announced { host, .. } => host,
        }
    }

    /// Port at the host, or the tunnel's registered port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Known(app) => app.port,
            Self::Announced { port, .. } => *port,
        }
    }

    /// `EX-APP-VERSION`.
    pub fn version(&self) -> &str {
        match self {
            Self::Known(app) => &app.version,
            Self::Announced { version, .. } => version,
        }
    }

    /// The ExApp's secret; empty while it is only announced. Never log it.
    pub fn token(&self) -> &str {
        match self {
            Self::Known(app) => &app.token,
            Self::Announced { .. } => "",
        }
    }
}

/// What `AUTHORIZATION-APP-API` shall carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// AppAPI's own value, which is in the request already.
    AsSigned,
    /// Base64 of `<user id>:<token>`, with the token of [`Grant::upstream`].
    Visitor {
        /// Nextcloud user id, empty for an anonymous visitor.
        user_id: String,
    },
}
