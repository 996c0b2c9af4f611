//! One pool at work: keeps count of who has what, asks the servers how they are, and tells those
//! who wait when somebody went down or has room again. [`balance`] decides all of it.
//!
//! [`balance`]: crate::balance

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::check::Checker;
use super::config::{Checks, Config, PoolConfig};
use crate::balance::budget::{Nature, Reached};
use crate::balance::pool::{Event, Nobody, Outcome};
use crate::balance::{self, Admin, Budget, Member};
use crate::net::{Dial, Target};
use crate::observe::metrics::metrics;

/// Shortest time between two checks of a server, whatever goes wrong.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub struct Pool {
    name: String,
    servers: Vec<Server>,
    rules: Mutex<Rules>,
    /// Somebody has room for one more request, or is back.
    freed: Notify,
    queue: Duration,
    checker: Checker,
    checks: Checks,
}

struct Rules {
    pool: balance::Pool,
    budget: Budget,
}

struct Server {
    name: String,
    target: Target,
    /// Whether its checks fail.
    is_down: watch::Sender<bool>,
    /// It is to be checked now.
    look: Notify,
}

/// A request's place at a server, until it is over. Judge it once.
pub struct Place {
    pool: Arc<Pool>,
    at: usize,
}

impl Pool {
    pub(super) fn new(config: &PoolConfig, whole: &Config, dial: Arc<dyn Dial>) -> Arc<Self> {
        let rules = Rules {
            pool: balance::Pool::new(config.terms.clone(), config.servers.len(), Instant::now()),
            budget: Budget::new(whole.retry_percent),
        };
        let servers = config.servers.iter().map(|server| Server {
            name: server.name.clone(),
            target: server.target.clone(),
            is_down: watch::Sender::new(false),
            look: Notify::new(),
        });
        Arc::new(Self {
            name: config.name.clone(),
            servers: servers.collect(),
            rules: Mutex::new(rules),
            freed: Notify::new(),
            queue: whole.queue,
            checker: Checker::new(config.check.clone(), whole.checks.timeout, dial),
            checks: whole.checks,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A request came; it may be sent to several servers one after the other.
    pub fn begun(&self) {
        self.rules().budget.pay_in();
    }

    /// A place at a server that is not among those `tried`. Waits for one if all are at their
    /// limit, at most for the queue's time.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn place(self: &Arc<Self>, tried: &[usize]) -> Result<Place, Nobody> {
        let waiting = async {
            loop {
                let freed = self.freed.notified();
                match self.rules().pool.choose(Instant::now(), tried) {
                    Ok(at) => return Ok(Place { pool: Arc::clone(self), at }),
                    Err(Nobody::Fit) => return Err(Nobody::Fit),
                    Err(Nobody::Idle) => {}
                }
                freed.await;
            }
        };
        timeout(self.queue, waiting).await.unwrap_or(Err(Nobody::Idle))
    }

    /// Whether a request that failed may be sent to another server; counts it if so.
    pub fn may_retry(&self, reached: Reached, nature: Nature) -> bool {
        let may = self.rules().budget.may_retry(reached, nature);
        if may {
            metrics().http.retries.inc();
        }
        may
    }

    /// How its servers are.
    pub fn members(&self) -> Vec<Member> {
        let now = Instant::now();
        let reports: Vec<_> = self.rules().pool.reports(now).collect();
        let members = self.servers.iter().zip(reports).map(|(server, report)| Member {
            pool: self.name.clone(),
            name: server.name.clone(),
            address: server.target.to_string(),
            admin: report.admin,
            health: report.condition,
            since_seconds: now.saturating_duration_since(report.since).as_secs(),
            in_flight: report.in_flight,
            total: report.total,
            failed: report.failed,
            note: report.note,
        });
        members.collect()
    }

    /// Gives a server an order.
    pub(super) fn set(&self, at: usize, admin: Admin) {
        self.rules().pool.set(at, admin, Instant::now());
        if let Some(server) = self.servers.get(at) {
            tracing::info!(pool = self.name, backend = server.name, %admin, "backend was told");
            server.look.notify_one();
        }
        self.freed.notify_waiters();
    }

    /// Checks the servers until `stop`.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut watching = JoinSet::new();
        for at in 0..self.servers.len() {
            watching.spawn(Arc::clone(&self).watch_one(at));
        }
        stop.cancelled().await;
    }

    async fn watch_one(self: Arc<Self>, at: usize) {
        let server = &self.servers[at];
        loop {
            let wanted = self.rules().pool.wants_check(at);
            let mut soon = false;
            if wanted {
                let found = self.checker.ask(&server.target).await;
                let why = found.as_ref().err().cloned();
                soon = why.is_some() && !*server.is_down.borrow();
                let event = self.rules().pool.checked(at, found, Instant::now());
                self.tell(at, event, why.as_deref());
            }
            if wanted && self.checker.is_off() {
                server.look.notified().await;
                continue;
            }
            sleep(PAUSE).await;
            if !soon {
                let rest = self.checks.interval.saturating_sub(PAUSE);
                // Over at once when somebody asks for a look.
                let _ = timeout(rest, server.look.notified()).await;
            }
        }
    }

    fn tell(&self, at: usize, event: Option<Event>, why: Option<&str>) {
        let (pool, server) = (&self.name, &self.servers[at]);
        let backend = &server.name;
        match event {
            None => {}
            Some(Event::Up) => {
                tracing::info!(pool, backend, "backend is up");
                server.is_down.send_replace(false);
                self.freed.notify_waiters();
            }
            Some(Event::Down) => {
                tracing::warn!(pool, backend, reason = why, "backend is down");
                server.is_down.send_replace(true);
            }
            Some(Event::Ejected(long)) => {
                let seconds = long.as_secs();
                tracing::warn!(pool, backend, seconds, "backend failed too often and is left out");
            }
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Number of the server in its pool.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Where the server is.
    pub fn target(&self) -> &Target {
        &self.pool.servers[self.at].target
    }

    /// Says how the server did. A failure has it checked at once.
    pub fn judge(&self, outcome: Outcome) {
        let event = self.pool.rules().pool.judged(self.at, outcome, Instant::now());
        self.pool.tell(self.at, event, None);
        if outcome == Outcome::Failed {
            self.pool.servers[self.at].look.notify_one();
        }
    }

    /// Resolves when the server's checks fail, or did when the place was given.
    pub async fn is_lost(&self) {
        let mut is_down = self.pool.servers[self.at].is_down.subscribe();
        if is_down.wait_for(|down| *down).await.is_err() {
            // The pool is gone, which holding a place forbids.
            std::future::pending().await
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.rules().pool.ended(self.at);
        self.pool.freed.notify_one();
    }
}
