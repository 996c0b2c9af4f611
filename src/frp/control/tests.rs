use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::frp::message::{CloseProxy, Ping};

const PORT: u16 = 23001;

struct Bench {
    control: Control,
    now: Instant,
}

impl Bench {
    fn new(pool_count: i64, heartbeat: Option<u64>) -> Self {
        let now = Instant::now();
        let heartbeat = heartbeat.map(Duration::from_secs);
        let start = Start { pool_count, heartbeat, user_wait: Duration::from_secs(10) };
        Self { control: Control::new(start, now), now }
    }

    /// A session with one settled proxy and its pool delivered as work connections 1, 2, ...
    fn ready(pool_count: i64) -> Self {
        let mut bench = Self::new(pool_count, None);
        let pool = bench.told().len();
        bench.register();
        bench.pass(SETTLE);
        bench.told();
        for work in 1..=pool {
            bench.event(ControlEvent::Work(work as WorkId));
        }
        assert_eq!(bench.told(), [""; 0]);
        bench
    }

    fn register(&mut self) {
        let proxy =
            NewProxy { proxy_name: "app".into(), remote_port: PORT.into(), ..NewProxy::default() };
        self.event(ControlEvent::Message(Message::NewProxy(proxy.clone())));
        self.event(ControlEvent::Opened { proxy, port: Ok(PORT) });
    }

    fn event(&mut self, event: ControlEvent) {
        self.control.handle(self.now, event);
    }

    fn user(&mut self, user: UserId) {
        self.event(ControlEvent::User { user, port: PORT, attempt: 0 });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.control.handle_timeout(self.now);
    }

    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.control.poll_action())
            .map(|action| match action {
                ControlAction::Send(message) => message.name().to_owned(),
                ControlAction::Open(proxy) => format!("open {}", proxy.proxy_name),
                ControlAction::Close(name) => format!("close {name}"),
                ControlAction::Join { user, work, proxy } => {
                    format!("join u{user} w{work} {proxy}")
                }
                ControlAction::Refuse { user, why } => format!("refuse u{user} {why:?}"),
                ControlAction::Drop(work) => format!("drop w{work}"),
                ControlAction::Shutdown(why) => format!("shutdown {why}"),
            })
            .collect()
    }
}

#[test]
fn the_pool_is_asked_for_at_login_and_no_number_is_believed() {
    for (asked, sent) in [(1, 1), (5, 5), (6, 5), (0, 0), (-11, 0), (i64::MIN, 0), (i64::MAX, 5)] {
        assert_eq!(Bench::new(asked, None).told(), vec!["ReqWorkConn"; sent], "{asked}");
    }
}

#[test]
fn a_proxy_is_answered_with_its_port_or_with_the_reason() {
    let mut bench = Bench::new(0, None);
    bench.register();
    assert_eq!(bench.told(), ["open app", "NewProxyResp"]);
    let proxy = NewProxy { proxy_name: "b".into(), ..NewProxy::default() };
    bench.event(ControlEvent::Opened { proxy, port: Err("port already used".into()) });
    let expected = NewProxyResp {
        proxy_name: "b".into(),
        error: "port already used".into(),
        ..NewProxyResp::default()
    };
    let action = bench.control.poll_action();
    assert_eq!(action, Some(ControlAction::Send(Message::NewProxyResp(expected))));
}

#[test]
fn a_user_gets_a_ready_work_connection_and_the_pool_is_refilled() {
    let mut bench = Bench::ready(2);
    bench.user(1);
    assert_eq!(bench.told(), ["join u1 w1 app", "ReqWorkConn"]);
    bench.user(2);
    assert_eq!(bench.told(), ["join u2 w2 app", "ReqWorkConn"]);
}

#[test]
fn users_wait_in_order_when_nothing_is_ready() {
    let mut bench = Bench::ready(0);
    bench.user(1);
    bench.user(2);
    assert_eq!(bench.told(), ["ReqWorkConn", "ReqWorkConn"]);
    bench.event(ControlEvent::Work(7));
    bench.event(ControlEvent::Work(8));
    assert_eq!(bench.told(), ["join u1 w7 app", "join u2 w8 app"]);
}

#[test]
fn a_burst_does_not_make_the_pool_grow() {
    let mut bench = Bench::ready(1);
    for user in 0..50 {
        bench.user(user);
    }
    let mut asked = bench.told().iter().filter(|told| *told == "ReqWorkConn").count();
    let mut delivered = 1;
    while delivered - 1 < asked {
        delivered += 1;
        bench.event(ControlEvent::Work(delivered as WorkId));
        asked += bench.told().iter().filter(|told| *told == "ReqWorkConn").count();
    }
    assert_eq!(asked, 50, "49 users that found nothing, and one to refill the pool");
    assert_eq!(bench.control.idle.len(), 1);
}

