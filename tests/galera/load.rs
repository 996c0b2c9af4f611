//! Clients of the database as Nextcloud is one: a connection for each request, one transaction in
//! it, then the next. They keep account of everything they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use trigon::database::connection::{Connection, ConnectionError};
use trigon::secret::Secret;

use crate::cluster::{APP, PASSWORD};

/// How long a client waits for a whole transaction. Longer than any stall of the database; a client
/// whose load balancer lost its power in between may wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two transactions of a worker.
const PACE: Duration = Duration::from_millis(10);

/// How long a node must have been bad for a session that began there to be one too many: no
/// balancer knows in the same instant.
const SETTLE: Duration = Duration::from_millis(250);

/// What the clients of one way to the database saw.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Numbers of the transactions that were confirmed.
    acknowledged: Mutex<BTreeSet<u64>>,
    /// The last confirmation, and the longest time between two.
    gap: Mutex<(Option<Instant>, Duration)>,
    failed: AtomicU64,
    gave_up: AtomicU64,
    bad: AtomicU64,
    late: AtomicU64,
    first_bad: Mutex<Option<String>>,
    /// Where sessions were.
    places: Mutex<BTreeSet<String>>,
}

/// What became of it in one case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: usize,
    pub(crate) gap: Duration,
    pub(crate) failed: u64,
    /// Those of them whose client heard nothing at all.
    pub(crate) gave_up: u64,
    /// Sessions that began at a node that had been bad for some time.
    pub(crate) bad: u64,
    /// Those that began at one that had just become bad.
    pub(crate) late: u64,
    pub(crate) first_bad: Option<String>,
    pub(crate) places: BTreeSet<String>,
}

impl Ledger {
    /// Closes the account of a case: what was seen, and the numbers that must be in the database.
    pub(crate) fn close(&self) -> (Outcome, BTreeSet<u64>) {
        self.mark();
        let acknowledged = std::mem::take(&mut *self.acknowledged.lock().unwrap());
        let next = (Some(Instant::now()), Duration::ZERO);
        let (_, gap) = std::mem::replace(&mut *self.gap.lock().unwrap(), next);
        let outcome = Outcome {
            acknowledged: acknowledged.len(),
            gap,
            failed: self.failed.swap(0, Ordering::Relaxed),
            gave_up: self.gave_up.swap(0, Ordering::Relaxed),
            bad: self.bad.swap(0, Ordering::Relaxed),
            late: self.late.swap(0, Ordering::Relaxed),
            first_bad: self.first_bad.lock().unwrap().take(),
            places: std::mem::take(&mut *self.places.lock().unwrap()),
        };
        (outcome, acknowledged)
    }

    /// Whether anything was confirmed since `moment`.
    pub(crate) fn is_served_since(&self, moment: Instant) -> bool {
        self.gap.lock().unwrap().0.is_some_and(|last| last > moment)
    }

    fn mark(&self) {
        let mut gap = self.gap.lock().unwrap();
        let now = Instant::now();
        gap.1 = gap.1.max(gap.0.map_or(Duration::ZERO, |last| now - last));
        gap.0 = Some(now);
    }

    fn bad(&self, why: String) {
        self.bad.fetch_add(1, Ordering::Relaxed);
        self.first_bad.lock().unwrap().get_or_insert(why);
    }
}

/// Which nodes are bad, asked of each directly: by name the view it says it is in, and since when
/// it is none or an older one than another's.
#[derive(Debug, Default)]
pub(crate) struct Truth(Mutex<BTreeMap<String, (u64, Option<Instant>)>>);

impl Truth {
    fn learn(&self, node: &str, view: u64) {
        let mut nodes = self.0.lock().unwrap();
        nodes.entry(node.to_owned()).or_default().0 = view;
        let views = nodes.values().map(|(view, _)| *view);
        let newest = views.filter(|view| *view != u64::MAX).max().unwrap_or(0);
        for (view, since) in nodes.values_mut() {
            let is_bad = *view == u64::MAX || *view < newest;
            *since = if is_bad { since.or(Some(Instant::now())) } else { None };
        }
    }

    /// Whether no node is known to be in a later view.
    fn is_newest(&self, view: u64) -> bool {
        let nodes = self.0.lock().unwrap();
        let mut views = nodes.values().map(|(view, _)| *view).filter(|view| *view != u64::MAX);
        view != u64::MAX && views.all(|known| known <= view)
    }

