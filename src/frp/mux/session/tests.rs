use proptest::prelude::*;

use super::*;
use crate::frp::mux::frame::ACK;
use crate::frp::mux::stream::{MAX_PAYLOAD, MAX_QUEUED};

/// frpc's own SYN: a window of 6 MiB.
const FRPC_DELTA: u32 = 0x005c_0000;

fn session(config: Config) -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(config, now), now)
}

fn frame(kind: Kind, flags: u16, stream: u32, length: u32) -> [u8; HEADER] {
    Header::new(kind, flags, stream, length).encode()
}

fn data(stream: u32, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&frame(Kind::Data, flags, stream, length)[..], payload].concat()
}

/// Everything the session wants to send, frame by frame.
fn sent(session: &mut Session) -> Vec<(Header, Vec<u8>)> {
    let mut wire = Vec::new();
    while let Some(bytes) = session.poll_transmit() {
        wire.extend_from_slice(&bytes);
    }
    frames(&wire)
}

fn frames(mut wire: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = wire.split_first_chunk::<HEADER>() {
        let header = Header::decode(*header).unwrap();
        let length = if header.kind == Kind::Data { header.length as usize } else { 0 };
        frames.push((header, rest[..length].to_vec()));
        wire = &rest[length..];
    }
    assert!(wire.is_empty(), "only whole frames are handed out");
    frames
}

