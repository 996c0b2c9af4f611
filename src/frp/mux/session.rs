//! The yamux session as a value: bytes and times in, frames, events and stream contents out.
//! Sans-io. What a received frame does is in `inbound`.
//!
//! ```text
//!            SYN: answered by ACK at once          both FINs out and in,
//!  (nothing) ------------------------------> open  and released by the caller  (nothing)
//!      |                                      |  ------------------------------>
//!      '- over a cap: answered by RST         '- RST from either side ---------->
//! ```
//!
//! A stream's bytes are kept up to its window whether or not anyone reads them, so no stream can
//! stop another. Memory is bounded by the windows granted (`Config`), by `stream::MAX_QUEUED` per
//! stream on the way out, and by `MAX_URGENT` for answers the peer does not fetch.
//!
//! Any call may change what the `poll_` methods answer.

use std::collections::{HashMap, VecDeque};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::frame::{FIN, GO_AWAY_PROTOCOL, HEADER, Header, Kind, RST, SYN};
use super::keepalive::{Due, Keepalive};
use super::stream::{INITIAL_WINDOW, Sending, Stream};
use super::{CloseReason, Config, Violation};

mod inbound;

use inbound::Partial;

/// Most bytes of ACK, RST, credit and ping answers that may wait for a peer that does not read.
const MAX_URGENT: usize = 4096 * HEADER;

/// Names one stream of one session for good; ids may come back, keys do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    id: u32,
    serial: u64,
}

/// Something a waiting caller wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// [`Session::accept`] has a stream.
    Incoming,
    /// A read that found nothing may try again.
    Readable(StreamKey),
    /// A write that found no room may try again.
    Writable(StreamKey),
    /// The session is over; everyone may try again and will be told.
    Closed,
}

/// Why a stream takes or gives nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum StreamError {
    #[error("stream was reset by the peer")]
    Reset,
    #[error("stream is closed for writing")]
    Finished,
    #[error("session ended: {0}")]
    Closed(CloseReason),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    config: Config,
    streams: HashMap<u32, Stream>,
    /// Streams whose window is wider than the initial one.
    wide: usize,
    next_serial: u64,
    backlog: VecDeque<StreamKey>,
    /// Streams with something to send, in turn.
    ready: VecDeque<StreamKey>,
    /// Headers that overtake all data.
    urgent: BytesMut,
    events: VecDeque<Event>,
    partial: Partial,
    keepalive: Keepalive,
    /// Bytes a peer that is not admitted may still send.
    probation: Option<u32>,
    closed: Option<CloseReason>,
}

