//! The decision itself: contract 1.2, steps 2 to 8, in that order. Sans-io.
//!
//! ```text
//! start ──────────────────────────────┬─────────────────────────► Done
//!   └─► Need(ExApp) ── supply ────────┤
//!          └─► Need(User) ── supply ──┘
//! ```
//!
//! Every step is one function that either ends the decision or names the next fact. Step 1 (the
//! true client) is `http::client_ip`, steps 9 and 10 are `proxy`.

use std::sync::Arc;

use cluster::record::{AccessLevel, ExApp, User};

use super::path::{AppId, CONTROL_ID, ExAppPath, canonical, has_parent_segment};
use super::request::{AccessRequest, Signed};
use super::routes::{CompiledRoutes, Ruling};
use super::verdict::{Authorization, Grant, Outcome, Reason, Upstream, Verdict};

/// Endpoints only AppAPI may call (step 8).
const INTERNAL_ENDPOINTS: [&str; 3] = ["/heartbeat", "/init", "/enabled"];

/// A decision under way.
#[derive(Debug)]
pub struct Decision<'r> {
    request: AccessRequest<'r>,
    state: State<'r>,
}

#[derive(Debug)]
enum State<'r> {
    AwaitsApp { path: ExAppPath<'r>, id: AppId },
    AwaitsUser { path: ExAppPath<'r>, app: Arc<ExApp>, access: Access },
    Done,
}

/// What the routes demand and promise once they have matched.
#[derive(Debug)]
struct Access {
    needs: AccessLevel,
    bruteforce_statuses: Vec<u16>,
}

/// What the shell has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'r> {
    /// Find this out and hand it to [`Decision::supply`].
    Need(Fact),
    /// The decision has been made; drop the machine.
    Done(Verdict<'r>),
}

/// Something only the shell can find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The record of an ExApp; the answer is [`Answer::ExApp`].
    ExApp(AppId),
    /// Whose credentials the request carries, asked on behalf of this ExApp; the answer is
    /// [`Answer::User`].
    User(AppId),
}

/// An answer to a [`Fact`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The ExApp, or `None` when Nextcloud knows none.
    ExApp(Result<Option<KnownApp>, LookupFailed>),
    /// Nextcloud has taken the ExApp's record back: it is disabled or being removed.
    Withdrawn,
    /// The user, or `None` when Nextcloud recognises nobody.
    User(Result<Option<User>, LookupFailed>),
}

/// A record with its routes compiled. Whoever caches records keeps the two together.
#[derive(Clone, Debug)]
pub struct KnownApp {
    /// The record.
    pub record: Arc<ExApp>,
    /// Its routes.
    pub routes: Arc<CompiledRoutes>,
}

impl KnownApp {
    /// Compiles the routes of `record`.
    pub fn new(record: Arc<ExApp>) -> Self {
        let routes = Arc::new(CompiledRoutes::new(&record.routes));
        Self { record, routes }
    }
}

/// Nextcloud could not be asked: unreachable, too slow, or not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupFailed;

impl<'r> Decision<'r> {
    /// Begins with a request and whether the guard has banned its true client.
    pub fn start(request: AccessRequest<'r>, banned: bool) -> (Self, Step<'r>) {
        let mut decision = Self { request, state: State::Done };
        let step = decision.open(banned);
        (decision, step)
    }

    /// Hands over the fact that was asked for. An answer nobody asked for ends the decision in
    /// [`Outcome::Unavailable`].
    pub fn supply(&mut self, answer: Answer) -> Step<'r> {
        match (std::mem::replace(&mut self.state, State::Done), answer) {
            (State::AwaitsApp { path, id }, Answer::ExApp(found)) => self.with_app(path, id, found),
            (State::AwaitsApp { path, .. }, Answer::Withdrawn) => self.without_app(path),
            (State::AwaitsUser { path, app, access }, Answer::User(found)) => {
                with_user(path, app, access, found)
            }
            _ => refuse(Outcome::Unavailable, Reason::OutOfTurn),
        }
    }

    /// Steps 2 to 6, as far as they need no fact.
    fn open(&mut self, banned: bool) -> Step<'r> {
        let request = self.request;
        if banned {
            return refuse(Outcome::SilentDrop, Reason::Banned);
        }
        if has_parent_segment(request.path) {
            return refuse_and_strike(
                Outcome::SilentDrop,
                Reason::ParentSegment,
                !request.key_valid,
            );
        }
        let Some(path) = ExAppPath::split(request.path) else {
            return refuse_and_strike(Outcome::NotFound, Reason::NoAppId, !request.key_valid);
        };
        if path.display_id == CONTROL_ID {
            return control(&request, path.target);
        }
        if request.signed.is_some() && !request.key_valid {
            return refuse_and_strike(Outcome::SilentDrop, Reason::WrongKey, true);
        }
        let id = AppId::from_display(path.display_id);
        self.state = State::AwaitsApp { path, id: id.clone() };
        Step::Need(Fact::ExApp(id))
    }

    /// An ExApp that is disabled. Visitors with an open page go on asking for a while, so it costs
    /// them nothing; AppAPI is still let through to it.
    fn without_app(&self, path: ExAppPath<'r>) -> Step<'r> {
        match self.request.signed.filter(|signed| signed.has_authorization) {
            Some(signed) => forward_signed(path, signed, Ok(None)),
            None => refuse(Outcome::NotFound, Reason::Withdrawn),
        }
    }

    /// Steps 6 to 8, up to the visitor.
    fn with_app(
        &mut self,
        path: ExAppPath<'r>,
        id: AppId,
        found: Result<Option<KnownApp>, LookupFailed>,
    ) -> Step<'r> {
        // An empty signature is none: the key has been checked, but the routes apply.
        if let Some(signed) = self.request.signed.filter(|signed| signed.has_authorization) {
            return forward_signed(path, signed, found);
        }
        let app = match found {
            Ok(Some(app)) => app,
            Ok(None) => {
                let strike = !self.request.key_valid;
                return refuse_and_strike(Outcome::NotFound, Reason::UnknownApp, strike);
            }
            Err(LookupFailed) => return refuse(Outcome::Unavailable, Reason::AppLookupFailed),
        };
        let access = match judge(&app.routes, path.target) {
            Ok(access) => access,
            Err(Reason::InternalEndpoint) => {
                let reason = Reason::InternalEndpoint;
                return refuse_and_strike(Outcome::SilentDrop, reason, true);
            }
            Err(reason) => return refuse_and_strike(Outcome::NotFound, reason, true),
        };
        if !self.request.has_credentials {
            return with_user(path, app.record, access, Ok(None));
        }
        self.state = State::AwaitsUser { path, app: app.record, access };
        Step::Need(Fact::User(id))
    }
}

