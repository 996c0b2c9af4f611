//! One HTTP/1.1 connection to an upstream, moved by whoever uses it.
//!
//! hyper splits a client connection into a sender and a future that moves its bytes, which is
//! meant to be a task of its own. Every request would then wait for that task to be woken, and be
//! woken by it, several times. Here the request's own task polls the future instead: while it waits
//! for the head ([`Link::send`]) and while it reads the body ([`Link::advance`]). A connection that
//! has to move although nobody reads is [`detached`](Link::detach).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::body::Body;
use crate::net::Stream;

/// See the module.
pub(super) struct Link {
    sender: SendRequest<Body>,
    mover: Mover,
}

/// Who moves the bytes.
enum Mover {
    /// Whoever polls.
    Here(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    /// A task of its own.
    Task,
    /// Nobody: the connection has ended.
    Ended,
}

impl Link {
    /// Speaks HTTP/1.1 over `stream`.
    ///
    /// # Errors
    /// hyper's; nothing has been sent.
    pub(super) async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, mover: Mover::Here(Box::pin(connection.with_upgrades())) })
    }

    /// Sends a request and waits for the head of the response. Read the body with
    /// [`advance`](Self::advance) at hand.
    ///
    /// # Errors
    /// hyper's, with the request if it was not begun.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let mut sent = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.advance(cx);
            sent.as_mut().poll(cx)
        })
        .await
    }

    /// Moves what can be moved now and has `cx` woken when more can.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) {
        let Mover::Here(mover) = &mut self.mover else { return };
        let Poll::Ready(ended) = mover.as_mut().poll(cx) else { return };
        self.mover = Mover::Ended;
        // Whoever sent the request hears of it; an idle connection may die unmourned.
        if let Err(error) = ended {
            tracing::trace!(%error, "upstream connection ended");
        }
    }

    /// Whether it can take a request. A connection nobody has used for a while learns here what
    /// has become of it.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.sender.is_ready() {
            self.advance(&mut Context::from_waker(Waker::noop()));
        }
        self.sender.is_ready()
    }

    /// Whether it will never take a request again.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.mover, Mover::Ended) || self.sender.is_closed()
    }

    /// From now on it moves by itself.
    pub(super) fn detach(&mut self) {
        match std::mem::replace(&mut self.mover, Mover::Task) {
            Mover::Here(mover) => {
                tokio::spawn(async move {
                    if let Err(error) = mover.await {
                        tracing::trace!(%error, "upstream connection ended");
                    }
                });
            }
            other => self.mover = other,
        }
    }
}