impl Session {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Self {
            keepalive: Keepalive::new(config.ping_interval, config.ping_timeout, now),
            probation: config.probation,
            config,
            streams: HashMap::new(),
            wide: 0,
            next_serial: 0,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            urgent: BytesMut::new(),
            events: VecDeque::new(),
            partial: Partial::default(),
            closed: None,
        }
    }

    /// The next bytes to write, whole frames only; urgent ones first, then one data frame of each
    /// stream in turn.
    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        if !self.urgent.is_empty() {
            return Some(self.urgent.split().freeze());
        }
        while let Some(key) = self.ready.pop_front() {
            let Some(stream) = self.streams.get_mut(&key.id).filter(|s| s.serial == key.serial)
            else {
                continue;
            };
            stream.scheduled = false;
            if let Some(frame) = stream.pop_frame(key.id) {
                if stream.write_blocked && stream.has_room() {
                    stream.write_blocked = false;
                    self.events.push_back(Event::Writable(key));
                }
                self.schedule(key);
                return Some(frame);
            }
            if stream.sending == Sending::Finishing && !stream.reset {
                // Always a frame of its own: on a data frame frpc would see the end before the
                // bytes.
                stream.sending = Sending::Finished;
                self.remove_if_done(key);
                let fin = Header::new(Kind::Window, FIN, key.id, 0).encode();
                return Some(Bytes::copy_from_slice(&fin));
            }
        }
        None
    }

    /// The peer has proved itself: from now on only the windows bound what it may send.
    pub(super) fn admit(&mut self) {
        self.probation = None;
    }

    /// Whether [`Self::poll_transmit`] may have something.
    pub(super) fn wants_transmit(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` once the session is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.closed.is_none().then(|| self.keepalive.poll_timeout())
    }

    /// Sends a ping, notices a dead peer, and resets streams the peer never closed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        match self.keepalive.handle_timeout(now) {
            None => return,
            Some(Due::Ping(id)) => self.urge(Header::new(Kind::Ping, SYN, 0, id)),
            Some(Due::Dead) => self.close(CloseReason::Dead(self.keepalive.patience())),
        }
        let overdue: Vec<StreamKey> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.sending == Sending::Finished)
            .filter(|(_, stream)| {
                stream.released.is_some_and(|at| now.duration_since(at) >= self.config.linger)
            })
            .map(|(id, stream)| StreamKey { id: *id, serial: stream.serial })
            .collect();
        overdue.into_iter().for_each(|key| self.reset(key));
    }

    /// The oldest stream nobody has taken yet. The taker must [`Self::release`] it one day.
    pub(super) fn accept(&mut self) -> Option<StreamKey> {
        self.backlog.pop_front()
    }

    /// Hands up to `max` received bytes to `take`; 0 is the peer's FIN. What arrived before the
    /// session ended can still be read, what arrived before a reset can not.
    pub(super) fn read(
        &mut self,
        key: StreamKey,
        max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<Result<usize, StreamError>> {
        let Some(stream) = self.streams.get_mut(&key.id).filter(|s| s.serial == key.serial) else {
            return Poll::Ready(Err(StreamError::Reset));
        };
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if max == 0 {
            return Poll::Ready(Ok(0));
        }
        if stream.unread() > 0 {
            let (n, credit) = stream.read(max, take);
            if credit > 0 && self.closed.is_none() {
                self.urge(Header::new(Kind::Window, 0, key.id, credit));
            }
            return Poll::Ready(Ok(n));
        }
        if stream.peer_finished {
            return Poll::Ready(Ok(0));
        }
        if let Some(reason) = &self.closed {
            return Poll::Ready(Err(StreamError::Closed(reason.clone())));
        }
        stream.read_blocked = true;
        Poll::Pending
    }

    /// Queues as much of `data` as the peer's credit and our bound allow.
    pub(super) fn write(
        &mut self,
        key: StreamKey,
        data: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        if let Some(reason) = &self.closed {
            return Poll::Ready(Err(StreamError::Closed(reason.clone())));
        }
        let Some(stream) = self.streams.get_mut(&key.id).filter(|s| s.serial == key.serial) else {
            return Poll::Ready(Err(StreamError::Reset));
        };
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if stream.sending != Sending::Open {
            return Poll::Ready(Err(StreamError::Finished));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = stream.write(data);
        if n == 0 {
            stream.write_blocked = true;
            return Poll::Pending;
        }
        self.schedule(key);
        Poll::Ready(Ok(n))
    }

    /// Sends FIN after what is queued. Doing so again changes nothing.
    pub(super) fn finish(&mut self, key: StreamKey) {
        if let Some(stream) = self.stream(key)
            && stream.sending == Sending::Open
            && !stream.reset
        {
            stream.sending = Sending::Finishing;
            self.schedule(key);
        }
    }

    /// The caller lets go of a stream. Finished ones wait for the peer's FIN, a stream whose peer
    /// has finished is finished too, anything else is reset.
    pub(super) fn release(&mut self, now: Instant, key: StreamKey) {
        let closed = self.closed.is_some();
        let Some(stream) = self.stream(key) else { return };
        stream.released = Some(now);
        stream.drop_inbox();
        if closed || stream.reset {
            self.remove(key);
        } else if stream.sending == Sending::Open && !stream.peer_finished {
            self.reset(key);
        } else {
            self.finish(key);
            self.remove_if_done(key);
        }
    }

    /// Ends the session; only the first reason counts. After a violation one GoAway is left to
    /// transmit.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.urgent.clear();
        if matches!(reason, CloseReason::Violation(_)) {
            let header = Header::new(Kind::GoAway, 0, 0, GO_AWAY_PROTOCOL);
            self.urgent.extend_from_slice(&header.encode());
        }
        for key in std::mem::take(&mut self.backlog) {
            self.remove(key);
        }
        self.streams.retain(|_, stream| stream.released.is_none());
        let keep_unread = reason != CloseReason::Aborted;
        for stream in self.streams.values_mut() {
            if !keep_unread {
                stream.drop_inbox();
            }
            stream.drop_outbox();
        }
        self.ready.clear();
        self.closed = Some(reason);
        self.events.clear();
        self.events.push_back(Event::Closed);
    }

    pub(super) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Streams in the table: open, waiting to be accepted, or waiting for the peer to close.
    pub(super) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn last_rtt(&self) -> Option<Duration> {
        self.keepalive.last_rtt()
    }

    /// Voids a stream that nobody holds any more.
    fn reset(&mut self, key: StreamKey) {
        if self.remove(key) && self.closed.is_none() {
            self.urge(Header::new(Kind::Window, RST, key.id, 0));
        }
    }

    fn remove_if_done(&mut self, key: StreamKey) {
        if self.stream(key).is_some_and(|stream| {
            stream.released.is_some() && stream.peer_finished && stream.sending == Sending::Finished
        }) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: StreamKey) -> bool {
        if self.stream(key).is_none() {
            return false;
        }
        let removed = self.streams.remove(&key.id);
        if removed.is_some_and(|stream| stream.window() > INITIAL_WINDOW) {
            self.wide -= 1;
        }
        true
    }

    fn schedule(&mut self, key: StreamKey) {
        if self.closed.is_none()
            && let Some(stream) = self.stream(key)
            && !stream.scheduled
            && stream.has_frame()
        {
            stream.scheduled = true;
            self.ready.push_back(key);
        }
    }

    fn urge(&mut self, header: Header) {
        if self.urgent.len() >= MAX_URGENT {
            self.close(Violation::NotReading.into());
        } else {
            self.urgent.extend_from_slice(&header.encode());
        }
    }

    fn stream(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.streams.get_mut(&key.id).filter(|stream| stream.serial == key.serial)
    }
}

#[cfg(test)]
mod tests;