#[test]
fn a_user_gives_up_after_its_wait() {
    let mut bench = Bench::ready(0);
    bench.user(1);
    bench.told();
    bench.pass(Duration::from_millis(9_999));
    assert_eq!(bench.told(), ["ReqWorkConn"], "the first request must be lost");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.told(), ["refuse u1 TimedOut"]);
}

#[test]
fn a_work_connection_whose_user_left_serves_the_next() {
    let mut bench = Bench::ready(0);
    bench.user(1);
    bench.event(ControlEvent::Work(7));
    bench.told();
    bench.event(ControlEvent::Returned(7));
    assert_eq!(bench.told(), [""; 0]);
    bench.user(2);
    assert_eq!(bench.told(), ["join u2 w7 app"]);
}

#[test]
fn dead_work_connections_are_replaced_until_the_pool_is_used_up() {
    let mut bench = Bench::ready(1);
    let limit = 1 + SPARE;
    for (attempt, refused) in [(0, false), (1, false), (limit, false), (limit + 1, true)] {
        let user = attempt as UserId;
        bench.event(ControlEvent::User { user, port: PORT, attempt });
        let told = bench.told();
        assert_eq!(
            told == [format!("refuse u{user} Dead")],
            refused,
            "attempt {attempt}: {told:?}"
        );
    }
}

#[test]
fn unasked_work_connections_are_closed_beyond_the_spare_ones() {
    let mut bench = Bench::ready(0);
    for work in 0..12 {
        bench.event(ControlEvent::Work(work));
    }
    assert_eq!(bench.told(), ["drop w10", "drop w11"]);
}

#[test]
fn a_new_proxys_user_waits_until_the_client_has_read_the_response() {
    let mut bench = Bench::new(1, None);
    bench.register();
    bench.event(ControlEvent::Work(1));
    bench.told();
    bench.user(1);
    assert_eq!(bench.told(), ["ReqWorkConn"], "asked for after the response");
    bench.event(ControlEvent::Work(2));
    assert_eq!(bench.told(), ["join u1 w1 app"]);
}

#[test]
fn an_early_work_connection_that_arrives_late_proves_nothing() {
    let mut bench = Bench::new(1, None);
    bench.register();
    bench.user(1);
    bench.told();
    bench.event(ControlEvent::Work(1));
    assert_eq!(bench.told(), [""; 0], "may have been sent before the response was read");
    bench.event(ControlEvent::Work(2));
    assert_eq!(bench.told()[0], "join u1 w1 app");
}

#[test]
fn a_new_proxys_user_is_not_held_back_for_ever() {
    let mut bench = Bench::new(1, None);
    bench.register();
    bench.event(ControlEvent::Work(1));
    bench.user(1);
    bench.told();
    assert_eq!(bench.control.poll_timeout(), Some(bench.now + SETTLE));
    bench.pass(SETTLE);
    assert_eq!(bench.told()[0], "join u1 w1 app");
}

#[test]
fn a_crowd_is_served_without_asking_for_everything_at_once() {
    let mut bench = Bench::ready(1);
    let crowd = 1 + 1000;
    let mut asked = 0;
    let mut delivered = 1;
    let mut joined = 0;
    for user in 1..=crowd {
        bench.user(user);
    }
    loop {
        for told in bench.told() {
            match told.as_str() {
                "ReqWorkConn" => asked += 1,
                join => {
                    assert!(join.starts_with("join"), "{join}");
                    joined += 1;
                }
            }
        }
        assert!(asked - (delivered - 1) <= MAX_REQUESTED);
        if joined == crowd {
            break;
        }
        delivered += 1;
        bench.event(ControlEvent::Work(delivered as WorkId));
    }
}

#[test]
fn a_lost_request_is_repeated() {
    let mut bench = Bench::new(1, None);
    bench.told();
    assert_eq!(bench.control.poll_timeout(), Some(bench.now + FORGET_REQUEST));
    bench.pass(FORGET_REQUEST);
    assert_eq!(bench.told(), ["ReqWorkConn"]);
}

#[test]
fn closing_a_proxy_frees_it_and_turns_its_users_away() {
    let mut bench = Bench::ready(0);
    bench.user(1);
    bench.told();
    let close = |name: &str| Message::CloseProxy(CloseProxy { proxy_name: name.into() });
    bench.event(ControlEvent::Message(close("other")));
    assert_eq!(bench.told(), [""; 0]);
    bench.event(ControlEvent::Message(close("app")));
    assert_eq!(bench.told(), ["refuse u1 NoProxy", "close app"]);
    bench.user(2);
    assert_eq!(bench.told(), ["refuse u2 NoProxy"]);
}

