//! The shell against a small client of its own, written from the frame format alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, copy, duplex, split,
};
use tokio::time::timeout;

use super::*;
use crate::frp::mux::{MuxStream, Violation};

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u16,
    stream: u32,
    length: u32,
    payload: Vec<u8>,
}

struct Client {
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
}

impl Client {
    async fn send(&mut self, kind: u8, flags: u16, stream: u32, length: u32) {
        let mut bytes = vec![0, kind];
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        self.write.write_all(&bytes).await.unwrap();
    }

    async fn data(&mut self, stream: u32, payload: &[u8]) {
        self.send(DATA, 0, stream, u32::try_from(payload.len()).unwrap()).await;
        self.write.write_all(payload).await.unwrap();
    }

    async fn open(&mut self, stream: u32) {
        self.send(WINDOW, SYN, stream, 0x005c_0000).await;
    }

    /// The next frame, or `None` at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        next(&mut self.read).await
    }

    /// The next frame that is not the ACK of a SYN.
    async fn answer(&mut self) -> Frame {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == PING || frame.flags & ACK == 0 {
                return frame;
            }
        }
    }
}

async fn next(read: &mut ReadHalf<DuplexStream>) -> Option<Frame> {
    let mut head = [0; 12];
    read.read_exact(&mut head).await.ok()?;
    assert_eq!(head[0], 0);
    let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let length = word(8);
    let mut payload = vec![0; if head[1] == DATA { length as usize } else { 0 }];
    read.read_exact(&mut payload).await.ok()?;
    let flags = u16::from_be_bytes([head[2], head[3]]);
    Some(Frame { kind: head[1], flags, stream: word(4), length, payload })
}

fn start(pipe: usize) -> (Client, Incoming, Control) {
    start_with(pipe, Config::default())
}

fn start_with(pipe: usize, config: Config) -> (Client, Incoming, Control) {
    let (near, far) = duplex(pipe);
    let (incoming, control) = serve(Stream::new(near), config);
    let (read, write) = split(far);
    (Client { read, write }, incoming, control)
}

/// The byte at `offset` of what `stream` carries: wrong order or place shows.
fn pattern(stream: u32, offset: usize) -> u8 {
    u8::try_from((offset / 7 + offset + stream as usize) % 251).unwrap()
}

fn portion(stream: u32, offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| pattern(stream, at)).collect()
}

const TOTAL: usize = 2 << 20;

/// Reads and writes `TOTAL` bytes in two tasks, then closes.
async fn exchange(stream: MuxStream, id: u32) {
    let (mut read, mut write) = split(stream);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        assert!(all == portion(id, 0, TOTAL), "stream {id} arrived changed");
        read
    });
    for offset in (0..TOTAL).step_by(50_000) {
        let length = 50_000.min(TOTAL - offset);
        write.write_all(&portion(id, offset, length)).await.unwrap();
    }
    write.shutdown().await.unwrap();
    drop(reader.await.unwrap());
}

/// One stream as the client of the bulk test sees it.
#[derive(Default)]
struct Side {
    credit: usize,
    sent: usize,
    received: usize,
    fins: usize,
}

/// On two threads and without keepalive pings, so that a lost wake-up stays a stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_streams_move_megabytes_both_ways() {
    timeout(Duration::from_secs(120), move_megabytes()).await.expect("a task was never woken");
}

