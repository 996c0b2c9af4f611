//! Traces: one span for each request, a child of the caller's (W3C `traceparent`) and the parent of
//! what the ExApp does. With the feature `otel` spans are sent to a collector (OTLP over HTTP);
//! without it nothing here does anything, and `traceparent` passes through as it came.

#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod otel;

#[cfg(not(feature = "otel"))]
pub use none::{Span, Traces, start};
#[cfg(feature = "otel")]
pub use otel::{Span, Traces, start};

/// What a span is told at its end.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// What the request was for.
    pub route: &'static str,
    /// How it ended, in the words of the access log.
    pub end: &'static str,
}
