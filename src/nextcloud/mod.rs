//! Trigon's two calls to Nextcloud: what an ExApp is, and whom credentials belong to.

pub mod client;
pub mod messages;

pub use client::{Client, Config, Error};