async fn move_megabytes() {
    let config = Config { ping_interval: Duration::from_secs(3600), ..Config::default() };
    let (client, mut incoming, control) = start_with(64 * 1024, config);
    let Client { mut read, write } = client;
    let (frames, mut inbox) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(frame) = next(&mut read).await {
            frames.send(frame).unwrap();
        }
    });
    let server = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for id in [1, 3, 5, 7] {
            tasks.spawn(exchange(incoming.accept().await.unwrap(), id));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        incoming
    });

    let mut client = Client { read: split(duplex(1).0).0, write };
    let mut sides: HashMap<u32, Side> = HashMap::new();
    for id in [1, 3, 5, 7] {
        client.open(id).await;
        sides.insert(id, Side { credit: 262_144, ..Side::default() });
    }
    loop {
        for (&id, side) in &mut sides {
            let length = side.credit.min(TOTAL - side.sent).min(30_000);
            if length > 0 {
                client.data(id, &portion(id, side.sent, length)).await;
                side.sent += length;
                side.credit -= length;
                if side.sent == TOTAL {
                    client.send(WINDOW, FIN, id, 0).await;
                }
            }
        }
        if sides.values().all(|side| side.sent + side.received == 2 * TOTAL && side.fins > 0) {
            break;
        }
        let idle = sides.values().all(|side| side.credit == 0 || side.sent == TOTAL);
        let first = if idle { inbox.recv().await } else { inbox.try_recv().ok() };
        for frame in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
            let Some(side) = sides.get_mut(&frame.stream) else { continue };
            match frame.kind {
                DATA => {
                    let expect = portion(frame.stream, side.received, frame.payload.len());
                    assert!(frame.payload == expect, "stream {} changed", frame.stream);
                    side.received += frame.payload.len();
                    client.send(WINDOW, 0, frame.stream, frame.length).await;
                }
                WINDOW => {
                    side.credit += frame.length as usize;
                    side.fins += usize::from(frame.flags & FIN != 0);
                    assert_eq!(frame.flags & RST, 0);
                }
                _ => {}
            }
        }
        tokio::task::yield_now().await;
    }
    let _incoming = server.await.unwrap();
    while control.open_streams() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(sides.values().all(|side| side.received == TOTAL && side.fins == 1));
}

#[tokio::test]
async fn an_unread_stream_does_not_slow_another() {
    let (mut client, mut incoming, _control) = start(16 * 1024);
    client.open(1).await;
    client.open(3).await;
    let _unread = incoming.accept().await.unwrap();
    let mut echoed = incoming.accept().await.unwrap();
    tokio::spawn(async move {
        let (mut read, mut write) = split(&mut echoed);
        copy(&mut read, &mut write).await.unwrap();
    });
    for _ in 0..64 {
        client.data(1, &[0; 16 * 1024]).await;
    }
    client.data(3, b"hello").await;
    let frame = client.answer().await;
    assert_eq!((frame.stream, frame.payload.as_slice()), (3, &b"hello"[..]));
}

#[tokio::test]
async fn a_ping_is_answered_ahead_of_queued_data() {
    let (mut client, mut incoming, _control) = start(4096);
    for id in [1, 3, 5] {
        client.open(id).await;
    }
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = incoming.accept().await.unwrap();
        // Takes what fits; the client reads nothing yet.
        assert!(stream.write(&[0; 256 * 1024]).await.unwrap() > 32 * 1024);
        streams.push(stream);
    }
    client.send(PING, SYN, 0, 5).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut data = 0;
    loop {
        let frame = client.answer().await;
        if frame.kind == PING {
            assert_eq!((frame.flags, frame.length), (ACK, 5));
            break;
        }
        data += 1;
    }
    assert!(data <= 1, "{data} data frames before the reply");
}

#[tokio::test]
async fn shutdown_is_one_fin_and_drop_without_it_is_a_reset() {
    let (mut client, mut incoming, control) = start(4096);
    client.open(1).await;
    let mut stream = incoming.accept().await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    assert_eq!(client.answer().await.payload, b"bye");
    let fin = client.answer().await;
    assert_eq!((fin.kind, fin.flags, fin.length), (WINDOW, FIN, 0));
    assert_eq!(control.open_streams(), 1, "waits for the client's side");
    client.send(WINDOW, FIN, 1, 0).await;

    client.open(3).await;
    let mut stream = incoming.accept().await.unwrap();
    assert_eq!(control.open_streams(), 1);
    stream.write_all(b"half an answer").await.unwrap();
    drop(stream);
    loop {
        let frame = client.answer().await;
        if frame.kind == WINDOW {
            assert_eq!((frame.stream, frame.flags), (3, RST));
            break;
        }
    }
    assert_eq!(control.open_streams(), 0);
}

#[tokio::test]
async fn a_waiting_reader_hears_of_end_and_reset() {
    let (mut client, mut incoming, _control) = start(4096);
    for (id, flag) in [(1, FIN), (3, RST)] {
        client.open(id).await;
        let mut stream = incoming.accept().await.unwrap();
        let reader = tokio::spawn(async move { stream.read(&mut [0; 9]).await });
        tokio::task::yield_now().await;
        client.send(WINDOW, flag, id, 0).await;
        match reader.await.unwrap() {
            Ok(n) => assert_eq!((n, flag), (0, FIN)),
            Err(error) => assert_eq!((error.kind(), flag), (io::ErrorKind::ConnectionReset, RST)),
        }
    }
}

