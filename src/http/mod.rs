//! HTTP crafts: serving connections, sending requests, upgrades, bodies, headers. Knows no ExApp.

pub mod client_ip;
pub mod headers;
