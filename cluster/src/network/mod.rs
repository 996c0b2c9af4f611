//! Peers talking to each other: framed requests and answers over mutual TLS 1.3.
//!
//! One connection carries one request at a time; a peer keeps a few of them open.

mod client;
mod connection;
mod frame;
mod message;
mod server;

pub(crate) use client::{PeerClients, Peers};
#[cfg(fuzzing)]
pub(crate) use frame::length;
#[cfg(fuzzing)]
pub(crate) use message::Envelope;
pub(crate) use message::{Answer, Request, Unconfirmed};
pub(crate) use server::{Server, ServerStats, Service};
