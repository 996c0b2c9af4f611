//! The FRP server stock frpc clients dial: native, no frps, no loopback ports.
//!
//! Bytes become messages in [`wire`]; `control`, `credential`, `entitlement`,
//! `login`, `ports` and `preface` decide; `session`,
//! `connection` and `server` carry bytes. The rest of the product sees [`Tunnels`], a
//! [`Dial`](crate::net::Dial) that reaches a tunnel by its registered port.

pub mod client;
pub mod config;
pub mod control;
pub mod credential;
pub mod crypto;
pub mod entitlement;
pub mod login;
pub mod message;
pub mod mux;
pub mod pki;
pub mod ports;
pub mod preface;
pub mod wire;

mod absence;
mod admission;
mod connection;
mod inherit;
mod registry;
mod rejected;
mod relay;
mod server;
mod session;
mod sieve;
mod tunnels;
mod work;

pub use config::{Config, TlsMode};
pub use credential::Credentials;
pub use pki::{Pki, PkiError};
pub use server::serve;
pub use tunnels::{TunnelStatus, Tunnels};

#[cfg(test)]
mod tests;
