//! The control session of one client under any order of messages, work connections and users.
//! Every user meets exactly one end, in time; no work connection is used twice; nothing spins.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use trigon::frp::control::{Control, ControlAction, ControlEvent, MAX_POOL, Start};
use trigon::frp::message::{CloseProxy, Message, NewProxy};
use trigon::frp::wire::v1;

const USER_WAIT: Duration = Duration::from_secs(10);
/// frps accepts ten work connections beyond the pool.
const SPARE: usize = 10;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pool: i64,
    heartbeat: Option<u8>,
    steps: Vec<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// Whatever the client's bytes decode to.
    Wire(&'a [u8]),
    NewProxy(u8),
    Opened {
        name: u8,
        port: Result<u8, ()>,
    },
    CloseProxy(u8),
    Work,
    User {
        port: u8,
        attempt: u8,
    },
    /// The work connection joined last comes back unused.
    Return,
    Due,
    Pass(u16),
}

fuzz_target!(|input: Input<'_>| {
    let mut now = Instant::now();
    let start = Start {
        pool_count: input.pool,
        heartbeat: input.heartbeat.map(|seconds| Duration::from_secs(u64::from(seconds) + 1)),
        user_wait: USER_WAIT,
    };
    let mut control = Control::new(start, now);
    let mut shell = Shell::default();
    for step in input.steps {
        match step {
            Step::Wire(bytes) => {
                let mut wire = BytesMut::from(bytes);
                while let Ok(Some(message)) = v1::decode(&mut wire) {
                    control.handle(now, ControlEvent::Message(message));
                }
            }
            Step::NewProxy(name) => {
                control.handle(now, ControlEvent::Message(Message::NewProxy(proxy(name))));
            }
            Step::Opened { name, port } => {
                let port = port.map(u16::from).map_err(|()| "port already used".to_owned());
                control.handle(now, ControlEvent::Opened { proxy: proxy(name), port });
            }
            Step::CloseProxy(name) => {
                let close = CloseProxy { proxy_name: name.to_string() };
                control.handle(now, ControlEvent::Message(Message::CloseProxy(close)));
            }
            Step::Work => {
                shell.works += 1;
                control.handle(now, ControlEvent::Work(shell.works));
            }
            Step::User { port, attempt } => {
                shell.users += 1;
                shell.waiting.insert(shell.users, now + USER_WAIT);
                let (user, port, attempt) = (shell.users, port.into(), attempt.into());
                control.handle(now, ControlEvent::User { user, port, attempt });
            }
            Step::Return => {
                let Some(work) = shell.last.take() else { continue };
                shell.used.remove(&work);
                control.handle(now, ControlEvent::Returned(work));
            }
            Step::Due => {
                let Some(due) = control.poll_timeout() else { continue };
                now = now.max(due);
                control.handle_timeout(now);
                let next = control.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a deadline that stays makes us spin");
            }
            Step::Pass(millis) => {
                now += Duration::from_millis(millis.into());
                control.handle_timeout(now);
            }
        }
        shell.carry_out(&mut control);
        if matches!(control.poll_timeout(), Some(due) if due <= now) {
            control.handle_timeout(now);
            shell.carry_out(&mut control);
        }
        for (user, until) in &shell.waiting {
            assert!(now < *until, "user {user} waits longer than promised");
        }
    }
});

fn proxy(name: u8) -> NewProxy {
    NewProxy { proxy_name: name.to_string(), ..NewProxy::default() }
}

#[derive(Default)]
struct Shell {
    users: u64,
    works: u64,
    waiting: HashMap<u64, Instant>,
    used: HashSet<u64>,
    last: Option<u64>,
    ended: bool,
}

impl Shell {
    fn carry_out(&mut self, control: &mut Control) {
        while let Some(action) = control.poll_action() {
            match action {
                ControlAction::Join { user, work, .. } => {
                    assert!(!self.ended, "an ended session joins nobody");
                    self.end(user);
                    self.spend(work);
                    self.last = Some(work);
                }
                ControlAction::Refuse { user, .. } => self.end(user),
                ControlAction::Drop(work) => self.spend(work),
                ControlAction::Shutdown(_) => {
                    assert!(!self.ended, "a session ends once");
                    self.ended = true;
                }
                ControlAction::Send(_) | ControlAction::Open(_) | ControlAction::Close(_) => {
                    assert!(!self.ended, "an ended session says nothing");
                }
            }
        }
        assert!(!self.ended || self.waiting.is_empty(), "nobody is left behind");
        let works = usize::try_from(self.works).unwrap_or(usize::MAX);
        let pool = usize::try_from(MAX_POOL).unwrap_or_default();
        assert!(
            self.ended || works - self.used.len() <= pool + SPARE,
            "idle connections are bounded"
        );
    }

    fn end(&mut self, user: u64) {
        assert!(self.waiting.remove(&user).is_some(), "user {user} ended twice");
    }

    fn spend(&mut self, work: u64) {
        assert!(work <= self.works && self.used.insert(work), "work {work} used twice");
    }
}
