//! The receiving half of a session: cuts the bytes into frames, and does what each one says.
//!
//! Sans-io. Payload goes to its stream as it arrives, so a frame as large as a window needs no
//! room of its own.

use std::time::Instant;

use super::{Event, Session, StreamKey};
use crate::frp::mux::frame::{ACK, FIN, HEADER, Header, Kind, RST, SYN};
use crate::frp::mux::stream::{INITIAL_WINDOW, Stream};
use crate::frp::mux::{CloseReason, Violation};

/// What has arrived of a frame that is not complete.
#[derive(Debug, Default)]
pub(super) struct Partial {
    header: Vec<u8>,
    body: Option<Body>,
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

impl Session {
    /// Takes bytes as they came off the connection, in any portions.
    pub(in crate::frp::mux) fn input(&mut self, now: Instant, mut bytes: &[u8]) {
        self.keepalive.heard(now);
        while self.closed.is_none() {
            if let Some(body) = self.partial.body.take() {
                bytes = self.take_body(body, bytes);
                if self.partial.body.is_some() {
                    return;
                }
            }
            let (front, rest) = bytes.split_at(bytes.len().min(HEADER - self.partial.header.len()));
            self.partial.header.extend_from_slice(front);
            bytes = rest;
            let Ok(header) = <[u8; HEADER]>::try_from(self.partial.header.as_slice()) else {
                return;
            };
            self.partial.header.clear();
            if let Err(violation) =
                Header::decode(header).and_then(|header| self.frame(now, header))
            {
                self.close(violation.into());
            }
        }
    }

    fn frame(&mut self, now: Instant, header: Header) -> Result<(), Violation> {
        match header.kind {
            Kind::Data | Kind::Window => self.stream_frame(header),
            Kind::Ping if header.has(SYN) => {
                self.urge(Header::new(Kind::Ping, ACK, 0, header.length));
                Ok(())
            }
            Kind::Ping => {
                self.keepalive.pong(now, header.length);
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
        self.partial.body = Some(body);
        Ok(())
    }

    /// Takes what `bytes` has of a payload; returns the bytes behind it.
    fn take_body<'a>(&mut self, mut body: Body, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = usize::try_from(body.remaining).unwrap_or(usize::MAX);
        let (payload, rest) = bytes.split_at(bytes.len().min(wanted));
        body.remaining -= u32::try_from(payload.len()).unwrap_or(body.remaining);
        let over = body.remaining == 0;
        if let Some(serial) = body.serial {
            if !self.within_probation(payload.len()) {
                self.close(Violation::Probation.into());
                return &[];
            }
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
            self.partial.body = Some(body);
        }
        rest
    }

    /// Spends what a peer may send before it is admitted; whether it was enough.
    fn within_probation(&mut self, bytes: usize) -> bool {
        let Some(left) = &mut self.probation else { return true };
        let spent = u32::try_from(bytes).ok().and_then(|bytes| left.checked_sub(bytes));
        spent.map(|rest| *left = rest).is_some()
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
        if self.probation.is_none()
            && self.wide < self.config.wide_streams
            && self.config.window > INITIAL_WINDOW
        {
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
}
