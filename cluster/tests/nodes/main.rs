//! Real nodes in one process: files in a temporary directory, TLS over loopback.

mod membership;
mod single;
mod strangers;
mod support;
mod three;
