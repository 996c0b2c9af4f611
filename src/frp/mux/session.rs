//! The yamux session as a value: bytes and times in, frames, events and stream contents out. No
//! socket, no task, no clock.
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
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::frame::{ACK, FIN, GO_AWAY_PROTOCOL, HEADER, Header, Kind, RST, SYN};
use super::stream::{INITIAL_WINDOW, Sending, Stream};

/// Most bytes of ACK, RST, credit and ping answers that may wait for a peer that does not read.
const MAX_URGENT: usize = 4096 * HEADER;

/// What a session grants its peer and how long it waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams a peer may hold open; more are refused one by one.
    pub max_streams: usize,
    /// Streams that may wait for [`super::Incoming::accept`]; more are refused one by one.
    pub backlog: usize,
    /// Receive window of a stream, bytes. Yamux's initial 262,144 is the least.
    pub window: u32,
    /// How many streams at a time get that window; the others keep the initial one. Together
    /// with `max_streams` this bounds what a peer can make us hold.
    pub wide_streams: usize,
    /// Quiet time between the answer to our ping and the next one.
    pub ping_interval: Duration,
    /// How long a peer may stay silent after our ping before it counts as dead.
    pub ping_timeout: Duration,
    /// How long a stream we closed waits for the peer to close it too, before it is reset.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            backlog: 256,
            window: 1 << 20,
            wide_streams: 64,
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(60),
        }
    }
}

