//! The client side of a round: steady requests, probes and WebSockets to one kind of service, all
//! on one thread of the client's namespace. Records what happened; judges nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::namespaces::{Entered, Host};
use super::request::{Ask, Connection, Failure, connect, exchange};
use super::sockets::{Sockets, keep_open};
use super::tally::Record;
use super::trace::Sample;
use super::{Error, exapp, nextcloud};

/// Requests a second: one every 5 ms.
const REQUEST_EVERY: Duration = Duration::from_millis(5);
/// The same of the web nodes: fewer, since all share one machine.
const WEB_REQUEST_EVERY: Duration = Duration::from_millis(20);
/// A request that has no answer by then has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Probes a second: one every 5 ms.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// The same of the web nodes.
const WEB_PROBE_EVERY: Duration = Duration::from_millis(10);
/// A probe gives up soon: others run beside it, so none hides the recovery.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const WEB_SOCKETS: usize = 4;
/// Connections kept for reuse; a browser holds about as many.
const KEPT: usize = 8;

/// Where the load goes, and what it asks for there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The virtual IP and the port.
    pub(super) address: SocketAddr,
    /// What the steady requests ask for, in turn.
    asks: Vec<Ask>,
    /// What a probe asks for.
    probe: Ask,
    /// What it has to get.
    page: Bytes,
    /// The path of the WebSockets, where there are any.
    web_socket: Option<String>,
    /// The time between two steady requests.
    every: Duration,
    /// The time between two probes.
    probe_every: Duration,
}

impl Target {
    /// An ExApp below the path `base`; `cookie` is that of a logged-in user.
    pub(super) fn exapp(address: SocketAddr, base: &str, cookie: &str) -> Self {
        let ask = |level: &str, keep| {
            let cookie = (level == "user").then(|| cookie.to_owned());
            Ask { path: format!("{base}/{level}/"), cookie, keep }
        };
        let kinds = [("user", true), ("public", false), ("public", true), ("user", false)];
        Self {
            address,
            asks: kinds.map(|(level, keep)| ask(level, keep)).to_vec(),
            probe: ask("public", false),
            page: exapp::PAGE.into(),
            web_socket: Some(format!("{base}/public/ws")),
            every: REQUEST_EVERY,
            probe_every: PROBE_EVERY,
        }
    }

    /// Nextcloud itself, by the page that every web node has.
    pub(super) fn web(address: SocketAddr) -> Self {
        let ask = |keep| Ask { path: nextcloud::STATUS.to_owned(), cookie: None, keep };
        Self {
            address,
            asks: vec![ask(true), ask(false)],
            probe: ask(false),
            page: nextcloud::status_page(),
            web_socket: None,
            every: WEB_REQUEST_EVERY,
            probe_every: WEB_PROBE_EVERY,
        }
    }