#[test]
fn only_clients_that_send_heartbeats_can_miss_them() {
    let ping = || ControlEvent::Message(Message::Ping(Ping::default()));
    let mut bench = Bench::new(0, Some(90));
    bench.pass(Duration::from_secs(89));
    bench.event(ping());
    assert_eq!(bench.told(), ["Pong"]);
    bench.pass(Duration::from_secs(89));
    assert_eq!(bench.told(), [""; 0]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told(), ["shutdown no heartbeat"]);
    assert_eq!(bench.control.poll_timeout(), None);

    let mut mux = Bench::new(0, None);
    mux.pass(Duration::from_secs(100_000));
    assert_eq!(mux.told(), [""; 0]);
}

#[test]
fn after_the_end_nothing_is_promised_any_more() {
    let mut bench = Bench::ready(1);
    bench.event(ControlEvent::Message(Message::Login(Default::default())));
    assert_eq!(bench.told().len(), 1);
    bench.user(1);
    bench.event(ControlEvent::Work(9));
    assert_eq!(bench.told(), ["refuse u1 NoProxy", "drop w9"]);
}

#[derive(Clone, Debug)]
enum Step {
    Register(u16),
    Close(u16),
    Work,
    User(u16),
    Return,
    Ping,
    Stray,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u16..3).prop_map(Step::Register),
        1 => (0u16..3).prop_map(Step::Close),
        4 => Just(Step::Work),
        4 => (0u16..3).prop_map(Step::User),
        1 => Just(Step::Return),
        1 => Just(Step::Ping),
        1 => Just(Step::Stray),
        2 => (0u64..12_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn every_user_and_work_connection_meets_one_end(
        pool in -3i64..9,
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        let mut bench = Bench::new(pool, Some(90));
        let (mut users, mut works, mut last) = (0, 0, None);
        let (mut served, mut used) = (HashSet::new(), HashSet::new());
        for step in steps {
            match step {
                Step::Register(n) => {
                    let proxy = NewProxy { proxy_name: n.to_string(), ..NewProxy::default() };
                    bench.event(ControlEvent::Opened { proxy, port: Ok(PORT + n) });
                }
                Step::Close(n) => {
                    let proxy_name = n.to_string();
                    let close = Message::CloseProxy(CloseProxy { proxy_name });
                    bench.event(ControlEvent::Message(close));
                }
                Step::Work => {
                    works += 1;
                    bench.event(ControlEvent::Work(works));
                }
                Step::User(n) => {
                    users += 1;
                    let port = PORT + n;
                    bench.event(ControlEvent::User { user: users, port, attempt: 0 });
                }
                Step::Return => {
                    if let Some(work) = last.take() {
                        used.remove(&work);
                        bench.event(ControlEvent::Returned(work));
                    }
                }
                Step::Ping => {
                    bench.event(ControlEvent::Message(Message::Ping(Ping::default())));
                }
                Step::Stray => bench.event(ControlEvent::Message(Message::Other(b'u'))),
                Step::Pass(time) => bench.pass(Duration::from_millis(time)),
            }
            while let Some(action) = bench.control.poll_action() {
                match action {
                    ControlAction::Join { user, work, .. } => {
                        prop_assert!(served.insert(user), "user {} ended twice", user);
                        prop_assert!(used.insert(work), "work {} used twice", work);
                        last = Some(work);
                    }
                    ControlAction::Refuse { user, .. } => {
                        prop_assert!(served.insert(user), "user {} ended twice", user);
                    }
                    ControlAction::Drop(work) => {
                        prop_assert!(used.insert(work), "work {} used twice", work);
                    }
                    _ => {}
                }
            }
            prop_assert!(bench.control.idle.len() <= bench.control.pool + SPARE);
            prop_assert!(served.iter().all(|user| *user <= users));
            prop_assert!(used.iter().all(|work| *work <= works));
        }
    }

    #[test]
    fn a_due_timeout_is_always_dealt_with(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        // A shell that is woken for a deadline that stays would spin.
        let mut bench = Bench::new(2, Some(90));
        let mut user = 0;
        for step in steps {
            match step {
                Step::Register(_) => bench.register(),
                Step::Work => bench.event(ControlEvent::Work(0)),
                Step::User(_) => {
                    user += 1;
                    bench.user(user);
                }
                _ => {}
            }
            bench.told();
            if let Some(due) = bench.control.poll_timeout() {
                bench.now = bench.now.max(due);
                bench.control.handle_timeout(bench.now);
                prop_assert!(bench.control.poll_timeout().is_none_or(|next| next > bench.now));
            }
            bench.told();
        }
    }
}
