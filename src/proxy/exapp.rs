//! A request under `/exapps/`: drives the access decision and carries its verdict out.
//!
//! This file decides nothing about access; it finds out what [`Decision`] wants to know and does
//! what it says. Calls for the control API or a Docker engine go back to `frontend`.

use std::error::Error as StdError;
use std::net::IpAddr;

use cluster::record::Tenant;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use super::answer;
use super::exchange::Exchange;
use super::policy::Policy;
use super::realm::{Realm, Realms};
use super::rewrite::Rewrite;
use crate::access::request::offered_key;
use crate::access::{
    AccessRequest, Answer, AppId, Authorization, Decision, Fact, Grant, LookupFailed, Outcome,
    Signed, Step, Upstream,
};
use crate::exapps::directory::{self, Claim};
use crate::exapps::{Directory, upstream};
use crate::guard::Guard;
use crate::http::body::Body;
use crate::http::client_ip::TrustedProxies;
use crate::http::extended_connect::is_websocket;
use crate::http::headers;
use crate::http::server::{Abort, Connection};
use crate::net::Target;
use crate::observe::failure;
use crate::observe::metrics::metrics;

/// What became of a request.
pub enum Handled {
    /// Answered, or dropped without an answer.
    Done(Result<Response<Body>, Abort>),
    /// A call of the control API whose key has been checked.
    Control {
        /// The request as it came.
        request: Request<Incoming>,
        /// Its path without the prefix.
        path: String,
        /// Whose key it carries.
        tenant: Tenant,
    },
    /// A call for a Docker engine whose key has been checked.
    DockerEngine {
        /// The request as it came.
        request: Request<Incoming>,
        /// Registered port of the engine.
        port: u16,
        /// Its path without the prefix.
        path: String,
        /// Whose key it carries.
        tenant: Tenant,
    },
}

/// Everything a request may need. Shared by all connections of a frontend.
pub struct Proxy {
    /// Key check and bans.
    pub guard: Guard,
    /// The Nextclouds.
    pub realms: Realms,
    /// What the operator restricts.
    pub policy: Policy,
}

/// The verdict, owned: the request it was borrowed from may be changed now.
enum Plan {
    Forward { rewrite: Rewrite, to: Target, strip_session: bool, bruteforce_statuses: Vec<u16> },
    Answer(Response<Body>),
    Drop,
    Control(String),
    DockerEngine(u16, String),
}

