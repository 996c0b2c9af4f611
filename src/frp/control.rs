//! The session state machine of one logged-in client: its proxies, the work connections it keeps
//! ready, the users that wait for one, its heartbeat. Sans-io.
//!
//! `session.rs` feeds it and carries its actions out; `ports.rs` decides who may have a port.
//!
//! A work connection belongs to the client, not to a proxy, and answers no particular request:
//! any one serves the user that has waited longest. frpc drops a work connection that is started
//! before it has read our `NewProxyResp`, so users of a new proxy are held until one arrives that
//! was asked for after that response, at most 50 ms.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::message::{Message, NewProxy, NewProxyResp, Pong, ReqWorkConn};

/// Names a work connection within a session.
pub type WorkId = u64;

/// Names a waiting user within a session.
pub type UserId = u64;

/// Most work connections a client is asked to keep ready (frps `maxPoolCount`).
pub const MAX_POOL: i64 = 5;

/// Work connections accepted beyond the pool (frps).
const SPARE: usize = 10;

/// Most users that wait at the same time.
const MAX_WAITING: usize = 4096;

/// How long users of a new proxy are held back at most.
const SETTLE: Duration = Duration::from_millis(50);

/// Most work connections asked for and not delivered yet. The answer to more comes in one rush
/// that a mux session refuses in part, and what it refused would only be missed; those who wait
/// get theirs as the first ones arrive.
const MAX_REQUESTED: usize = 128;

/// A request for a work connection older than this is not coming back. Well below a user's wait,
/// so that the user a lost request was sent for gets another.
const FORGET_REQUEST: Duration = Duration::from_secs(3);

