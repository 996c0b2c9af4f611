//! The load: visitors in even steps, each with a session of its own, over some keep-alive
//! connections; and the ExApp they come for. Both as lean as they can be, because they share the
//! cores with those who are measured.
//!
//! The load is open as long as the nodes keep up: a visitor comes when it is time, and only waits
//! if every connection is busy. Its time runs from when it is sent; that fewer came than wanted is
//! in the table.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use trigon::lab::namespaces::{Entered, Host};

use crate::head;

/// An exchange that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the ExApp answers.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// How many visitors may come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitors(pub(crate) u64);

impl Visitors {
    /// A second of spare ones, and some for what is asked outside of the load.
    pub(crate) fn expected(rate: u32, within: Duration) -> Self {
        Self(u64::from(rate) * (within.as_secs() + 2) + 1000)
    }

    /// A visitor's passphrase, by which Nextcloud tells visitors apart.
    pub(crate) fn passphrase(number: u64) -> String {
        format!("passphrase-{number}")
    }
}

/// How many visitors come, and over what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// A second.
    pub(crate) rate: u32,
    pub(crate) connections: usize,
}

/// What the load has seen.
pub(crate) struct Served {
    /// All that came, also outside of the measurement.
    pub(crate) visitors: u64,
    /// Microseconds, within the measurement.
    pub(crate) latency: Histogram<u64>,
}

/// A load that runs.
pub(crate) struct Running {
    shared: Arc<Shared>,
    thread: Entered<anyhow::Result<Histogram<u64>>>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    measuring: AtomicBool,
    over: AtomicBool,
}

impl Load {
    /// Begins to send visitors from a host to a node.
    pub(crate) fn start(self, from: &Host, to: SocketAddr) -> anyhow::Result<Running> {
        let shared = Arc::new(Shared::default());
        let used = Arc::clone(&shared);
        let thread = from.enter_thread(move || self.run(to, used))?;
        Ok(Running { shared, thread })
    }

    async fn run(self, to: SocketAddr, shared: Arc<Shared>) -> anyhow::Result<Histogram<u64>> {
        let begin = Instant::now();
        let mut open = JoinSet::new();
        for _ in 0..self.connections {
            let shared = Arc::clone(&shared);
            open.spawn(async move { self.connection(to, begin, &shared).await });
        }
        let mut all = Histogram::new(3)?;
        while let Some(ended) = open.join_next().await {
            all.add(ended??)?;
        }
        Ok(all)
    }

    async fn connection(
        self,
        to: SocketAddr,
        begin: Instant,
        shared: &Shared,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut stream = connect(to).await?;
        let mut latency = Histogram::new(3)?;
        while !shared.over.load(Ordering::Relaxed) {
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_secs(1).mul_f64(number as f64 / f64::from(self.rate));
            sleep_until(begin + due).await;
            let sent = Instant::now();
            visit(&mut stream, number).await?;
            if shared.measuring.load(Ordering::Relaxed) {
                latency.record(u64::try_from(sent.elapsed().as_micros())?)?;
            }
        }
        Ok(latency)
    }
}

impl Running {
    /// From now on times count, or no longer do.
    pub(crate) fn measure(&self, on: bool) {
        self.shared.measuring.store(on, Ordering::Relaxed);
    }

    /// Sends no more visitors and waits for the answers to the last.
    pub(crate) async fn end(self) -> anyhow::Result<Served> {
        self.shared.over.store(true, Ordering::Relaxed);
        let latency = self.thread.result().await.context("the load broke")??;
        Ok(Served { visitors: self.shared.next.load(Ordering::Relaxed), latency })
    }
}

/// Opens a connection to a node.
pub(crate) async fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request of a visitor.
pub(crate) async fn visit(stream: &mut TcpStream, number: u64) -> anyhow::Result<()> {
    let request = format!(
        "GET /exapps/bench/page HTTP/1.1\r\nhost: cloud.example\r\naccept: */*\r\n\
         cookie: nc_sameSiteCookielax=true; oc_sessionPassphrase={}\r\n\r\n",
        Visitors::passphrase(number)
    );
    timeout(PATIENCE, exchange(stream, request.as_bytes())).await.context("no answer in time")?
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).await?;
        ensure!(n > 0, "the connection ended");
        filled += n;
        let Some(length) = head::length(&buffer[..filled]) else { continue };
        let answer = &buffer[..length];
        if head::status(answer) != Some(200) {
            bail!("expected 200, found: {}", String::from_utf8_lossy(&buffer[..filled]));
        }
        let body = head::content_length(answer).context("an answer without a length")?;
        if filled >= length + body {
            return Ok(());
        }
    }
}

/// The ExApp: the same answer to every request, for ever.
pub(crate) async fn exapp(listener: TcpListener) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(answer(stream));
    }
}

/// Ends with the connection. Requests have no bodies and come one at a time.
async fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while let Ok(n) = stream.read(&mut buffer[filled..]).await {
        if n == 0 {
            return;
        }
        filled += n;
        if head::length(&buffer[..filled]).is_some() {
            filled = 0;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
