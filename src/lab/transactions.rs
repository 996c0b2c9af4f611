//! Clients of the database as Nextcloud is one: a connection for each request, a transaction on it,
//! and its end. Every transaction is a probe as well; all that were confirmed are remembered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::namespaces::{Entered, Host};
use super::request::Failure;
use super::tally::Record;
use super::trace::Sample;
use crate::database::connection::{Connection, ConnectionError};
use crate::secret::Secret;

/// The database user of the load.
pub(super) const USER: &str = "lab";
/// Where its rows go.
pub(super) const TABLE: &str = "lab.numbers";

/// Fifty transactions a second, each on a connection of its own.
const EVERY: Duration = Duration::from_millis(20);
/// One that is not confirmed by then is given up. Long enough for the kernel to ask once more for
/// a connection, which it does after a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the database.
#[derive(Clone)]
pub(super) struct Access {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Of [`USER`].
    pub(super) password: Secret,
    /// The number of the next row.
    pub(super) numbers: Arc<AtomicU64>,
}

/// Transactions that keep coming until [`Transactions::finish`] or drop.
pub(super) struct Transactions {
    book: Arc<Book>,
    quit: CancellationToken,
    thread: Entered<()>,
}

#[derive(Default)]
struct Book {
    samples: Mutex<Vec<Sample>>,
    account: Mutex<Account>,
}

/// What became of all of them.
#[derive(Default)]
pub(super) struct Account {
    pub(super) records: Vec<Record>,
    /// The rows that were confirmed.
    pub(super) committed: BTreeSet<u64>,
}

impl Transactions {
    /// Starts on the client's host.
    pub(super) fn start(client: &Host, access: Access) -> Result<Self, Error> {
        let book = Arc::new(Book::default());
        let quit = CancellationToken::new();
        let run = run(access, Arc::clone(&book), quit.clone());
        let thread = client
            .enter_thread(move || run)
            .map_err(Error::network("the database client could not be started"))?;
        Ok(Self { book, quit, thread })
    }

    /// The transactions so far as probes, in the order they were begun.
    pub(super) fn samples(&self) -> Vec<Sample> {
        lock(&self.book.samples).clone()
    }

    /// Begins no more, waits for those under way, and hands over the account.
    pub(super) async fn finish(self) -> Account {
        self.quit.cancel();
        self.thread.result().await;
        std::mem::take(&mut *lock(&self.book.account))
    }
}

/// Whether a row can be written now, asked once.
pub(super) async fn writes(access: &Access) -> bool {
    let id = access.numbers.fetch_add(1, Ordering::Relaxed);
    matches!(timeout(PATIENCE, transaction(access, id)).await, Ok(Ok(())))
}

async fn run(access: Access, book: Arc<Book>, quit: CancellationToken) {
    let tasks = TaskTracker::new();
    quit.run_until_cancelled(begin(&access, &book, &tasks)).await;
    tasks.close();
    tasks.wait().await;
}

/// An open loop, like that of the requests.
async fn begin(access: &Access, book: &Arc<Book>, tasks: &TaskTracker) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let (access, book) = (access.clone(), Arc::clone(book));
        let id = access.numbers.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let place = {
            let mut samples = lock(&book.samples);
            samples.push(Sample { sent, answered: None });
            samples.len() - 1
        };
        tasks.spawn(async move {
            let failure = match timeout(PATIENCE, transaction(&access, id)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Failure::Database(error.to_string())),
                Err(_) => Some(Failure::Timeout),
            };
            if failure.is_none()
                && let Some(sample) = lock(&book.samples).get_mut(place)
            {
                sample.answered = Some(Instant::now());
            }
            let mut account = lock(&book.account);
            if failure.is_none() {
                account.committed.insert(id);
            }
            account.records.push(Record { sent, took: sent.elapsed(), failure });
        });
    }
}

async fn transaction(access: &Access, id: u64) -> Result<(), ConnectionError> {
    let mut open = Connection::open(access.address, USER, &access.password).await?;
    open.query(&format!("INSERT INTO {TABLE} VALUES ({id})")).await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