/// Step 5: only holders of the key get past this point.
fn control<'r>(request: &AccessRequest<'r>, path: &'r str) -> Step<'r> {
    if !request.key_valid {
        return refuse_and_strike(Outcome::Unauthorized, Reason::WrongKey, true);
    }
    let engine = request.docker_engine_port.filter(|port| !port.is_empty());
    let outcome = match engine.filter(|_| !path.starts_with("/docker/")) {
        None => Outcome::ControlApi { path },
        Some(port) => match parse_port(port) {
            Some(port) => Outcome::DockerEngine { port, path },
            None => return refuse(Outcome::Unavailable, Reason::BadPort),
        },
    };
    Step::Done(Verdict { outcome, strike: false, reason: Reason::Control })
}

/// Step 6 with the right key: no route is looked at, and an ExApp Nextcloud does not describe
/// yet is where AppAPI's headers say it is.
fn forward_signed<'r>(
    path: ExAppPath<'r>,
    signed: Signed<'r>,
    found: Result<Option<KnownApp>, LookupFailed>,
) -> Step<'r> {
    let upstream = match found {
        Ok(Some(app)) => Upstream::Known(app.record),
        Ok(None) | Err(LookupFailed) => {
            let Some(port) = parse_port(signed.port) else {
                return refuse(Outcome::Unavailable, Reason::BadPort);
            };
            if signed.host.is_empty() {
                return refuse(Outcome::NotFound, Reason::UnknownApp);
            }
            Upstream::Announced { host: signed.host, port, version: signed.version }
        }
    };
    let grant = Grant {
        app_id: path.display_id,
        path: path.target,
        upstream,
        authorization: Authorization::AsSigned,
        bruteforce_statuses: Vec::new(),
    };
    forward(grant, Reason::Signed)
}

/// Step 8 without the visitor: internal endpoints, then the routes, both for the path as received
/// and as a normalising ExApp would read it; the stricter result counts (weakness W9).
fn judge(routes: &CompiledRoutes, target: &str) -> Result<Access, Reason> {
    let canonical = canonical(target);
    let forms = if *canonical == *target { &[target][..] } else { &[target, &canonical] };
    if forms.iter().any(|form| INTERNAL_ENDPOINTS.contains(form)) {
        return Err(Reason::InternalEndpoint);
    }
    let mut access = Access { needs: AccessLevel::Public, bruteforce_statuses: Vec::new() };
    for form in forms {
        match routes.ruling(form) {
            Ruling::Route { access_level, bruteforce_protection } => {
                access.needs = access.needs.max(access_level);
                access.bruteforce_statuses.extend_from_slice(bruteforce_protection);
            }
            Ruling::NoRoute => return Err(Reason::NoRoute),
            Ruling::TooCostly => return Err(Reason::RouteTooCostly),
        }
    }
    Ok(access)
}

/// Step 8, the end: the visitor against the matched route. A visitor Nextcloud could not be asked
/// about may use what everybody may use, as nobody (weakness W15).
fn with_user<'r>(
    path: ExAppPath<'r>,
    app: Arc<ExApp>,
    access: Access,
    found: Result<Option<User>, LookupFailed>,
) -> Step<'r> {
    let public = access.needs == AccessLevel::Public;
    let user_id = match found {
        Ok(Some(user)) if public || access.needs <= user.level => user.id,
        Ok(None) | Err(LookupFailed) if public => String::new(),
        Ok(_) => return refuse_and_strike(Outcome::Forbidden, Reason::AccessDenied, true),
        Err(LookupFailed) => return refuse(Outcome::Unavailable, Reason::UserLookupFailed),
    };
    let grant = Grant {
        app_id: path.display_id,
        path: path.target,
        upstream: Upstream::Known(app),
        authorization: Authorization::Visitor { user_id },
        bruteforce_statuses: access.bruteforce_statuses,
    };
    forward(grant, Reason::Allowed)
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn forward(grant: Grant<'_>, reason: Reason) -> Step<'_> {
    Step::Done(Verdict { outcome: Outcome::Forward(grant), strike: false, reason })
}

fn refuse<'r>(outcome: Outcome<'r>, reason: Reason) -> Step<'r> {
    refuse_and_strike(outcome, reason, false)
}

fn refuse_and_strike<'r>(outcome: Outcome<'r>, reason: Reason, strike: bool) -> Step<'r> {
    Step::Done(Verdict { outcome, strike, reason })
}

#[cfg(test)]
mod tests;
