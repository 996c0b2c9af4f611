//! The body of an answer on its way to the client: the request it answers is over when it is.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::body::{Body, BodyError};
use crate::observe::transfer::{End, Transfer};

/// A body, and whoever is told of what passes.
pub struct AnswerBody {
    body: Body,
    /// None where nobody counts, or somebody else has inherited it.
    transfer: Option<Transfer>,
}

impl AnswerBody {
    /// The answer of a request.
    pub fn new(body: Body, mut transfer: Transfer) -> Self {
        if body.is_end_stream() {
            transfer.finished();
        }
        Self { body, transfer: Some(transfer) }
    }

    fn over(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.finished();
        }
    }
}

impl From<Body> for AnswerBody {
    fn from(body: Body) -> Self {
        Self { body, transfer: None }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(None) => self.over(),
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(transfer), Some(bytes)) = (&mut self.transfer, frame.data_ref()) {
                    transfer.sent(bytes.len() as u64);
                }
                // Whoever sends it does not ask again.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.over();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let end = match error {
                    BodyError::Idle(_) => End::TimeoutUpstream,
                    BodyError::Broken(_) | BodyError::TooLong(_) => End::UpstreamAbort,
                };
                if let Some(transfer) = &mut self.transfer {
                    transfer.ends(end);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
