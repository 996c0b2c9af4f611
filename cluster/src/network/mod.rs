//! Peers talking to each other: framed requests and answers over mutual TLS 1.3.
//!
//! One connection carries one request at a time; a peer keeps a few of them open. One more is
//! handed over to `presence` and carries beats both ways, others become streams to tunnels
//! (`relay`).

mod admission;
mod client;
pub(crate) mod connection;
pub(crate) mod frame;
mod knocks;
mod message;
mod server;

pub(crate) use admission::{JoinRequest, MAX_OTHERS, NotWelcome, Welcome};
pub(crate) use client::{CallError, PeerClients, Peers};
#[cfg(fuzzing)]
pub(crate) use frame::length;
pub(crate) use message::{Answer, Envelope, Request, Unconfirmed};
pub(crate) use server::{Judgement, Server, ServerStats, Service};
