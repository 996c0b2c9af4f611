//! HTTP crafts: serving connections, sending requests, upgrades, bodies, headers. Knows no ExApp.

pub mod answer_body;
pub mod body;
pub mod client;
pub mod client_ip;
mod connection;
pub mod door;
pub mod extended_connect;
pub mod forwarded;
pub mod framing;
pub mod headers;
mod link;
mod season;
pub mod server;
pub mod tls;
pub mod upgrade;