impl Proxy {
    /// Handles one request from the decision to the response head; the word of `trusted` about its
    /// client is taken.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        exchange: &mut Exchange,
        trusted: &TrustedProxies,
    ) -> Handled {
        if !request.uri().path_and_query().is_none_or(|target| target.as_str().is_ascii()) {
            return Handled::Done(Ok(answer::bad_request()));
        }
        let peer = connection.peer.ip();
        let client = trusted.client(peer, request.headers());
        exchange.from(client);
        let (head, body) = request.into_parts();
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return Handled::Done(Ok(answer::no_content()));
        }
        if head.method == Method::CONNECT && !is_websocket(&head) {
            return Handled::Done(Ok(answer::not_implemented()));
        }
        let (plan, realm) = self.decide(&head, client, exchange).await;
        match plan {
            Plan::Forward { rewrite, to, strip_session, bruteforce_statuses } => {
                let mut head = head;
                headers::towards_exapp(&mut head.headers);
                if strip_session {
                    headers::strip_session(&mut head.headers);
                }
                headers::complete_host(&mut head.headers, &head.uri, head.version);
                rewrite.apply(&mut head.uri, &mut head.headers);
                exchange.trace_into(&mut head.headers);
                let sent = realm.forward.send(&to, head, body, connection.slot.clone()).await;
                Handled::Done(Ok(sent.map_or_else(
                    |error| {
                        let cause: &(dyn StdError + 'static) = &error;
                        tracing::debug!(upstream.addr = %to, error = cause, "ExApp not reached");
                        metrics().upstream_failed(error.kind());
                        exchange.failed(&error);
                        answer::upstream_failed(&error)
                    },
                    |response| {
                        if bruteforce_statuses.contains(&response.status().as_u16()) {
                            self.guard.strike(client);
                            failure::tell(client, "bruteforce_status");
                        }
                        response
                    },
                )))
            }
            Plan::Answer(response) => Handled::Done(Ok(response)),
            // A trusted proxy may carry others on the same connection.
            Plan::Drop => {
                let shared = trusted.contains(peer);
                Handled::Done(Err(if shared { Abort::Exchange } else { Abort::Connection }))
            }
            Plan::Control(path) => {
                let tenant = realm.tenant.clone();
                Handled::Control { request: Request::from_parts(head, body), path, tenant }
            }
            Plan::DockerEngine(port, path) => {
                let tenant = realm.tenant.clone();
                let request = Request::from_parts(head, body);
                Handled::DockerEngine { request, port, path, tenant }
            }
        }
    }

    async fn decide(
        &self,
        head: &Parts,
        client: IpAddr,
        exchange: &mut Exchange,
    ) -> (Plan, &Realm) {
        let headers = &head.headers;
        let caller = self.key_holder(headers, client);
        let realm =
            caller.map_or_else(|| self.realms.of_visitor(head), |tenant| self.realms.of(tenant));
        let key_valid = caller.is_some();
        // Holders of the key are never banned: one NAT address may hide Nextcloud (weakness W7).
        let banned = !key_valid && self.guard.is_banned(client);
        let request = AccessRequest::new(head.uri.path(), headers, key_valid);
        let (mut decision, mut step) = Decision::start(request, banned);
        let verdict = loop {
            match step {
                Step::Done(verdict) => break verdict,
                Step::Need(fact) => {
                    let answer = find_out(realm, &fact, headers, request.signed, client).await;
                    step = decision.supply(answer);
                }
            }
        };
        if verdict.strike {
            self.guard.strike(client);
            failure::tell(client, verdict.reason.as_str());
        }
        exchange.decided(verdict.reason);
        let plan = match verdict.outcome {
            Outcome::Forward(grant) => self.plan_forward(grant, head.uri.query(), exchange),
            Outcome::ControlApi { path } => Plan::Control(path.to_owned()),
            Outcome::DockerEngine { port, path } => Plan::DockerEngine(port, path.to_owned()),
            Outcome::SilentDrop => Plan::Drop,
            Outcome::Unauthorized => Plan::Answer(answer::unauthorized()),
            Outcome::Forbidden => Plan::Answer(answer::forbidden()),
            Outcome::NotFound => Plan::Answer(answer::not_found()),
            Outcome::Unavailable => Plan::Answer(answer::unavailable()),
        };
        (plan, realm)
    }

    /// The tenant whose key the request carries, if it may carry it where it comes from. A right
    /// key from elsewhere counts as a wrong one, strikes and bans included.
    fn key_holder(&self, headers: &HeaderMap, client: IpAddr) -> Option<&Tenant> {
        let tenant = self.guard.keys().tenant_of(offered_key(headers)?)?;
        if self.policy.may_control(client) {
            return Some(tenant);
        }
        tracing::warn!(
            client.addr = %client,
            "the right shared key came from outside exapps.control_from; it was not believed"
        );
        None
    }

    fn plan_forward(&self, grant: Grant<'_>, query: Option<&str>, exchange: &mut Exchange) -> Plan {
        let (host, port) = (grant.upstream.host(), grant.upstream.port());
        let to = match &grant.upstream {
            Upstream::Known(_) => upstream::target(host, port),
            Upstream::Announced { .. } => {
                match self.policy.announced_hosts.target(grant.app_id, host, port) {
                    Some(to) => to,
                    None => {
                        tracing::warn!(
                            app_id = grant.app_id,
                            host,
                            port,
                            "AppAPI announced a host that is not in exapps.announced_hosts"
                        );
                        return Plan::Answer(answer::not_announced());
                    }
                }
            }
        };
        let user = match &grant.authorization {
            Authorization::Visitor { user_id } => Some(user_id.as_str()),
            Authorization::AsSigned => None,
        };
        exchange.goes(&to, user, &self.guard);
        let strip_session = self.policy.strip_session.covers(grant.app_id);
        match Rewrite::new(&grant, query) {
            Ok(rewrite) => {
                let bruteforce_statuses = grant.bruteforce_statuses;
                Plan::Forward { rewrite, to, strip_session, bruteforce_statuses }
            }
            Err(error) => {
                tracing::warn!(app_id = grant.app_id, %error, "request cannot be forwarded");
                Plan::Answer(answer::unavailable())
            }
        }
    }
}

async fn find_out(
    realm: &Realm,
    fact: &Fact,
    headers: &HeaderMap,
    signed: Option<Signed<'_>>,
    client: IpAddr,
) -> Answer {
    match fact {
        Fact::ExApp(id) => find_exapp(&realm.directory, id, signed).await,
        Fact::User(id) => {
            let ask_with = || headers::for_user_info(headers, client);
            let found = realm.sessions.user(id, headers, ask_with).await;
            Answer::User(found.map_err(|error| {
                let error: &(dyn StdError + 'static) = &*error.0;
                tracing::debug!(app_id = %id, error, "Nextcloud could not name a visitor");
                LookupFailed
            }))
        }
    }
}

async fn find_exapp(directory: &Directory, id: &AppId, signed: Option<Signed<'_>>) -> Answer {
    let found = match signed {
        None => directory.find(id).await,
        Some(says) => {
            let claim = Claim { version: says.version, host: says.host, port: says.port };
            Box::pin(directory.find_signed(id, claim)).await
        }
    };
    match found {
        Ok(found) => Answer::ExApp(Ok(found)),
        Err(directory::Error::Withdrawn) => Answer::Withdrawn,
        Err(directory::Error::Nextcloud(error)) => {
            let error: &(dyn StdError + 'static) = &*error;
            tracing::debug!(app_id = %id, error, "Nextcloud could not describe an ExApp");
            Answer::ExApp(Err(LookupFailed))
        }
    }
}