/// What a peer did that no yamux peer may do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("frame version is {0}, expected 0")]
    Version(u8),
    #[error("frame type is {0}, expected 0 to 3")]
    Kind(u8),
    #[error("client opened stream {0}, expected an odd id")]
    StreamId(u32),
    #[error("client opened stream {0} twice")]
    DuplicateStream(u32),
    #[error("stream {0} was sent {1} bytes beyond its window")]
    Window(u32, u32),
    #[error("answers pile up unread")]
    NotReading,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloseReason {
    #[error("peer closed the connection")]
    PeerClosed,
    #[error("connection failed: {0}")]
    Io(io::ErrorKind),
    #[error("peer sent nothing for {0:?} after a ping")]
    Dead(Duration),
    #[error("peer broke the mux protocol: {0}")]
    Violation(#[from] Violation),
    #[error("peer went away with code {0}")]
    PeerGoAway(u32),
    #[error("session was aborted")]
    Aborted,
}

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

/// The payload of a data frame that is still arriving.
#[derive(Debug)]
struct Body {
    stream: u32,
    /// `None`: nobody wants it.
    serial: Option<u64>,
    remaining: u32,
    fin: bool,
}

#[derive(Debug)]
enum Keepalive {
    Quiet { next: Instant },
    Asked { sent: Instant },
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
    /// The start of a header that is still arriving.
    partial: Vec<u8>,
    body: Option<Body>,
    keepalive: Keepalive,
    ping_id: u32,
    last_input: Instant,
    last_rtt: Option<Duration>,
    closed: Option<CloseReason>,
}

impl Session {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Self {
            keepalive: Keepalive::Quiet { next: now + config.ping_interval },
            config,
            streams: HashMap::new(),
            wide: 0,
            next_serial: 0,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            urgent: BytesMut::new(),
            events: VecDeque::new(),
            partial: Vec::with_capacity(HEADER),
            body: None,
            ping_id: 0,
            last_input: now,
            last_rtt: None,
            closed: None,
        }
    }

    /// Takes bytes as they came off the connection, in any portions.
    pub(super) fn input(&mut self, now: Instant, mut bytes: &[u8]) {
        self.last_input = now;
        while self.closed.is_none() {
            if let Some(body) = self.body.take() {
                bytes = self.take_body(body, bytes);
                if self.body.is_some() {
                    return;
                }
            }
            let (front, rest) = bytes.split_at(bytes.len().min(HEADER - self.partial.len()));
            self.partial.extend_from_slice(front);
            bytes = rest;
            let Ok(header) = <[u8; HEADER]>::try_from(self.partial.as_slice()) else { return };
            self.partial.clear();
            if let Err(violation) =
                Header::decode(header).and_then(|header| self.frame(now, header))
            {
                self.close(violation.into());
            }
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

    /// Whether [`Self::poll_transmit`] may have something.
    pub(super) fn wants_transmit(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` once the session is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        Some(match self.keepalive {
            Keepalive::Quiet { next } => next,
            Keepalive::Asked { sent } => sent.max(self.last_input) + self.config.ping_timeout,
        })
    }

    /// Sends a ping, notices a dead peer, and resets streams the peer never closed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match self.keepalive {
            Keepalive::Quiet { .. } => {
                self.ping_id = self.ping_id.wrapping_add(1);
                self.keepalive = Keepalive::Asked { sent: now };
                self.urge(Header::new(Kind::Ping, SYN, 0, self.ping_id));
            }
            Keepalive::Asked { .. } => self.close(CloseReason::Dead(self.config.ping_timeout)),
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
        self.last_rtt
    }

    fn frame(&mut self, now: Instant, header: Header) -> Result<(), Violation> {
        match header.kind {
            Kind::Data | Kind::Window => self.stream_frame(header),
            Kind::Ping if header.has(SYN) => {
                self.urge(Header::new(Kind::Ping, ACK, 0, header.length));
                Ok(())
            }
            Kind::Ping => {
                if let Keepalive::Asked { sent } = self.keepalive
                    && header.length == self.ping_id
                {
                    self.last_rtt = Some(now.duration_since(sent));
                    self.keepalive = Keepalive::Quiet { next: now + self.config.ping_interval };
                }
                Ok(())
            }
            Kind::GoAway => {
                // Code 0 only says that no more streams will be opened.
                if header.length != 0 {
                    self.close(CloseReason::PeerGoAway(header.length));
                }
                Ok(())
            }
        }
    }

    fn stream_frame(&mut self, header: Header) -> Result<(), Violation> {
        let id = header.stream;
        if header.has(SYN) {
            self.open(id)?;
        }
        let mut body = Body {
            stream: id,
            serial: None,
            remaining: if header.kind == Kind::Data { header.length } else { 0 },
            fin: header.has(FIN),
        };
        // Frames for streams we no longer know are in flight all the time: read over.
        if let Some(stream) = self.streams.get_mut(&id) {
            let key = StreamKey { id, serial: stream.serial };
            if header.has(RST) {
                self.peer_reset(key);
            } else if header.kind == Kind::Window {
                stream.grant(header.length);
                if stream.write_blocked && stream.has_room() {
                    stream.write_blocked = false;
                    self.events.push_back(Event::Writable(key));
                }
                body.serial = Some(key.serial);
            } else if !stream.peer_finished {
                if !stream.expect(header.length) {
                    return Err(Violation::Window(id, header.length));
                }
                body.serial = Some(key.serial);
            }
        }
        self.body = Some(body);
        Ok(())
    }

    /// Takes what `bytes` has of a payload; returns the bytes behind it.
    fn take_body<'a>(&mut self, mut body: Body, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = usize::try_from(body.remaining).unwrap_or(usize::MAX);
        let (payload, rest) = bytes.split_at(bytes.len().min(wanted));
        body.remaining -= u32::try_from(payload.len()).unwrap_or(body.remaining);
        let over = body.remaining == 0;
        if let Some(serial) = body.serial {
            let key = StreamKey { id: body.stream, serial };
            if let Some(stream) = self.stream(key) {
                stream.receive(payload);
                stream.peer_finished |= over && body.fin;
                if (stream.unread() > 0 || stream.peer_finished)
                    && std::mem::take(&mut stream.read_blocked)
                {
                    self.events.push_back(Event::Readable(key));
                }
                self.remove_if_done(key);
            }
        }
        if !over {
            self.body = Some(body);
        }
        rest
    }

    fn open(&mut self, id: u32) -> Result<(), Violation> {
        if id.is_multiple_of(2) {
            return Err(Violation::StreamId(id));
        }
        if self.streams.contains_key(&id) {
            return Err(Violation::DuplicateStream(id));
        }
        if self.streams.len() >= self.config.max_streams
            || self.backlog.len() >= self.config.backlog
        {
            self.urge(Header::new(Kind::Window, RST, id, 0));
            return Ok(());
        }
        let mut window = INITIAL_WINDOW;
        if self.wide < self.config.wide_streams && self.config.window > INITIAL_WINDOW {
            window = self.config.window;
            self.wide += 1;
        }
        let key = StreamKey { id, serial: self.next_serial };
        self.next_serial += 1;
        self.streams.insert(id, Stream::new(key.serial, window, INITIAL_WINDOW));
        self.backlog.push_back(key);
        self.events.push_back(Event::Incoming);
        // frpc gives the whole session up if a SYN stays without ACK for 75 s, so this cannot
        // wait for whoever accepts the stream.
        self.urge(Header::new(Kind::Window, ACK, id, window - INITIAL_WINDOW));
        Ok(())
    }

    fn peer_reset(&mut self, key: StreamKey) {
        if let Some(at) = self.backlog.iter().position(|waiting| *waiting == key) {
            self.backlog.remove(at);
            self.remove(key);
            return;
        }
        let Some(stream) = self.stream(key) else { return };
        if stream.released.is_some() {
            self.remove(key);
            return;
        }
        stream.reset = true;
        stream.drop_inbox();
        stream.drop_outbox();
        self.events.extend([Event::Readable(key), Event::Writable(key)]);
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
