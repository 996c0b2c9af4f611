//! A request under `/exapps/`: drives the access decision and carries its verdict out.
//!
//! This file decides nothing about access; it finds out what [`Decision`] wants to know and does
//! what it says. Calls for the control API or a Docker engine go back to `frontend`.

use std::error::Error as StdError;
use std::net::IpAddr;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use super::answer;
use super::exchange::Exchange;
use super::forward::Forward;
use super::rewrite::Rewrite;
use crate::access::request::offered_key;
use crate::access::{
    AccessRequest, Answer, AppId, Decision, Fact, Grant, LookupFailed, Outcome, Signed, Step,
};
use crate::exapps::directory::Claim;
use crate::exapps::{Directory, Sessions, upstream};
use crate::guard::Guard;
use crate::http::body::Body;
use crate::http::client_ip::TrustedProxies;
use crate::http::extended_connect::is_websocket;
use crate::http::headers;
use crate::http::server::{Abort, Connection};
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
    },
    /// A call for a Docker engine whose key has been checked.
    DockerEngine {
        /// The request as it came.
        request: Request<Incoming>,
        /// Registered port of the engine.
        port: u16,
        /// Its path without the prefix.
        path: String,
    },
}

/// Everything a request may need. Shared by all connections of a frontend.
pub struct Proxy {
    /// Key check and bans.
    pub guard: Guard,
    /// ExApp records.
    pub directory: Directory,
    /// Visitors.
    pub sessions: Sessions,
    /// The way to the ExApps.
    pub forward: Forward,
    /// Proxies whose word about the client is taken.
    pub trusted_proxies: ArcSwap<TrustedProxies>,
}

/// The verdict, owned: the request it was borrowed from may be changed now.
enum Plan {
    Forward { rewrite: Rewrite, to: crate::net::Target, bruteforce_statuses: Vec<u16> },
    Answer(Response<Body>),
    Drop,
    Control(String),
    DockerEngine(u16, String),
}

impl Proxy {
    /// Handles one request from the decision to the response head.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        exchange: &mut Exchange,
    ) -> Handled {
        if !request.uri().path_and_query().is_none_or(|target| target.as_str().is_ascii()) {
            return Handled::Done(Ok(answer::bad_request()));
        }
        let peer = connection.peer.ip();
        let client = self.trusted_proxies.load().client(peer, request.headers());
        exchange.from(client);
        let (head, body) = request.into_parts();
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return Handled::Done(Ok(answer::no_content()));
        }
        if head.method == Method::CONNECT && !is_websocket(&head) {
            return Handled::Done(Ok(answer::not_implemented()));
        }
        match self.decide(&head, client, exchange).await {
            Plan::Forward { rewrite, to, bruteforce_statuses } => {
                let mut head = head;
                headers::towards_exapp(&mut head.headers);
                headers::complete_host(&mut head.headers, &head.uri, head.version);
                rewrite.apply(&mut head.uri, &mut head.headers);
                let sent = self.forward.send(&to, head, body, connection.slot.clone()).await;
                Handled::Done(Ok(sent.map_or_else(
                    |error| {
                        let cause: &(dyn StdError + 'static) = &error;
                        tracing::debug!(upstream.addr = %to, error = cause, "ExApp not reached");
                        metrics().upstream_failed(error.kind());
                        answer::upstream_failed(&error)
                    },
                    |response| {
                        if bruteforce_statuses.contains(&response.status().as_u16()) {
                            self.guard.strike(client);
                        }
                        response
                    },
                )))
            }
            Plan::Answer(response) => Handled::Done(Ok(response)),
            // A trusted proxy may carry others on the same connection.
            Plan::Drop => {
                let shared = self.trusted_proxies.load().contains(peer);
                Handled::Done(Err(if shared { Abort::Exchange } else { Abort::Connection }))
            }
            Plan::Control(path) => {
                Handled::Control { request: Request::from_parts(head, body), path }
            }
            Plan::DockerEngine(port, path) => {
                Handled::DockerEngine { request: Request::from_parts(head, body), port, path }
            }
        }
    }

    async fn decide(&self, head: &Parts, client: IpAddr, exchange: &mut Exchange) -> Plan {
        let headers = &head.headers;
        let key_valid = offered_key(headers).is_some_and(|key| self.guard.is_shared_key(key));
        // Holders of the key are never banned: one NAT address may hide Nextcloud (weakness W7).
        let banned = !key_valid && self.guard.is_banned(client);
        let request = AccessRequest::new(head.uri.path(), headers, key_valid);
        let (mut decision, mut step) = Decision::start(request, banned);
        let verdict = loop {
            match step {
                Step::Done(verdict) => break verdict,
                Step::Need(fact) => {
                    let answer = self.find_out(&fact, headers, request.signed, client).await;
                    step = decision.supply(answer);
                }
            }
        };
        if verdict.strike {
            self.guard.strike(client);
        }
        exchange.decided(verdict.reason);
        match verdict.outcome {
            Outcome::Forward(grant) => plan_forward(grant, head.uri.query()),
            Outcome::ControlApi { path } => Plan::Control(path.to_owned()),
            Outcome::DockerEngine { port, path } => Plan::DockerEngine(port, path.to_owned()),
            Outcome::SilentDrop => Plan::Drop,
            Outcome::Unauthorized => Plan::Answer(answer::unauthorized()),
            Outcome::Forbidden => Plan::Answer(answer::forbidden()),
            Outcome::NotFound => Plan::Answer(answer::not_found()),
            Outcome::Unavailable => Plan::Answer(answer::unavailable()),
        }
    }

    async fn find_out(
        &self,
        fact: &Fact,
        headers: &HeaderMap,
        signed: Option<Signed<'_>>,
        client: IpAddr,
    ) -> Answer {
        match fact {
            Fact::ExApp(id) => Answer::ExApp(self.find_exapp(id, signed).await),
            Fact::User(id) => {
                let ask_with = || headers::for_user_info(headers, client);
                let found = self.sessions.user(id, headers, ask_with).await;
                Answer::User(found.map_err(|error| {
                    let error: &(dyn StdError + 'static) = &*error.0;
                    tracing::debug!(app_id = %id, error, "Nextcloud could not name a visitor");
                    LookupFailed
                }))
            }
        }
    }

    async fn find_exapp(
        &self,
        id: &AppId,
        signed: Option<Signed<'_>>,
    ) -> Result<Option<crate::access::KnownApp>, LookupFailed> {
        let found = match signed {
            None => self.directory.find(id).await,
            Some(says) => {
                let claim = Claim { version: says.version, host: says.host, port: says.port };
                Box::pin(self.directory.find_signed(id, claim)).await
            }
        };
        found.map_err(|error| {
            let error: &(dyn StdError + 'static) = &*error;
            tracing::debug!(app_id = %id, error, "Nextcloud could not describe an ExApp");
            LookupFailed
        })
    }
}

fn plan_forward(grant: Grant<'_>, query: Option<&str>) -> Plan {
    match Rewrite::new(&grant, query) {
        Ok(rewrite) => Plan::Forward {
            rewrite,
            to: upstream::target(grant.upstream.host(), grant.upstream.port()),
            bruteforce_statuses: grant.bruteforce_statuses,
        },
        Err(error) => {
            tracing::warn!(app_id = grant.app_id, %error, "request cannot be forwarded");
            Plan::Answer(answer::unavailable())
        }
    }
}
