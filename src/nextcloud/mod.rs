//! The two calls to Nextcloud: what an ExApp is, and who a visitor is.

pub mod client;
pub mod messages;

pub use client::{Client, Config, Error};
