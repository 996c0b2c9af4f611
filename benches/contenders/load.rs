//! The load: one thread, some keep-alive connections, each with one exchange at a time (a closed
//! loop). No HTTP library, so that most of the machine is left to those who are measured.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::head;
use crate::target::LARGE;

/// An exchange that takes longer is a failure of the contender.
const PATIENCE: Duration = Duration::from_secs(20);

/// Payload of a WebSocket frame.
const FRAME: usize = 64;

/// What a visitor's browser sends besides the request line, `Host` and cookies.
const BROWSER: &str = "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101\r\n\
    accept: application/json, text/plain, */*\r\naccept-language: de,en-US;q=0.7,en;q=0.3\r\n\
    accept-encoding: gzip, deflate\r\nreferer: http://cloud.example/apps/app_api/embedded\r\n";

/// A logged-in visitor, as Nextcloud's cookies name one.
pub(crate) const COOKIE: &str = "nc_sameSiteCookielax=true; nc_sameSiteCookiestrict=true; \
    oc_sessionPassphrase=alice-passphrase; ocqk5rhk5lf1=3vtqs1k0kvi1kqa5h3mqp6bhtq";

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get { page: &'static str, visitor: bool },
    Upload,
    WebSocket,
}

/// Every load; a bound visitor's session is cached by whoever asks Nextcloud about it.
pub(crate) const LOADS: [Load; 6] = [
    Load {
        name: "GET small USER 64",
        connections: 64,
        kind: Kind::Get { page: "user/small", visitor: true },
    },
    Load {
        name: "GET small USER 256",
        connections: 256,
        kind: Kind::Get { page: "user/small", visitor: true },
    },
    Load {
        name: "GET small PUBLIC 64",
        connections: 64,
        kind: Kind::Get { page: "public/small", visitor: false },
    },
    Load {
        name: "GET 1 MiB USER 16",
        connections: 16,
        kind: Kind::Get { page: "user/source", visitor: true },
    },
    Load { name: "POST 1 MiB USER 16", connections: 16, kind: Kind::Upload },
    Load { name: "WebSocket echo USER 100", connections: 100, kind: Kind::WebSocket },
];

/// What one measurement counted.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) requests: u64,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) took: Duration,
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

struct Shared {
    phase: Arc<AtomicU8>,
    latency: RefCell<Histogram<u64>>,
}

impl Load {
    /// Runs against `to` for `window` after a quarter of that. `mark` is called where the window
    /// begins and where it ends.
    ///
    /// # Errors
    /// An exchange that failed; the others are not waited for.
    pub(crate) fn run<M>(
        self,
        to: SocketAddr,
        prefix: &str,
        window: Duration,
        mut mark: impl FnMut() -> anyhow::Result<M>,
    ) -> anyhow::Result<(Count, [M; 2])> {
        let phase = Arc::new(AtomicU8::new(WARMING));
        let shared_phase = Arc::clone(&phase);
        let request = self.request(to, prefix);
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(move || self.until_over(to, request.into(), shared_phase))?;
        thread::sleep(window / 4);
        let (before, started) = (mark()?, Instant::now());
        phase.store(MEASURING, Ordering::Relaxed);
        thread::sleep(window);
        phase.store(OVER, Ordering::Relaxed);
        let (after, took) = (mark()?, started.elapsed());
        let latency = thread.join().map_err(|_panic| anyhow!("the load broke"))??;
        Ok((Count { requests: latency.len(), latency, took }, [before, after]))
    }

    fn request(self, to: SocketAddr, prefix: &str) -> Vec<u8> {
        let (method, page, visitor) = match self.kind {
            Kind::Get { page, visitor } => ("GET", page, visitor),
            Kind::Upload => ("POST", "user/sink", true),
            Kind::WebSocket => ("GET", "user/ws", true),
        };
        let cookie = if visitor { format!("cookie: {COOKIE}\r\n") } else { String::new() };
        let more = match self.kind {
            Kind::Get { .. } => String::new(),
            Kind::Upload => format!("content-length: {LARGE}\r\n"),
            Kind::WebSocket => "connection: Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .into(),
        };
        let head = format!(
            "{method} {prefix}/{page} HTTP/1.1\r\nhost: {to}\r\n{BROWSER}{cookie}{more}\r\n"
        );
        let body = if matches!(self.kind, Kind::Upload) { LARGE } else { 0 };
        [head.into_bytes(), vec![b'u'; body]].concat()
    }

