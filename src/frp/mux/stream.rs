//! One stream of a session: its windows, its two queues, and how far each side has closed it.
//!
//! Sans-io. Credit is spent when bytes are queued, not when they leave, so whatever waits in
//! `outbox` may always be sent. Which stream sends next is `session`'s concern.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{HEADER, Header, Kind};

/// Bytes either side may send on a new stream before any credit is given.
pub(super) const INITIAL_WINDOW: u32 = 262_144;

/// Most payload of one data frame. With its header it fills two TLS records exactly.
pub(super) const MAX_PAYLOAD: usize = 32 * 1024 - HEADER;

/// Most payload one stream may have waiting to be sent.
pub(super) const MAX_QUEUED: usize = 2 * MAX_PAYLOAD;

/// A receive buffer that grew beyond this is given back once it is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

/// How far our own direction is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// FIN follows what is queued.
    Finishing,
    /// FIN is out; it must never go out again, a second one makes frpc drop the session.
    Finished,
}

#[derive(Debug)]
pub(super) struct Stream {
    /// Tells this stream from an earlier one with the same id.
    pub(super) serial: u64,
    /// The peer will send nothing more.
    pub(super) peer_finished: bool,
    /// The peer voided the stream.
    pub(super) reset: bool,
    pub(super) sending: Sending,
    /// When the caller let go of the stream.
    pub(super) released: Option<Instant>,
    /// Whether the stream waits for its turn to send.
    pub(super) scheduled: bool,
    /// A reader found nothing and wants to hear of more.
    pub(super) read_blocked: bool,
    /// A writer found no room and wants to hear of some.
    pub(super) write_blocked: bool,
    inbox: BytesMut,
    /// All the bytes the peer may have under way or unread here.
    window: u32,
    /// What the peer may still send.
    allowance: u32,
    /// Read by the caller, not yet given back as credit.
    consumed: u32,
    /// What we may still queue.
    credit: u32,
    /// Payloads, each with room for a header in front.
    outbox: VecDeque<BytesMut>,
    queued: usize,
}

impl Stream {
    /// A stream whose peer may send `window` bytes and granted us `credit`.
    pub(super) fn new(serial: u64, window: u32, credit: u32) -> Self {
        Self {
            serial,
            peer_finished: false,
            reset: false,
            sending: Sending::Open,
            released: None,
            scheduled: false,
            read_blocked: false,
            write_blocked: false,
            inbox: BytesMut::new(),
            window,
            allowance: window,
            consumed: 0,
            credit,
            outbox: VecDeque::new(),
            queued: 0,
        }
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Accounts for a data frame of `length` that is about to arrive; false if the peer had no
    /// credit for it.
    pub(super) fn expect(&mut self, length: u32) -> bool {
        match self.allowance.checked_sub(length) {
            Some(rest) => {
                self.allowance = rest;
                true
            }
            None => false,
        }
    }

    /// Keeps payload for the reader, if there still is one.
    pub(super) fn receive(&mut self, payload: &[u8]) {
        if self.released.is_none() && !self.reset {
            self.inbox.extend_from_slice(payload);
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.inbox.len()
    }

    /// Hands up to `max` bytes to `take` and returns their number, with the credit that is now
    /// due to the peer (0 for none yet).
    pub(super) fn read(&mut self, max: usize, take: impl FnOnce(&[u8])) -> (usize, u32) {
        let n = max.min(self.inbox.len());
        take(&self.inbox[..n]);
        self.inbox.advance(n);
        if self.inbox.is_empty() && self.inbox.capacity() > KEEP_CAPACITY {
            self.inbox = BytesMut::new();
        }
        self.consumed = self.consumed.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        if self.peer_finished || self.consumed < self.window / 2 {
            return (n, 0);
        }
        let due = std::mem::take(&mut self.consumed);
        self.allowance = self.allowance.saturating_add(due);
        (n, due)
    }

    /// More credit from the peer.
    pub(super) fn grant(&mut self, delta: u32) {
        self.credit = self.credit.saturating_add(delta);
    }

    /// Queues as much of `data` as credit and room allow; returns how much.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let accepted = data.len().min(credit).min(MAX_QUEUED - self.queued);
        let mut rest = &data[..accepted];
        while !rest.is_empty() {
            let (chunk, space) = match self.outbox.back_mut() {
                Some(chunk) if chunk.len() < HEADER + MAX_PAYLOAD => {
                    let space = HEADER + MAX_PAYLOAD - chunk.len();
                    (chunk, space)
                }
                _ => {
                    let mut chunk = BytesMut::with_capacity(HEADER + rest.len().min(MAX_PAYLOAD));
                    chunk.extend_from_slice(&[0; HEADER]);
                    self.outbox.push_back(chunk);
                    continue;
                }
            };
            let (front, back) = rest.split_at(rest.len().min(space));
            chunk.extend_from_slice(front);
            rest = back;
        }
        self.queued += accepted;
        self.credit -= u32::try_from(accepted).unwrap_or(self.credit);
        accepted
    }

    /// Payload waiting to be sent.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a writer would get anything in.
    pub(super) fn has_room(&self) -> bool {
        self.credit > 0 && self.queued < MAX_QUEUED
    }

    /// Whether there is a frame to send: data, or the one FIN.
    pub(super) fn has_frame(&self) -> bool {
        !self.outbox.is_empty() || self.sending == Sending::Finishing
    }

    /// The next data frame, header and payload in one piece.
    pub(super) fn pop_frame(&mut self, id: u32) -> Option<Bytes> {
        let mut chunk = self.outbox.pop_front()?;
        let payload = chunk.len() - HEADER;
        self.queued -= payload;
        let length = u32::try_from(payload).unwrap_or(u32::MAX);
        chunk[..HEADER].copy_from_slice(&Header::new(Kind::Data, 0, id, length).encode());
        Some(chunk.freeze())
    }

    /// Throws away what nobody will read any more.
    pub(super) fn drop_inbox(&mut self) {
        self.inbox = BytesMut::new();
    }

    /// Throws away what need not be sent any more.
    pub(super) fn drop_outbox(&mut self) {
        self.outbox = VecDeque::new();
        self.queued = 0;
    }
}
