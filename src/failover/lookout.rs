//! The thread that looks about several times a second: whether this node is cut off, and what an
//! operator has to be told. A thread, because what must notice a broken network must not wait
//! behind the load of a runtime. It decides nothing: see [`isolation`](super::isolation) and
//! [`alarms`](super::alarms).

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::Presence;
use vrrp::{Neighbour, RouterStatus, State};

use super::alarms::{Alarm, Alarms, Kind, Notice};
use super::config::{Config, Gateway};
use super::counsel::Holds;
use super::isolation::{Change, Isolation, Source};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The gateway is looked for again so often while there is none, and asked this many times within
/// the timeout.
const FIND_AGAIN: Duration = Duration::from_secs(10);
const ASKED: u32 = 5;

/// What the thread sees of the VRRP speaker.
pub struct Routers {
    /// How every virtual router stands.
    pub states: Box<dyn Fn() -> Vec<RouterStatus> + Send>,
    /// Takes all of them out of the game while the node is cut off, and lets them in again.
    pub isolate: Box<dyn Fn(bool) + Send>,
}

/// The alarms that are raised, for whoever shows them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AlarmBoard(Arc<Mutex<Alarms>>);

impl AlarmBoard {
    /// Those that are raised.
    pub fn raised(&self) -> Vec<Alarm> {
        self.lock().raised().cloned().collect()
    }

    /// Replaces the alarms by those of `now`, and logs what is to be told.
    pub fn update(&self, now: Instant, current: Vec<Alarm>) {
        let notices = self.lock().update(now, current);
        notices.iter().for_each(log);
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running thread; dropping it ends it.
pub struct Lookout {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lookout {
    /// Starts the thread in the network namespace of the calling one.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        config: &Config,
        presence: Presence,
        holds: Holds,
        routers: Routers,
        board: AlarmBoard,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let isolation = config.isolation.map(|timeout| Watched {
            machine: Isolation::new(timeout),
            gateway: GatewayWatch {
                wanted: config.gateway,
                timeout,
                found: None,
                answered: None,
                tried: None,
            },
            adverts: 0,
            since: None,
        });
        let mut watch = Watch { presence, holds, routers, board, isolation };
        let thread = std::thread::Builder::new()
            .name("lookout".to_owned())
            .spawn(move || watch.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported where it happened.
            let _ = thread.join();
        }
    }
}

struct Watch {
    presence: Presence,
    holds: Holds,
    routers: Routers,
    board: AlarmBoard,
    isolation: Option<Watched>,
}

/// Isolation and its senses.
struct Watched {
    machine: Isolation,
    gateway: GatewayWatch,
    /// Advertisements received by all virtual routers so far.
    adverts: u64,
    /// Since when the node is cut off, and from whom, while it is.
    since: Option<(Instant, String)>,
}

impl Watch {
    fn run(&mut self, stopped: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
            let states = (self.routers.states)();
            let now = Instant::now();
            let mut current: Vec<_> =
                states.iter().filter_map(|router| self.segment_cut(router, now)).collect();
            current.extend(self.isolation(&states));
            self.board.update(now, current);
        }
    }

    fn segment_cut(&self, router: &RouterStatus, now: Instant) -> Option<Alarm> {
        router.hold?;
        let hold = self.holds.current(&router.name, now)?;
        let text = format!(
            "node {} holds the addresses and is well, but its advertisements do not arrive here: \
             look at the switch (multicast, IGMP snooping) and at firewalls (IP protocol 112); \
             this node takes over only if that node dies or yields",
            hold.active
        );
        let since = hold.since.min(now);
        let router = Some(Arc::clone(&router.name));
        Some(Alarm { kind: Kind::SegmentCut, router, since, text })
    }

    fn isolation(&mut self, states: &[RouterStatus]) -> Option<Alarm> {
        let watched = self.isolation.as_mut()?;
        for (node, peer) in &self.presence.heard().peers {
            if let Some(told) = &peer.last {
                watched.machine.heard(Source::Peer(*node), told.at);
            }
        }
        let adverts = states.iter().map(|router| router.adverts_in).sum();
        if adverts != watched.adverts {
            watched.adverts = adverts;
            watched.machine.heard(Source::Advertisements, Instant::now());
        }
        if let Some(at) = watched.gateway.heard() {
            watched.machine.heard(Source::Gateway, at);
        }
        let active = states.iter().any(|router| router.state == State::Active);
        // After the looks: what they found may lie a moment after an earlier reading of the clock.
        let now = Instant::now();
        match watched.machine.look(now, active) {
            Some(Change::Isolated(from)) => {
                (self.routers.isolate)(true);
                let from: Vec<_> = from.iter().map(ToString::to_string).collect();
                watched.since = Some((now, from.join(", ")));
            }
            Some(Change::Back) => {
                (self.routers.isolate)(false);
                watched.since = None;
            }
            None => {}
        }
        let (since, from) = watched.since.clone()?;
        let text = format!(
            "this node heard nobody any more ({from}) and gave its addresses away; it takes part \
             again once it hears somebody: look at its cable, its switch port and its firewall"
        );
        Some(Alarm { kind: Kind::Isolated, router: None, since, text })
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Raised(alarm) => tracing::warn!(
            name: "alarm_raised",
            alarm = alarm.kind.name(),
            router = alarm.router.as_deref().unwrap_or_default(),
            "{}",
            alarm.text
        ),
        Notice::Cleared(alarm, lasted) => tracing::info!(
            name: "alarm_cleared",
            alarm = alarm.kind.name(),
            router = alarm.router.as_deref().unwrap_or_default(),
            lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            "alarm has ended"
        ),
    }
}

/// Asks the gateway whether it is there.
struct GatewayWatch {
    wanted: Gateway,
    timeout: Duration,
    found: Option<Neighbour>,
    /// When it last answered, or was found.
    answered: Option<Instant>,
    /// When it was last looked for or asked.
    tried: Option<Instant>,
}

impl GatewayWatch {
    /// When the gateway last answered, if it ever did.
    fn heard(&mut self) -> Option<Instant> {
        let every = if self.found.is_some() { self.timeout / ASKED } else { FIND_AGAIN };
        if self.tried.is_some_and(|at| at.elapsed() < every) {
            return None;
        }
        self.tried = Some(Instant::now());
        // One that has been silent for long may have given way to another.
        let silent = self.answered.is_none_or(|at| at.elapsed() > FIND_AGAIN);
        if self.found.is_none() || silent {
            self.find();
        }
        let neighbour = self.found.as_mut()?;
        match neighbour.look(every) {
            Ok(age) => {
                let at = Instant::now().checked_sub(age?)?;
                self.answered = Some(at.max(self.answered.unwrap_or(at)));
                Some(at)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(gateway = %neighbour.address(), error, "gateway not asked");
                // Perhaps its interface went: it is looked for anew.
                self.found = None;
                None
            }
        }
    }

    fn find(&mut self) {
        let found = match self.wanted {
            Gateway::Off => return,
            Gateway::Default => Neighbour::default_gateway(),
            Gateway::Address(address) => Neighbour::at(address),
        };
        match found {
            Ok(Some(neighbour)) => {
                let address = neighbour.address();
                if self.found.as_ref().is_none_or(|known| known.address() != address) {
                    tracing::info!(gateway = %address, "isolation is judged with this gateway");
                }
                self.found = Some(neighbour);
                self.answered = Some(Instant::now());
            }
            Ok(None) => tracing::debug!(wanted = ?self.wanted, "no gateway to be heard"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(wanted = ?self.wanted, error, "gateway not found");
            }
        }
    }
}