    fn until_over(
        self,
        to: SocketAddr,
        request: Rc<[u8]>,
        phase: Arc<AtomicU8>,
    ) -> anyhow::Result<Histogram<u64>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Rc::new(Shared { phase, latency: RefCell::new(Histogram::new(3)?) });
        let tasks = LocalSet::new();
        let all = async {
            let mut open = tokio::task::JoinSet::new();
            for _ in 0..self.connections {
                let (request, shared) = (Rc::clone(&request), Rc::clone(&shared));
                open.spawn_local(async move { self.connection(to, &request, &shared).await });
            }
            while let Some(ended) = open.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tasks.block_on(&runtime, all)?;
        drop(tasks);
        let shared = Rc::into_inner(shared).context("a connection outlived the load")?;
        Ok(shared.latency.into_inner())
    }

    async fn connection(
        self,
        to: SocketAddr,
        request: &[u8],
        shared: &Shared,
    ) -> anyhow::Result<()> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut exchanges = Exchanges { stream, buffer: &mut buffer };
        let web_socket = matches!(self.kind, Kind::WebSocket);
        if web_socket {
            timeout(PATIENCE, exchanges.one(request, 101)).await.context("no upgrade")??;
        }
        let frame = frame();
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            if phase == OVER {
                return Ok(());
            }
            let sent = Instant::now();
            let exchange = async {
                if web_socket {
                    exchanges.echo(&frame).await
                } else {
                    exchanges.one(request, 200).await
                }
            };
            timeout(PATIENCE, exchange).await.context("no answer in time")??;
            if phase == MEASURING && shared.phase.load(Ordering::Relaxed) == MEASURING {
                let took = u64::try_from(sent.elapsed().as_micros())?;
                shared.latency.borrow_mut().record(took)?;
            }
        }
    }
}

/// Whether the small public page is there: one request on a connection of its own.
pub(crate) fn answers(to: SocketAddr, prefix: &str) -> bool {
    let exchange = || {
        let mut stream = std::net::TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        write!(stream, "GET {prefix}/public/small HTTP/1.1\r\nhost: {to}\r\n\r\n").ok()?;
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).ok()?;
        head::status(&answer[..length])
    };
    exchange() == Some(200)
}

/// One connection's exchanges.
struct Exchanges<'b> {
    stream: TcpStream,
    buffer: &'b mut [u8],
}

impl Exchanges<'_> {
    /// Sends the request and reads the whole answer.
    async fn one(&mut self, request: &[u8], status: u16) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let length = loop {
            ensure!(filled < self.buffer.len(), "an endless head");
            let n = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(n > 0, "the connection ended");
            filled += n;
            if let Some(length) = head::length(&self.buffer[..filled]) {
                break length;
            }
        };
        let head = &self.buffer[..length];
        if head::status(head) != Some(status) {
            bail!("expected {status}, found: {}", String::from_utf8_lossy(&self.buffer[..filled]));
        }
        let body = if status == 101 { Some(0) } else { head::content_length(head) };
        let body = body.context("an answer without a length")?;
        let mut left = body.checked_sub(filled - length).context("more than was announced")?;
        while left > 0 {
            let n = self.stream.read(self.buffer).await?;
            ensure!(n > 0, "the answer broke off");
            left = left.checked_sub(n).context("more than was announced")?;
        }
        Ok(())
    }

    /// Sends a frame and reads as many bytes as come back without the mask.
    async fn echo(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.read_exact(&mut self.buffer[..2 + FRAME]).await?;
        ensure!(self.buffer[1] == frame[1] & 0x7f, "not the frame that was sent");
        Ok(())
    }
}

/// A masked binary frame.
fn frame() -> Vec<u8> {
    let payload = u8::try_from(FRAME).unwrap_or(0);
    let mut frame = vec![0x82, 0x80 | payload, 1, 2, 3, 4];
    frame.extend((0..payload).map(|n| n ^ [1, 2, 3, 4][usize::from(n % 4)]));
    frame
}
