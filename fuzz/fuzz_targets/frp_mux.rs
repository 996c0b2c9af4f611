//! The mux session against a peer that sends any frames, in any portions, and callers that do
//! anything. What leaves is well formed: one FIN per stream and nothing after it, never more data
//! than credit; streams do not mix; memory stays within what the configuration grants.

#![no_main]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use trigon::frp::mux::Config;
use trigon::frp::mux::fuzzing::{BareSession, BareStream};

const WINDOW: u32 = 400_000;
const INITIAL: u32 = 262_144;
const STREAMS: usize = 5;
const WIDE: usize = 2;

/// Two wide windows and three initial ones, with the spare room of buffers that double; a queue
/// of 64 KiB per stream; 48 KiB of answers; and what this target itself holds.
const HEAP: usize = 2 * (2 * 400_000 + 3 * 262_144) + STREAMS * 70_000 + 100_000 + 1_000_000;

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    probation: Option<u16>,
    ops: Vec<Op<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    /// A whole frame; the payload is made up and cut where `cut` says.
    Frame {
        kind: u8,
        flags: u8,
        id: u8,
        length: u32,
        cut: u16,
    },
    /// Anything at all.
    Bytes(&'a [u8]),
    Accept,
    Admit,
    Read {
        index: u8,
        max: u32,
    },
    Write {
        index: u8,
        length: u32,
    },
    Finish(u8),
    Release(u8),
    Transmit,
    Pass(u16),
    Due,
}

/// What a peer knows of one stream id.
#[derive(Default)]
struct Seen {
    /// Credit given under this id, over all streams that had it.
    granted: u64,
    received: u64,
    fins: u32,
    ended: bool,
}

fuzz_target!(|input: Input<'_>| {
    trigon_fuzz::within(HEAP, || run(input.probation.map(u32::from), &input.ops));
});

fn run(mut probation: Option<u32>, ops: &[Op<'_>]) {
    let config = Config {
        max_streams: STREAMS,
        backlog: 3,
        window: WINDOW,
        wide_streams: WIDE,
        probation,
        ..Config::default()
    };
    let mut now = Instant::now();
    let mut session = BareSession::new(config, now);
    let mut unproved = 0;
    let mut held: Vec<BareStream> = Vec::new();
    let mut peer = Peer { aligned: true, seen: HashMap::new() };
    for op in ops {
        match *op {
            Op::Frame { kind, flags, id, length, cut } => {
                let wire = peer.frame(kind % 5, u16::from(flags), u32::from(id % 16), length);
                let (front, back) = wire.split_at(usize::from(cut).min(wire.len()));
                session.input(now, front);
                session.input(now, back);
            }
            Op::Bytes(bytes) => {
                peer.aligned = false;
                session.input(now, bytes);
            }
            Op::Admit => {
                probation = None;
                session.admit();
            }
            Op::Accept => held.extend(session.accept()),
            Op::Read { index, max } => {
                let Some(stream) = held.get(usize::from(index)) else { continue };
                let n = session.read(*stream, max as usize, |bytes| {
                    let one = bytes.iter().all(|byte| Some(byte) == bytes.first());
                    assert!(one || !peer.aligned, "streams do not mix");
                });
                assert!(n <= max as usize);
                unproved += n;
                assert!(probation.is_none_or(|most| unproved <= most as usize), "not admitted");
            }
            Op::Write { index, length } => {
                let Some(stream) = held.get(usize::from(index)) else { continue };
                let data = vec![2; (length % 100_000) as usize];
                assert!(session.write(*stream, &data) <= data.len());
            }
            Op::Finish(index) => {
                if let Some(stream) = held.get(usize::from(index)) {
                    session.finish(*stream);
                }
            }
            Op::Release(index) => {
                if usize::from(index) < held.len() {
                    session.release(now, held.swap_remove(usize::from(index)));
                }
            }
            Op::Transmit => peer.fetch(&mut session),
            Op::Pass(millis) => {
                now += Duration::from_millis(millis.into());
                session.handle_timeout(now);
            }
            Op::Due => {
                let Some(due) = session.poll_timeout() else { continue };
                now = now.max(due);
                session.handle_timeout(now);
                assert!(session.poll_timeout().is_none_or(|next| next > now), "no spinning");
            }
        }
        session.drain_events();
        assert!(session.open_streams() <= STREAMS);
        assert_eq!(session.poll_timeout().is_none(), session.close_reason().is_some());
    }
    peer.fetch(&mut session);
    assert!(!session.wants_transmit(), "all that can be sent has been sent");
    for stream in held {
        session.release(now, stream);
    }
    if session.close_reason().is_some() {
        assert_eq!(session.open_streams(), 0, "an ended session keeps nothing");
    }
}

struct Peer {
    /// Whether frames still begin where the session believes they do.
    aligned: bool,
    seen: HashMap<u32, Seen>,
}

impl Peer {
    fn frame(&mut self, kind: u8, flags: u16, id: u32, length: u32) -> Vec<u8> {
        let length = if kind == 0 { length % (WINDOW + 2) } else { length };
        let one = self.seen.entry(id).or_default();
        if kind < 2 && flags & SYN != 0 {
            one.granted += u64::from(INITIAL);
        }
        if kind == 1 {
            one.granted += u64::from(length);
        }
        let mut wire = vec![0, kind];
        wire.extend(flags.to_be_bytes());
        wire.extend(id.to_be_bytes());
        wire.extend(length.to_be_bytes());
        if kind == 0 {
            let mark = u8::try_from(id).unwrap_or_default();
            wire.resize(12 + length as usize, mark);
        }
        wire
    }

    fn fetch(&mut self, session: &mut BareSession) {
        while let Some(bytes) = session.poll_transmit() {
            let mut wire = &bytes[..];
            while let Some((header, rest)) = wire.split_first_chunk::<12>() {
                wire = &rest[self.see(header)..];
            }
            assert!(wire.is_empty(), "only whole frames are handed out");
        }
    }

    /// Checks a header as it leaves; the length of its payload.
    fn see(&mut self, header: &[u8; 12]) -> usize {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *header;
        let flags = u16::from_be_bytes([f0, f1]);
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        assert!(version == 0 && kind <= 3);
        let one = self.seen.entry(id).or_default();
        match kind {
            0 => {
                assert_eq!(flags, 0, "data carries no flags");
                assert!(one.fins == 0 && !one.ended, "data after the end");
                assert!((1..=32 * 1024 - 12).contains(&length));
                one.received += u64::from(length);
                assert!(!self.aligned || one.received <= one.granted, "beyond the window");
                return length as usize;
            }
            1 if flags & ACK != 0 => (one.fins, one.ended) = (0, false),
            1 if flags & FIN != 0 => {
                one.fins += 1;
                assert!(one.fins == 1 && !one.ended, "a second fin");
            }
            1 if flags & RST != 0 => one.ended = true,
            1 => assert!(!one.ended, "credit after the end"),
            _ => assert_eq!(id, 0, "pings and farewells concern the session"),
        }
        0
    }
}
