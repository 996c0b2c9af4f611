//! What an admin can tell a running node as a whole. Carried out in `app`; here is only the way
//! there. A witness has no address to give away and knows only the reload.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::refusal::Refusal;
use super::{drain, failover, reload};

/// The outcome of an order that takes a while.
pub type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// Reads the configuration again.
pub type Reload = Arc<dyn Fn() -> Outcome<reload::Reloaded> + Send + Sync>;

/// Who carries out what.
#[derive(Clone)]
pub struct Orders {
    /// Begins to drain, or tells how far that is.
    pub drain: Arc<dyn Fn(drain::Order) -> Result<drain::Drain, Refusal> + Send + Sync>,
    /// How far a drain is.
    pub progress: Arc<dyn Fn() -> Option<drain::Drain> + Send + Sync>,
    /// Ends it.
    pub undrain: Arc<dyn Fn() -> drain::Undrained + Send + Sync>,
    /// Moves virtual addresses.
    pub failover: Arc<dyn Fn(failover::Order) -> Outcome<failover::Moved> + Send + Sync>,
}