#[tokio::test]
async fn three_hundred_syns_are_all_answered() {
    let (mut client, incoming, control) = start(64 * 1024);
    for n in 0..300 {
        client.open(2 * n + 1).await;
    }
    let (mut acks, mut resets) = (0, 0);
    while acks + resets < 300 {
        let frame = client.next().await.unwrap();
        acks += usize::from(frame.flags == ACK);
        resets += usize::from(frame.flags == RST);
    }
    assert_eq!((acks, resets, control.open_streams()), (256, 44, 256));
    drop(incoming);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_everything() {
    let (mut client, mut incoming, control) = start(4096);
    client.open(1).await;
    let mut stream = incoming.accept().await.unwrap();
    let reader = tokio::spawn(async move { stream.read(&mut [0; 9]).await.unwrap_err().kind() });
    tokio::task::yield_now().await;
    drop(client);
    assert_eq!(reader.await.unwrap(), io::ErrorKind::ConnectionAborted);
    assert!(incoming.accept().await.is_none());
    assert_eq!(control.closed().await, CloseReason::PeerClosed);
}

#[tokio::test]
async fn abort_and_dropping_incoming_drop_the_connection() {
    let (mut client, mut incoming, control) = start(4096);
    let accepting = tokio::spawn(async move { incoming.accept().await.is_none() });
    tokio::task::yield_now().await;
    control.abort();
    assert_eq!(control.closed().await, CloseReason::Aborted);
    assert_eq!(client.next().await, None);
    assert!(accepting.await.unwrap());

    let (mut client, incoming, control) = start(4096);
    drop(incoming);
    assert_eq!(control.closed().await, CloseReason::Aborted);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told() {
    let (mut client, _incoming, control) = start(4096);
    client.send(9, 0, 0, 0).await;
    let frame = client.next().await.unwrap();
    assert_eq!((frame.kind, frame.length), (GO_AWAY, 1));
    assert_eq!(client.next().await, None);
    assert_eq!(control.closed().await, CloseReason::Violation(Violation::Kind(9)));
}

#[tokio::test]
async fn a_dead_peer_is_noticed_even_when_nothing_can_be_written() {
    let soon = Duration::from_millis(20);
    let config = Config { ping_interval: soon, ping_timeout: soon, ..Config::default() };
    let (mut client, mut incoming, control) = start_with(1024, config);
    client.open(1).await;
    let mut stream = incoming.accept().await.unwrap();
    let writer =
        tokio::spawn(async move { stream.write_all(&vec![0; 1 << 20]).await.unwrap_err().kind() });
    assert_eq!(control.closed().await, CloseReason::Dead(soon));
    assert_eq!(writer.await.unwrap(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    let config = Config { ping_interval: Duration::from_millis(1), ..Config::default() };
    let (mut client, _incoming, control) = start_with(1024, config);
    for id in 1..=20 {
        let ping = client.next().await.unwrap();
        assert_eq!((ping.kind, ping.flags, ping.length), (PING, SYN, id));
        client.send(PING, ACK, 0, ping.length).await;
    }
    assert!(client.next().await.is_some(), "the reply to number 20 was read by now");
    assert!(control.last_rtt().is_some());
}

/// Counts the writes that reach the connection.
struct Counted {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_many_streams_send_at_once_leaves_in_one_write() {
    const STREAMS: u32 = 20;
    let (near, far) = duplex(64 * 1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Counted { inner: near, writes: Arc::clone(&writes) };
    let (mut incoming, _control) = serve(Stream::new(counted), Config::default());
    let (read, write) = split(far);
    let mut client = Client { read, write };
    let mut streams = Vec::new();
    for id in (1..).step_by(2).take(STREAMS as usize) {
        client.open(id).await;
        streams.push(incoming.accept().await.unwrap());
        assert_eq!(client.next().await.unwrap().flags, ACK);
    }
    let before = writes.load(Ordering::Relaxed);
    let mut senders: tokio::task::JoinSet<_> = streams
        .into_iter()
        .map(|mut stream| async move {
            stream.write_all(b"hello").await.unwrap();
            stream
        })
        .collect();
    for _ in 0..STREAMS {
        assert_eq!(client.answer().await.payload, b"hello");
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    while senders.join_next().await.is_some() {}
}