fn headers(session: &mut Session) -> Vec<Header> {
    sent(session).into_iter().map(|(header, _)| header).collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// A session with stream `id` open and accepted, nothing left to send.
fn opened(config: Config, id: u32, delta: u32) -> (Session, Instant, StreamKey) {
    let (mut session, now) = session(config);
    session.input(now, &frame(Kind::Window, SYN, id, delta));
    let key = session.accept().unwrap();
    sent(&mut session);
    events(&mut session);
    (session, now, key)
}

fn read_all(session: &mut Session, key: StreamKey) -> Vec<u8> {
    let mut all = Vec::new();
    while let Poll::Ready(Ok(1..)) = session.read(key, 4096, |bytes| all.extend_from_slice(bytes)) {
    }
    all
}

#[test]
fn before_it_is_admitted_a_peer_may_send_no_more_than_a_login_needs() {
    let config = Config { probation: Some(100), ..Config::default() };
    for (admitted, sizes, ends) in [
        (false, &[60, 40][..], false),
        (false, &[60, 41], true),
        (false, &[101], true),
        (true, &[60, 60_000], false),
    ] {
        let (mut session, now, _) = opened(config.clone(), 1, 0);
        if admitted {
            session.admit();
        }
        for size in sizes {
            session.input(now, &data(1, 0, &vec![7; *size]));
        }
        let expected = ends.then_some(CloseReason::Violation(Violation::Probation));
        assert_eq!(session.close_reason().cloned(), expected, "{admitted} {sizes:?}");
    }
}

#[test]
fn a_syn_is_acknowledged_before_anyone_accepts() {
    let (mut session, now) = session(Config::default());
    session.input(now, &frame(Kind::Window, SYN, 1, FRPC_DELTA));
    assert_eq!(headers(&mut session), [Header::new(Kind::Window, ACK, 1, 0x000c_0000)]);
    assert_eq!(events(&mut session), [Event::Incoming]);
}

#[test]
fn payload_arrives_however_the_bytes_are_cut() {
    let wire = [
        &frame(Kind::Window, SYN, 3, FRPC_DELTA)[..],
        &data(99, 0, b"for nobody"),
        &data(3, 0, b"hello"),
        &data(3, FIN, b" world"),
    ]
    .concat();
    for step in 1..wire.len() {
        let (mut session, now) = session(Config::default());
        wire.chunks(step).for_each(|chunk| session.input(now, chunk));
        let key = session.accept().unwrap();
        assert_eq!(read_all(&mut session, key), b"hello world");
        assert_eq!(session.read(key, 1, |_| ()), Poll::Ready(Ok(0)), "then the end");
    }
}

#[test]
fn credit_goes_back_when_half_the_window_was_read() {
    let (mut session, now, key) = opened(Config::default(), 1, 0);
    let half = 1 << 19;
    session.input(now, &data(1, 0, &vec![7; half]));
    assert_eq!(session.read(key, half - 1, |_| ()), Poll::Ready(Ok(half - 1)));
    assert_eq!(headers(&mut session), []);
    assert_eq!(session.read(key, 9, |_| ()), Poll::Ready(Ok(1)));
    assert_eq!(headers(&mut session), [Header::new(Kind::Window, 0, 1, 1 << 19)]);
}

#[test]
fn sending_stops_at_the_peers_window_and_resumes_on_credit() {
    let (mut session, now, key) = opened(Config::default(), 1, 0);
    let mut total = 0;
    loop {
        match session.write(key, &[0; 10_000]) {
            Poll::Ready(n) => total += n.unwrap(),
            Poll::Pending => {
                if headers(&mut session).is_empty() {
                    break;
                }
            }
        }
    }
    assert_eq!(total, 262_144);
    events(&mut session);
    session.input(now, &frame(Kind::Window, 0, 1, 5));
    assert_eq!(events(&mut session), [Event::Writable(key)]);
    assert_eq!(session.write(key, b"1234567"), Poll::Ready(Ok(5)));
    assert_eq!(sent(&mut session), [(Header::new(Kind::Data, 0, 1, 5), b"12345".to_vec())]);
}

#[test]
fn a_stalled_connection_lets_a_stream_queue_only_so_much() {
    let (mut session, _, key) = opened(Config::default(), 1, FRPC_DELTA);
    let chunk = vec![0; 1 << 20];
    assert_eq!(session.write(key, &chunk), Poll::Ready(Ok(MAX_QUEUED)));
    assert!(session.write(key, &chunk).is_pending());
    let lengths: Vec<_> = headers(&mut session).iter().map(|header| header.length).collect();
    assert_eq!(lengths, [u32::try_from(MAX_PAYLOAD).unwrap(); 2]);
    assert_eq!(events(&mut session), [Event::Writable(key)]);
}

#[test]
fn streams_take_turns_and_answers_overtake_them() {
    let (mut session, now, first) = opened(Config::default(), 1, FRPC_DELTA);
    session.input(now, &frame(Kind::Window, SYN, 3, FRPC_DELTA));
    let second = session.accept().unwrap();
    sent(&mut session);
    for key in [first, second] {
        assert!(session.write(key, &vec![0; MAX_QUEUED]).is_ready());
    }
    let mut order = frames(&session.poll_transmit().unwrap());
    session.input(now, &frame(Kind::Ping, SYN, 0, 77));
    order.extend(sent(&mut session));
    let order: Vec<_> = order.iter().map(|(header, _)| (header.kind, header.stream)).collect();
    let expect =
        [(Kind::Data, 1), (Kind::Ping, 0), (Kind::Data, 3), (Kind::Data, 1), (Kind::Data, 3)];
    assert_eq!(order, expect);
}

#[test]
fn ping_replies_echo_the_id() {
    let (mut session, now) = session(Config::default());
    session.input(now, &frame(Kind::Ping, SYN, 0, 0));
    session.input(now, &frame(Kind::Ping, SYN, 0, 42));
    let replies = [Header::new(Kind::Ping, ACK, 0, 0), Header::new(Kind::Ping, ACK, 0, 42)];
    assert_eq!(headers(&mut session), replies);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Finish,
    Release,
    PeerFin,
    PeerRst,
    Write,
    Send,
}

#[test]
fn every_way_of_closing_sends_one_fin_or_one_rst_and_leaks_nothing() {
    use Step::{Finish, PeerFin, PeerRst, Release, Send, Write};
    let table: &[(&[Step], &[u16])] = &[
        (&[Finish, PeerFin, Release], &[FIN]),
        (&[Finish, Release, PeerFin], &[FIN]),
        (&[Finish, Send, Release, PeerFin], &[FIN]),
        (&[PeerFin, Finish, Finish, Release], &[FIN]),
        (&[PeerFin, Finish, Send, Finish, Release], &[FIN]),
        (&[PeerFin, Release], &[FIN]),
        (&[PeerFin, PeerFin, Release], &[FIN]),
        (&[Write, PeerFin, Release], &[0, FIN]),
        (&[Write, Finish, Release, PeerFin], &[0, FIN]),
        (&[Release], &[RST]),
        (&[Release, PeerFin], &[RST]),
        (&[Write, Release], &[RST]),
        (&[Finish, Send, Release, PeerRst], &[FIN]),
        (&[Finish, PeerRst, Release], &[]),
        (&[Finish, PeerRst, Send, Release], &[]),
        (&[Write, PeerRst, Finish, Release], &[]),
        (&[PeerRst, Release, PeerFin], &[]),
        (&[PeerFin, PeerRst, Release], &[]),
    ];
    for (steps, expect) in table {
        let (mut session, now, key) = opened(Config::default(), 1, FRPC_DELTA);
        let mut flags = Vec::new();
        for step in *steps {
            match step {
                Finish => session.finish(key),
                Release => session.release(now, key),
                PeerFin => session.input(now, &frame(Kind::Window, FIN, 1, 0)),
                PeerRst => session.input(now, &frame(Kind::Window, RST, 1, 0)),
                Write => assert!(session.write(key, b"x").is_ready()),
                Send => flags.extend(headers(&mut session).iter().map(|header| header.flags)),
            }
        }
        flags.extend(headers(&mut session).iter().map(|header| header.flags));
        assert_eq!(flags, *expect, "{steps:?}");
        assert_eq!(session.open_streams(), 0, "{steps:?}");
        assert_eq!(session.wide, 0, "{steps:?}");
        assert_eq!(session.close_reason(), None, "{steps:?}");
    }
}

#[test]
fn a_reset_ends_reading_and_writing_at_once() {
    let (mut session, now, key) = opened(Config::default(), 1, FRPC_DELTA);
    assert!(session.read(key, 1, |_| ()).is_pending());
    session.input(now, &data(1, 0, b"lost"));
    session.input(now, &frame(Kind::Window, RST, 1, 0));
    assert!(events(&mut session).contains(&Event::Readable(key)));
    assert_eq!(session.read(key, 9, |_| ()), Poll::Ready(Err(StreamError::Reset)));
    assert_eq!(session.write(key, b"x"), Poll::Ready(Err(StreamError::Reset)));
}

#[test]
fn a_finished_stream_takes_no_more() {
    let (mut session, _, key) = opened(Config::default(), 1, FRPC_DELTA);
    session.finish(key);
    assert_eq!(session.write(key, b"x"), Poll::Ready(Err(StreamError::Finished)));
}

#[test]
fn too_many_streams_are_refused_one_by_one() {
    let table = [
        (Config { backlog: 256, ..Config::default() }, 256),
        (Config { max_streams: 100, ..Config::default() }, 100),
    ];
    for (config, limit) in table {
        let (mut session, now) = session(config);
        for n in 0..300 {
            session.input(now, &frame(Kind::Window, SYN, 2 * n + 1, FRPC_DELTA));
        }
        let answers = headers(&mut session);
        assert_eq!(answers.iter().filter(|header| header.has(ACK)).count(), limit);
        assert_eq!(answers.iter().filter(|header| header.has(RST)).count(), 300 - limit);
        assert_eq!(session.close_reason(), None);
    }
}

#[test]
fn only_so_many_streams_get_the_wide_window() {
    let (mut session, now) = session(Config { wide_streams: 1, ..Config::default() });
    session.input(now, &frame(Kind::Window, SYN, 1, 0));
    session.input(now, &frame(Kind::Window, SYN, 3, 0));
    let key = session.accept().unwrap();
    session.release(now, key);
    session.input(now, &frame(Kind::Window, SYN, 5, 0));
    let deltas: Vec<_> = headers(&mut session)
        .iter()
        .filter(|header| header.has(ACK))
        .map(|header| header.length)
        .collect();
    assert_eq!(deltas, [0x000c_0000, 0, 0x000c_0000]);
}

#[test]
fn an_unaccepted_stream_that_was_reset_is_not_offered() {
    let (mut session, now) = session(Config::default());
    session.input(now, &frame(Kind::Window, SYN, 1, 0));
    session.input(now, &frame(Kind::Window, RST, 1, 0));
    assert_eq!(session.accept(), None);
    assert_eq!(session.open_streams(), 0);
}

#[test]
fn violations_are_named_and_answered_by_go_away() {
    let syn = frame(Kind::Window, SYN, 1, 0);
    let table: [(Vec<u8>, Violation); 7] = [
        (b"\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec(), Violation::Version(1)),
        (b"\0\x04\0\0\0\0\0\0\0\0\0\0".to_vec(), Violation::Kind(4)),
        (frame(Kind::Window, SYN, 2, 0).to_vec(), Violation::StreamId(2)),
        (frame(Kind::Window, SYN, 0, 0).to_vec(), Violation::StreamId(0)),
        ([syn, syn].concat(), Violation::DuplicateStream(1)),
        (
            [syn, frame(Kind::Data, 0, 1, (1 << 20) + 1)].concat(),
            Violation::Window(1, (1 << 20) + 1),
        ),
        (frame(Kind::Ping, SYN, 0, 1).repeat(5000), Violation::NotReading),
    ];
    for (wire, violation) in table {
        let (mut session, now) = session(Config::default());
        session.input(now, &wire);
        session.input(now, &wire);
        assert_eq!(session.close_reason(), Some(&violation.into()));
        assert_eq!(headers(&mut session), [Header::new(Kind::GoAway, 0, 0, 1)]);
        assert_eq!(events(&mut session), [Event::Closed]);
        assert_eq!(session.poll_timeout(), None);
    }
}

#[test]
fn only_an_angry_go_away_ends_the_session() {
    let (mut session, now) = session(Config::default());
    session.input(now, &frame(Kind::GoAway, 0, 0, 0));
    assert_eq!(session.close_reason(), None);
    session.input(now, &frame(Kind::GoAway, 0, 0, 2));
    assert_eq!(session.close_reason(), Some(&CloseReason::PeerGoAway(2)));
    assert_eq!(headers(&mut session), []);
}

#[test]
fn a_silent_peer_is_pinged_then_dead() {
    let (mut session, _) = session(Config::default());
    session.handle_timeout(session.poll_timeout().unwrap());
    assert_eq!(headers(&mut session), [Header::new(Kind::Ping, SYN, 0, 1)]);
    let half = frame(Kind::Window, 0, 9, 0);
    let due = session.poll_timeout().unwrap();
    session.input(due, &half[..5]);
    session.handle_timeout(due);
    assert_eq!(session.close_reason(), None, "part of a frame is a sign of life");
    session.handle_timeout(session.poll_timeout().unwrap());
    assert_eq!(session.close_reason(), Some(&CloseReason::Dead(Duration::from_secs(10))));
}

#[test]
fn a_stream_the_peer_never_closes_is_reset_in_the_end() {
    let (mut session, start, key) = opened(Config::default(), 1, 0);
    session.finish(key);
    session.release(start, key);
    assert_eq!(headers(&mut session), [Header::new(Kind::Window, FIN, 1, 0)]);
    let mut now = start;
    for id in 1.. {
        now = session.poll_timeout().unwrap();
        session.handle_timeout(now);
        if session.open_streams() == 0 {
            break;
        }
        session.input(now, &frame(Kind::Ping, ACK, 0, id));
    }
    assert_eq!(now, start + Duration::from_secs(60));
    assert!(headers(&mut session).contains(&Header::new(Kind::Window, RST, 1, 0)));
}

#[test]
fn what_arrived_before_the_end_can_still_be_read() {
    let (mut session, now, key) = opened(Config::default(), 1, 0);
    session.input(now, &data(1, 0, b"tail"));
    session.close(CloseReason::PeerClosed);
    assert_eq!(read_all(&mut session, key), b"tail");
    let ended = StreamError::Closed(CloseReason::PeerClosed);
    assert_eq!(session.read(key, 1, |_| ()), Poll::Ready(Err(ended.clone())));
    assert_eq!(session.write(key, b"x"), Poll::Ready(Err(ended)));
    session.finish(key);
    session.release(now, key);
    assert_eq!((session.open_streams(), headers(&mut session)), (0, vec![]));
}

#[derive(Clone, Debug)]
enum Op {
    Frame(Kind, u16, u32, u32),
    Garbage(Vec<u8>),
    Accept,
    Read(usize, usize),
    Write(usize, usize),
    Finish(usize),
    Release(usize),
    Transmit,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        4 => Just(Kind::Data),
        4 => Just(Kind::Window),
        1 => Just(Kind::Ping),
    ];
    let flags = prop_oneof![
        6 => Just(0), 6 => Just(SYN), 2 => Just(FIN), 1 => Just(RST), 1 => 0u16..16
    ];
    let id = prop_oneof![20 => (0u32..6).prop_map(|n| 2 * n + 1), 1 => 0u32..8];
    let length = prop_oneof![3 => 0u32..40, 1 => 0u32..150_000, 1 => 60_000u32..300_000];
    prop_oneof![
        12 => (kind, flags, id, length).prop_map(|(k, f, i, l)| Op::Frame(k, f, i, l)),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(Op::Garbage),
        6 => Just(Op::Accept),
        3 => (0usize..6, 0usize..300_000).prop_map(|(i, n)| Op::Read(i, n)),
        6 => (0usize..6, 0usize..100_000).prop_map(|(i, n)| Op::Write(i, n)),
        2 => (0usize..6).prop_map(Op::Finish),
        2 => (0usize..6).prop_map(Op::Release),
        8 => Just(Op::Transmit),
        1 => (0u64..20).prop_map(Op::Wait),
    ]
}

/// What the peer knows of one stream.
#[derive(Default)]
struct Seen {
    credit: u64,
    fins: u32,
    reset: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn no_sequence_breaks_the_promises(ops in proptest::collection::vec(op(), 1..120)) {
        let config = Config {
            max_streams: 5, backlog: 3, window: 400_000, wide_streams: 2, ..Config::default()
        };
        let bound = 2 * 400_000 + 3 * 262_144;
        let (mut session, mut now) = session(config);
        let mut held: Vec<StreamKey> = Vec::new();
        let mut seen: HashMap<u32, Seen> = HashMap::new();
        for op in ops {
            let pick = |index: usize| held.get(index).copied();
            match op {
                Op::Frame(kind, flags, id, length) => {
                    let known = session.streams.contains_key(&id);
                    let payload = if kind == Kind::Data { length as usize } else { 0 };
                    session.input(now, &frame(kind, flags, id, length));
                    if session.streams.contains_key(&id) || known {
                        let one = seen.entry(id).or_default();
                        if !known {
                            *one = Seen { credit: 262_144, reset: one.reset, fins: 0 };
                        }
                        if kind == Kind::Window {
                            one.credit += u64::from(length);
                        }
                    }
                    session.input(now, &vec![1; payload]);
                }
                Op::Garbage(bytes) => session.input(now, &bytes),
                Op::Accept => held.extend(session.accept()),
                Op::Read(index, max) => if let Some(key) = pick(index) {
                    let _ = session.read(key, max, |_| ());
                },
                Op::Write(index, n) => if let Some(key) = pick(index) {
                    let _ = session.write(key, &vec![2; n]);
                },
                Op::Finish(index) => if let Some(key) = pick(index) {
                    session.finish(key);
                },
                Op::Release(index) => if index < held.len() {
                    session.release(now, held.swap_remove(index));
                },
                Op::Transmit => for (header, _) in sent(&mut session) {
                    let one = seen.entry(header.stream).or_default();
                    if header.has(ACK) && header.kind == Kind::Window {
                        one.reset = false;
                    } else if header.kind == Kind::Data {
                        prop_assert!(one.fins == 0 && !one.reset, "data after the end");
                        prop_assert!(header.length as usize <= MAX_PAYLOAD);
                        prop_assert!(u64::from(header.length) <= one.credit, "beyond the window");
                        one.credit -= u64::from(header.length);
                    } else if header.has(FIN) {
                        one.fins += 1;
                        prop_assert!(one.fins == 1 && !one.reset, "a second fin");
                    } else if header.has(RST) {
                        one.reset = true;
                    }
                },
                Op::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    session.handle_timeout(now);
                }
            }
            events(&mut session);
            let unread: usize = session.streams.values().map(Stream::unread).sum();
            prop_assert!(unread <= bound, "{unread} bytes held");
            prop_assert!(session.streams.values().all(|one| one.queued() <= MAX_QUEUED));
            prop_assert!(session.urgent.len() <= MAX_URGENT);
            prop_assert!(session.ready.len() <= 64 && session.backlog.len() <= 3);
        }
        for key in held {
            session.release(now, key);
        }
        session.close(CloseReason::PeerClosed);
        prop_assert_eq!(session.open_streams(), 0, "nothing outlives its holders");
    }
}
