//! The two calls to Nextcloud: what an ExApp is, and who a visitor is.

pub mod client;
pub mod messages;

#[cfg(test)]
pub(crate) mod testing;

pub use client::{Client, Config, Error};