    /// For how long the node had been bad at this moment.
    fn bad_for(&self, node: &str, moment: Instant) -> Option<Duration> {
        let nodes = self.0.lock().unwrap();
        let since = nodes.get(node)?.1?;
        moment.checked_duration_since(since)
    }
}

/// Asks one node for its view, over and over.
pub(crate) async fn watch(truth: Arc<Truth>, name: String, node: SocketAddr) {
    loop {
        if let Ok(Ok(mut open)) = timeout(Duration::from_secs(1), connect(node)).await {
            // One that does not answer stays what it was.
            while let Ok(Ok(view)) = timeout(Duration::from_secs(30), view_of(&mut open)).await {
                truth.learn(&name, view);
                sleep(Duration::from_millis(20)).await;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Writes through `front` into a table of its own until `stop`, with so many `workers`; numbers go
/// on from case to case.
pub(crate) async fn write(
    front: SocketAddr,
    table: &'static str,
    ledger: Arc<Ledger>,
    truth: Arc<Truth>,
    (workers, stop): (usize, Arc<AtomicBool>),
) {
    let number = Arc::new(AtomicU64::new(1));
    let workers = (0..workers).map(|_| {
        let (ledger, truth, stop, number) =
            (ledger.clone(), truth.clone(), stop.clone(), number.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let id = number.fetch_add(1, Ordering::Relaxed);
                let done = transaction(front, table, id, &ledger, &truth);
                match timeout(PATIENCE, done).await {
                    Ok(Ok(node)) => {
                        ledger.places.lock().unwrap().insert(node);
                        ledger.mark();
                        ledger.acknowledged.lock().unwrap().insert(id);
                    }
                    outcome => {
                        let gave_up = u64::from(outcome.is_err());
                        ledger.gave_up.fetch_add(gave_up, Ordering::Relaxed);
                        ledger.failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                sleep(PACE).await;
            }
        }
    });
    futures_util::future::join_all(workers).await;
}

async fn transaction(
    front: SocketAddr,
    table: &str,
    id: u64,
    ledger: &Ledger,
    truth: &Truth,
) -> Result<String, ConnectionError> {
    let begun = Instant::now();
    let mut open = connect(front).await?;
    let node = look(&mut open, begun, ledger, truth).await?;
    let insert = format!("INSERT INTO load_test.{table} VALUES ({id})");
    open.query(&insert).await?;
    Ok(node)
}

/// Reads through `front` until `stop`.
pub(crate) async fn read(
    front: SocketAddr,
    ledger: Arc<Ledger>,
    truth: Arc<Truth>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let read = async {
            let begun = Instant::now();
            let mut open = connect(front).await?;
            look(&mut open, begun, &ledger, &truth).await?;
            open.query("SELECT MAX(id) FROM load_test.trigon").await?;
            Ok::<_, ConnectionError>(())
        };
        match read.await {
            Ok(()) => ledger.mark(),
            Err(_) => {
                ledger.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep(PACE).await;
    }
}

/// Where the session is, and whether that is a good place.
async fn look(
    open: &mut Connection,
    begun: Instant,
    ledger: &Ledger,
    truth: &Truth,
) -> Result<String, ConnectionError> {
    let view = view_of(open).await?;
    let node = node_of(open).await?;
    ledger.places.lock().unwrap().insert(node.clone());
    // What the watcher knows of the node may be old itself: its connection has to recover, too.
    if truth.is_newest(view) {
        return Ok(node);
    }
    match truth.bad_for(&node, begun) {
        Some(long) if long > SETTLE => ledger.bad(format!("{node}, bad for {long:?}")),
        Some(_) => {
            ledger.late.fetch_add(1, Ordering::Relaxed);
        }
        None => {}
    }
    Ok(node)
}

pub(crate) async fn connect(to: SocketAddr) -> Result<Connection, ConnectionError> {
    Connection::open(to, APP, &Secret::new(PASSWORD)).await
}

/// The node a session is at.
pub(crate) async fn node_of(open: &mut Connection) -> Result<String, ConnectionError> {
    let rows = open.query("SELECT @@wsrep_node_name").await?;
    Ok(rows.into_iter().flatten().next().unwrap_or_default())
}

async fn view_of(open: &mut Connection) -> Result<u64, ConnectionError> {
    let rows = open.query("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_conf_id'").await?;
    let value = rows.into_iter().flatten().nth(1).unwrap_or_default();
    Ok(value.parse().unwrap_or(u64::MAX))
}
