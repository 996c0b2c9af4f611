//! The session without its shell, for the fuzz targets. Only built under `cfg(fuzzing)`.

use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;

use super::session::{Session, StreamKey};
use super::terms::{CloseReason, Config};

/// A session that is fed by hand.
#[derive(Debug)]
pub struct BareSession(Session);

/// One of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareStream(StreamKey);

impl BareSession {
    pub fn new(config: Config, now: Instant) -> Self {
        Self(Session::new(config, now))
    }

    pub fn input(&mut self, now: Instant, bytes: &[u8]) {
        self.0.input(now, bytes);
    }

    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.0.poll_transmit()
    }

    pub fn wants_transmit(&self) -> bool {
        self.0.wants_transmit()
    }

    /// Takes all events; their number.
    pub fn drain_events(&mut self) -> usize {
        std::iter::from_fn(|| self.0.poll_event()).count()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    pub fn accept(&mut self) -> Option<BareStream> {
        self.0.accept().map(BareStream)
    }

    /// Reads up to `max` bytes; how many there were, if any.
    pub fn read(&mut self, stream: BareStream, max: usize, take: impl FnOnce(&[u8])) -> usize {
        match self.0.read(stream.0, max, take) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    /// Writes what there is credit and room for; how much.
    pub fn write(&mut self, stream: BareStream, data: &[u8]) -> usize {
        match self.0.write(stream.0, data) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    pub fn admit(&mut self) {
        self.0.admit();
    }

    pub fn finish(&mut self, stream: BareStream) {
        self.0.finish(stream.0);
    }

    pub fn release(&mut self, now: Instant, stream: BareStream) {
        self.0.release(now, stream.0);
    }

    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.0.close_reason()
    }

    pub fn open_streams(&self) -> usize {
        self.0.open_streams()
    }
}