/// What a session starts with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The client's `pool_count`, any number.
    pub pool_count: i64,
    /// Longest silence of the client; `None` for mux clients, which send no heartbeat.
    pub heartbeat: Option<Duration>,
    /// Longest wait of a user.
    pub user_wait: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum ControlEvent {
    /// The client sent a message on the control connection.
    Message(Message),
    /// The answer to [`ControlAction::Open`].
    Opened {
        /// As the client asked.
        proxy: NewProxy,
        /// The port it got, or the text it is refused with.
        port: Result<u16, String>,
    },
    /// The client delivered a work connection.
    Work(WorkId),
    /// A user wants a work connection of the proxy on `port`.
    User {
        /// Its name, unused so far.
        user: UserId,
        /// The proxy's port.
        port: u16,
        /// 0 at first; one more each time the work connection it got turned out dead.
        attempt: usize,
    },
    /// The user it was meant for had left: the work connection is unused.
    Returned(WorkId),
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub enum ControlAction {
    /// Send on the control connection.
    Send(Message),
    /// Claim the port the client wants and come back with [`ControlEvent::Opened`].
    Open(NewProxy),
    /// The client gave up the proxy of this name.
    Close(String),
    /// Start the work connection for the user.
    Join {
        /// Who waited.
        user: UserId,
        /// What it gets.
        work: WorkId,
        /// For `StartWorkConn`.
        proxy: String,
    },
    /// The user gets nothing.
    Refuse {
        /// Who waited.
        user: UserId,
        /// Why.
        why: Refused,
    },
    /// Close a work connection nobody needs.
    Drop(WorkId),
    /// End the session.
    Shutdown(&'static str),
}

/// Why a user gets no work connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The client has no proxy on that port.
    #[error("the tunnel client has no such proxy")]
    NoProxy,
    /// The client did not deliver in time.
    #[error("the tunnel client gave no work connection in time")]
    TimedOut,
    /// Each work connection tried was dead.
    #[error("the tunnel client's work connections are dead")]
    Dead,
    /// Too many wait already.
    #[error("too many requests wait for the tunnel client")]
    TooMany,
}

/// One logged-in client.
#[derive(Debug)]
pub struct Control {
    pool: usize,
    heartbeat: Option<Duration>,
    user_wait: Duration,
    last_seen: Instant,
    proxies: HashMap<u16, Proxy>,
    idle: VecDeque<WorkId>,
    /// When each unanswered request was sent, oldest first.
    requested: VecDeque<Instant>,
    waiting: VecDeque<Waiter>,
    actions: VecDeque<ControlAction>,
    ended: bool,
}

#[derive(Debug)]
struct Proxy {
    name: String,
    /// `Some` until the client is known to have read our response.
    settling: Option<Settling>,
}

#[derive(Debug)]
struct Settling {
    until: Instant,
    /// Requests sent before the response that have not been answered.
    early: usize,
}

#[derive(Debug)]
struct Waiter {
    user: UserId,
    port: u16,
    until: Instant,
}

impl Control {
    /// A session right after its `LoginResp`; asks for the pool.
    pub fn new(start: Start, now: Instant) -> Self {
        let pool = usize::try_from(start.pool_count.clamp(0, MAX_POOL)).unwrap_or(0);
        let mut control = Self {
            pool,
            heartbeat: start.heartbeat,
            user_wait: start.user_wait,
            last_seen: now,
            proxies: HashMap::new(),
            idle: VecDeque::new(),
            requested: VecDeque::new(),
            waiting: VecDeque::new(),
            actions: VecDeque::new(),
            ended: false,
        };
        for _ in 0..pool {
            control.request(now);
        }
        control
    }

    /// Takes in what happened. May change [`Self::poll_action`] and [`Self::poll_timeout`].
    pub fn handle(&mut self, now: Instant, event: ControlEvent) {
        if self.ended {
            self.turn_away(&event);
            return;
        }
        match event {
            ControlEvent::Message(message) => self.message(now, message),
            ControlEvent::Opened { proxy, port } => self.opened(now, proxy, port),
            ControlEvent::Work(work) => self.work(now, work),
            ControlEvent::User { user, port, attempt } => self.user(now, user, port, attempt),
            ControlEvent::Returned(work) => {
                self.idle.push_front(work);
                self.pair(now);
                self.trim();
            }
        }
    }

    /// Takes in that time has passed. May change [`Self::poll_action`] and
    /// [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        if self.heartbeat.is_some_and(|limit| now >= self.last_seen + limit) {
            self.shut_down("no heartbeat");
            return;
        }
        while self.requested.front().is_some_and(|sent| now >= *sent + FORGET_REQUEST) {
            self.requested.pop_front();
            for settling in self.proxies.values_mut().filter_map(|proxy| proxy.settling.as_mut()) {
                settling.early = settling.early.saturating_sub(1);
            }
        }
        for proxy in self.proxies.values_mut() {
            proxy.settling.take_if(|settling| now >= settling.until);
        }
        while self.waiting.front().is_some_and(|waiter| now >= waiter.until) {
            if let Some(Waiter { user, .. }) = self.waiting.pop_front() {
                self.refuse(user, Refused::TimedOut);
            }
        }
        self.pair(now);
        self.top_up(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_action(&mut self) -> Option<ControlAction> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`]; changes with every call of a `handle` function.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let heartbeat = self.heartbeat.map(|limit| self.last_seen + limit);
        let waiter = self.waiting.front().map(|waiter| waiter.until);
        let request = self.requested.front().map(|sent| *sent + FORGET_REQUEST);
        let settling = self.proxies.values().filter_map(|proxy| proxy.settling.as_ref());
        let settled = settling.map(|settling| settling.until).min();
        [heartbeat, waiter, request, settled].into_iter().flatten().min()
    }

    fn message(&mut self, now: Instant, message: Message) {
        self.last_seen = now;
        match message {
            Message::NewProxy(proxy) => self.actions.push_back(ControlAction::Open(proxy)),
            Message::CloseProxy(close) => self.close(&close.proxy_name),
            Message::Ping(_) => self.send(Message::Pong(Pong::default())),
            Message::Login(_) | Message::NewWorkConn(_) => {
                self.shut_down("the client sent a message that does not belong here");
            }
            // The rest is of no use to us; frps ignores it as well.
            _ => {}
        }
    }

    fn opened(&mut self, now: Instant, proxy: NewProxy, port: Result<u16, String>) {
        let mut response =
            NewProxyResp { proxy_name: proxy.proxy_name.clone(), ..NewProxyResp::default() };
        match port {
            Ok(port) => {
                response.remote_addr = format!(":{port}");
                let settling = Settling { until: now + SETTLE, early: self.requested.len() };
                self.proxies
                    .entry(port)
                    .or_insert_with(|| Proxy { name: proxy.proxy_name, settling: Some(settling) });
            }
            Err(error) => response.error = error,
        }
        self.send(Message::NewProxyResp(response));
    }

    fn close(&mut self, name: &str) {
        let Some(port) =
            self.proxies.iter().find(|(_, proxy)| proxy.name == name).map(|(port, _)| *port)
        else {
            return;
        };
        self.proxies.remove(&port);
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.port == port {
                self.refuse(waiter.user, Refused::NoProxy);
            } else {
                self.waiting.push_back(waiter);
            }
        }
        self.actions.push_back(ControlAction::Close(name.to_owned()));
    }

    fn work(&mut self, now: Instant, work: WorkId) {
        self.requested.pop_front();
        for proxy in self.proxies.values_mut() {
            // Taken away once this is the first arrival beyond the early requests: the client
            // reads its control connection in order, so it has read the response by now.
            proxy.settling.take_if(|settling| settling.early == 0);
            if let Some(settling) = &mut proxy.settling {
                settling.early -= 1;
            }
        }
        self.idle.push_back(work);
        self.pair(now);
        self.trim();
    }

    fn trim(&mut self) {
        while self.idle.len() > self.pool + SPARE {
            if let Some(work) = self.idle.pop_back() {
                self.actions.push_back(ControlAction::Drop(work));
            }
        }
    }

    fn user(&mut self, now: Instant, user: UserId, port: u16, attempt: usize) {
        if !self.proxies.contains_key(&port) {
            return self.refuse(user, Refused::NoProxy);
        }
        if attempt > self.pool + SPARE {
            return self.refuse(user, Refused::Dead);
        }
        if self.waiting.len() >= MAX_WAITING {
            return self.refuse(user, Refused::TooMany);
        }
        self.waiting.push_back(Waiter { user, port, until: now + self.user_wait });
        let before = self.waiting.len();
        self.pair(now);
        if self.waiting.len() == before {
            // Asked for even when requests are under way: one of those may be lost.
            self.request(now);
        }
    }

    /// Joins waiting users and idle work connections, the longest waiting first.
    fn pair(&mut self, now: Instant) {
        let mut next = 0;
        while let Some(waiter) = self.waiting.get(next) {
            let proxy = self.proxies.get(&waiter.port).filter(|proxy| proxy.settling.is_none());
            let (Some(proxy), Some(work)) = (proxy, self.idle.front()) else {
                next += 1;
                if self.idle.is_empty() {
                    break;
                }
                continue;
            };
            let (user, work, proxy) = (waiter.user, *work, proxy.name.clone());
            self.idle.pop_front();
            self.waiting.remove(next);
            self.actions.push_back(ControlAction::Join { user, work, proxy });
            self.top_up(now);
        }
    }

    /// Keeps `pool` work connections ready beyond those the waiting users will take.
    fn top_up(&mut self, now: Instant) {
        let wanted = (self.waiting.len() + self.pool).saturating_sub(self.idle.len());
        while self.requested.len() < wanted.min(MAX_REQUESTED) {
            self.request(now);
        }
    }

    /// Asks for one more work connection, unless enough are on their way.
    fn request(&mut self, now: Instant) {
        if self.requested.len() >= MAX_REQUESTED {
            return;
        }
        self.requested.push_back(now);
        self.send(Message::ReqWorkConn(ReqWorkConn {}));
    }

    fn send(&mut self, message: Message) {
        self.actions.push_back(ControlAction::Send(message));
    }

    fn refuse(&mut self, user: UserId, why: Refused) {
        self.actions.push_back(ControlAction::Refuse { user, why });
    }

    fn shut_down(&mut self, why: &'static str) {
        self.ended = true;
        for Waiter { user, .. } in std::mem::take(&mut self.waiting) {
            self.refuse(user, Refused::NoProxy);
        }
        self.actions.push_back(ControlAction::Shutdown(why));
    }

    fn turn_away(&mut self, event: &ControlEvent) {
        match event {
            ControlEvent::User { user, .. } => self.refuse(*user, Refused::NoProxy),
            ControlEvent::Work(work) | ControlEvent::Returned(work) => {
                self.actions.push_back(ControlAction::Drop(*work));
            }
            ControlEvent::Message(_) | ControlEvent::Opened { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