    /// The same with another time between two requests.
    pub(super) fn at_pace(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

/// Load that runs until [`Load::finish`] or drop.
pub(super) struct Load {
    book: Arc<Book>,
    sockets: Arc<Sockets>,
    quit: CancellationToken,
    thread: Entered<()>,
}

/// What is written down while it runs.
#[derive(Default)]
struct Book {
    records: Mutex<Vec<Record>>,
    probes: Mutex<Vec<Sample>>,
}

/// Everything a finished load has seen.
pub(super) struct Harvest {
    pub(super) records: Vec<Record>,
    pub(super) sockets_broken: u64,
}

impl Load {
    /// Starts on the client's host.
    pub(super) fn start(client: &Host, target: Target) -> Result<Self, Error> {
        let book = Arc::new(Book::default());
        let sockets = Arc::new(Sockets::default());
        let quit = CancellationToken::new();
        let run = run(target, Arc::clone(&book), Arc::clone(&sockets), quit.clone());
        let thread = client
            .enter_thread(move || run)
            .map_err(Error::network("the load client could not be started"))?;
        Ok(Self { book, sockets, quit, thread })
    }

    /// Requests that have ended so far.
    pub(super) fn ended(&self) -> usize {
        lock(&self.book.records).len()
    }

    /// The probes so far, in the order they were sent.
    pub(super) fn probes(&self) -> Vec<Sample> {
        lock(&self.book.probes).clone()
    }

    /// WebSockets that are open.
    pub(super) fn sockets_open(&self) -> u64 {
        self.sockets.opened() - self.sockets.broken()
    }

    /// Sends nothing more, waits for what is under way, and hands over the records.
    pub(super) async fn finish(self) -> Harvest {
        self.quit.cancel();
        self.thread.result().await;
        let records = std::mem::take(&mut *lock(&self.book.records));
        Harvest { records, sockets_broken: self.sockets.broken() }
    }
}

/// Whether the service answers through the address now, asked once.
pub(super) async fn answers(target: &Target) -> bool {
    probe(target).await
}

async fn run(target: Target, book: Arc<Book>, sockets: Arc<Sockets>, quit: CancellationToken) {
    let tasks = TaskTracker::new();
    if let Some(path) = &target.web_socket {
        for _ in 0..WEB_SOCKETS {
            let socket =
                keep_open(target.address, path.clone(), Arc::clone(&sockets), quit.clone());
            tasks.spawn(socket);
        }
    }
    tokio::join!(
        quit.run_until_cancelled(send_requests(&target, &book, &tasks)),
        quit.run_until_cancelled(send_probes(Arc::new(target.clone()), &book, &tasks)),
    );
    tasks.close();
    tasks.wait().await;
}

/// An open loop: a slow answer does not slow the next request down.
async fn send_requests(target: &Target, book: &Arc<Book>, tasks: &TaskTracker) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut ticks = interval(target.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for ask in target.asks.iter().cycle() {
        ticks.tick().await;
        let (book, kept, to) = (Arc::clone(book), Arc::clone(&kept), target.address);
        let ask = ask.clone();
        tasks.spawn(async move {
            let sent = Instant::now();
            let outcome = timeout(REQUEST_LIMIT, request(to, &ask, &kept)).await;
            let failure = outcome.unwrap_or(Err(Failure::Timeout)).err();
            lock(&book.records).push(Record { sent, took: sent.elapsed(), failure });
        });
    }
}

/// As a browser does it: on a kept connection if there is one, and once more on a fresh one if
/// that kept connection turns out to be dead before an answer began (RFC 9110, 9.2.2: a GET may
/// be repeated).
async fn request(to: SocketAddr, ask: &Ask, kept: &Mutex<Vec<Connection>>) -> Result<(), Failure> {
    let reused = if ask.keep { lock(kept).pop() } else { None };
    if let Some(mut connection) = reused {
        match exchange(&mut connection, to, ask).await {
            Err(Failure::NoAnswer(_)) => {}
            Err(failure) => return Err(failure),
            Ok(_page) => {
                keep_for_reuse(kept, connection);
                return Ok(());
            }
        }
    }
    let mut connection = connect(to).await?;
    exchange(&mut connection, to, ask).await?;
    if ask.keep {
        keep_for_reuse(kept, connection);
    }
    Ok(())
}

fn keep_for_reuse(kept: &Mutex<Vec<Connection>>, connection: Connection) {
    let mut kept = lock(kept);
    if kept.len() < KEPT {
        kept.push(connection);
    }
}

/// Fresh connection, short limit; many at once.
async fn send_probes(target: Arc<Target>, book: &Arc<Book>, tasks: &TaskTracker) {
    let mut ticks = interval(target.probe_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let (book, target) = (Arc::clone(book), Arc::clone(&target));
        let number = {
            let mut probes = lock(&book.probes);
            probes.push(Sample { sent: Instant::now(), answered: None });
            probes.len() - 1
        };
        tasks.spawn(async move {
            if probe(&target).await
                && let Some(sample) = lock(&book.probes).get_mut(number)
            {
                sample.answered = Some(Instant::now());
            }
        });
    }
}

async fn probe(target: &Target) -> bool {
    let exchange = async {
        let mut connection = connect(target.address).await?;
        exchange(&mut connection, target.address, &target.probe).await
    };
    matches!(timeout(PROBE_LIMIT, exchange).await, Ok(Ok(page)) if page == target.page)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
