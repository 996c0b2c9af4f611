//! Who may pass: HaRP's access decision as a pure machine (contract 1.2).
//!
//! [`Decision`] is fed an [`AccessRequest`], asks for facts one at a time ([`Fact`]) and ends in
//! a [`Verdict`]. Nothing here does I/O or looks at a clock: `proxy` gathers the facts and carries
//! the verdict out, `guard` keeps the strikes. Where it deliberately differs from HaRP, and why,
//! is recorded in `docs/compat/undocumented-harp.md`.

pub mod decision;
pub mod docker_engine;
pub mod path;
pub mod request;
pub mod routes;
pub mod verdict;

mod pattern;

pub use decision::{Answer, Decision, Fact, KnownApp, LookupFailed, Step};
pub use docker_engine::EngineCall;
pub use path::AppId;
pub use request::{AccessRequest, Signed, offered_key};
pub use routes::CompiledRoutes;
pub use verdict::{Authorization, Grant, Outcome, Reason, Upstream, Verdict};
