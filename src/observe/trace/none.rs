//! Without the feature `otel`: nothing.

use http::{HeaderMap, Request};

use super::Ended;

/// No traces.
pub struct Traces;

/// Starts nothing.
///
/// # Errors
/// None.
pub fn start() -> Result<Traces, String> {
    Ok(Traces)
}

impl Traces {
    /// Stops nothing.
    pub fn stop(self) {}
}

/// No span.
pub struct Span;

impl Span {
    /// Begins nothing.
    pub fn begin<B>(_request: &Request<B>) -> Self {
        Self
    }

    /// Leaves the headers as they are.
    pub fn inject(&self, _headers: &mut HeaderMap) {}

    /// Tells nobody.
    pub fn end(&mut self, _ended: Ended) {}
}
