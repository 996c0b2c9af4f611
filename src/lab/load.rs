//! The client side of a round: steady requests, tunnel probes and WebSockets, all on one thread
//! of the client's namespace. Records what happened; judges nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::namespaces::{Entered, Host};
use super::request::{Ask, Connection, Failure, connect, exchange};
use super::sockets::{Sockets, keep_open};
use super::trace::Sample;
use super::{Error, exapp};

/// Requests a second: one every 5 ms.
const REQUEST_EVERY: Duration = Duration::from_millis(5);
/// A request that has no answer by then has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Tunnel probes a second: one every 5 ms.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// A tunnel probe gives up soon: others run beside it, so none hides the recovery.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const WEB_SOCKETS: usize = 4;
/// Connections kept for reuse; a browser holds about as many.
const KEPT: usize = 8;

/// Where the load goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The virtual IP and the ExApps' port.
    pub(super) address: SocketAddr,
    /// `/exapps/<app id>`.
    pub(super) base: String,
    /// Cookie header of a logged-in user.
    pub(super) cookie: String,
}

/// One request of the steady load.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) sent: Instant,
    pub(super) took: Duration,
    pub(super) failure: Option<Failure>,
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
        Self::start_at(client, target, REQUEST_EVERY)
    }

    /// The same with another time between two requests.
    pub(super) fn start_at(client: &Host, target: Target, every: Duration) -> Result<Self, Error> {
        let book = Arc::new(Book::default());
        let sockets = Arc::new(Sockets::default());
        let quit = CancellationToken::new();
        let run = run(target, every, Arc::clone(&book), Arc::clone(&sockets), quit.clone());
        let thread = client
            .enter_thread(move || run)
            .map_err(Error::network("the load client could not be started"))?;
        Ok(Self { book, sockets, quit, thread })
    }

    /// Requests that have ended so far.
    pub(super) fn ended(&self) -> usize {
        lock(&self.book.records).len()
    }

    /// The tunnel probes so far, in the order they were sent.
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

impl Harvest {
    /// How often each kind of failure happened, for the progress log.
    pub(super) fn failures(&self) -> BTreeMap<&Failure, usize> {
        let mut count = BTreeMap::new();
        for failure in self.records.iter().filter_map(|record| record.failure.as_ref()) {
            *count.entry(failure).or_default() += 1;
        }
        count
    }
}

/// Whether the ExApp answers through the address now, asked once.
pub(super) async fn answers(target: &Target) -> bool {
    probe(target.address, &page(target, "public", false)).await
}

async fn run(
    target: Target,
    every: Duration,
    book: Arc<Book>,
    sockets: Arc<Sockets>,
    quit: CancellationToken,
) {
    let tasks = TaskTracker::new();
    for _ in 0..WEB_SOCKETS {
        let path = format!("{}/public/ws", target.base);
        tasks.spawn(keep_open(target.address, path, Arc::clone(&sockets), quit.clone()));
    }
    tokio::join!(
        quit.run_until_cancelled(send_requests(&target, every, &book, &tasks)),
        quit.run_until_cancelled(send_probes(&target, &book, &tasks)),
    );
    tasks.close();
    tasks.wait().await;
}

/// An open loop: a slow answer does not slow the next request down.
async fn send_requests(target: &Target, every: Duration, book: &Arc<Book>, tasks: &TaskTracker) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let kinds = [("user", true), ("public", false), ("public", true), ("user", false)];
    for (level, keep) in kinds.into_iter().cycle() {
        ticks.tick().await;
        let (book, kept, to) = (Arc::clone(book), Arc::clone(&kept), target.address);
        let ask = page(target, level, keep);
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

/// Fresh connection, public page, short limit; many at once.
async fn send_probes(target: &Target, book: &Arc<Book>, tasks: &TaskTracker) {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let (book, to) = (Arc::clone(book), target.address);
        let ask = page(target, "public", false);
        let number = {
            let mut probes = lock(&book.probes);
            probes.push(Sample { sent: Instant::now(), answered: None });
            probes.len() - 1
        };
        tasks.spawn(async move {
            if probe(to, &ask).await
                && let Some(sample) = lock(&book.probes).get_mut(number)
            {
                sample.answered = Some(Instant::now());
            }
        });
    }
}

async fn probe(to: SocketAddr, ask: &Ask) -> bool {
    let exchange = async {
        let mut connection = connect(to).await?;
        exchange(&mut connection, to, ask).await
    };
    matches!(timeout(PROBE_LIMIT, exchange).await, Ok(Ok(page)) if page == exapp::PAGE)
}

fn page(target: &Target, level: &str, keep: bool) -> Ask {
    let cookie = (level == "user").then(|| target.cookie.clone());
    Ask { path: format!("{}/{level}/", target.base), cookie, keep }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
