//! The two calls to Nextcloud: what an ExApp is, and who a visitor is.

pub mod messages;
