//! The FRP server stock frpc clients dial: native, no frps, no loopback ports.

pub mod config;
pub mod control;
pub mod crypto;
pub mod login;
pub mod message;
pub mod mux;
pub mod pki;
pub mod ports;
pub mod preface;
pub mod wire;
