mod expiring;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::codec;
use crate::command::{SessionPut, SoftPart};
use crate::record::{
    AccessLevel, MAX_BANS, MAX_EXAPPS, MAX_LIFETIME, MAX_PARDONS, MAX_SESSIONS, MAX_STRIKE_AGE,
    MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, MAX_TUNNELS, MAX_USER_ID, Subnet, Tenant, TunnelStamp,
    User,
};

fn ours() -> Tenant {
    Tenant::default()
}

fn push(id: &str, version: &str) -> Command {
    Command::PushExApp { tenant: ours(), record: exapp(id, version) }
}

fn exapp(id: &str, version: &str) -> SealedExApp {
    SealedExApp {
        id: id.into(),
        token: "secret".into(),
        version: version.into(),
        host: "127.0.0.1".into(),
        port: 23000,
        routes: Vec::new(),
    }
}

fn tunnel(port: u16, run_id: &str) -> Tunnel {
    Tunnel {
        tenant: ours(),
        port,
        proxy: "app".into(),
        run_id: run_id.into(),
        node: 1,
        client: "192.0.2.9:40000".parse().unwrap(),
        server: "192.0.2.1:8782".parse().unwrap(),
        since: 5,
        stamp: TunnelStamp::default(),
    }
}

fn down(tunnel: &Tunnel) -> Command {
    let Tunnel { tenant, port, node, stamp, .. } = tunnel.clone();
    Command::TunnelDown { tenant, port, node, stamp }
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(n))
}

fn strike(node: NodeId, host: u32, at: Millis) -> Strike {
    Strike { node, address: address(host), at }
}

fn net(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn set_ban(subnet: Subnet, since: Millis, until: Option<Millis>) -> Command {
    Command::SetBan(Ban { subnet, since, until, node: 1, reason: "why".into() })
}

fn pardon(subnet: Subnet, at: Millis) -> Command {
    Command::Pardon { subnet, at }
}

fn key(n: u64) -> SessionKey {
    SessionKey(u128::from(n).to_be_bytes())
}

fn put(n: u64, lifetime: u32) -> SessionPut {
    let user = User { id: "alice".into(), level: AccessLevel::User };
    SessionPut { key: key(n), user, age: 0, lifetime }
}

/// One part each, never the same twice.
fn soft(now: Millis, sessions: Vec<SessionPut>, strikes: Vec<Strike>) -> Command {
    static SEQ: AtomicU64 = AtomicU64::new(0);
    let seq = SEQ.fetch_add(1, Ordering::Relaxed);
    let part = SoftPart { origin: 1, boot: 1, seq, sent: now, sessions, strikes };
    Command::Soft(SoftBatch { now, parts: vec![part] })
}

fn tick(now: Millis) -> Command {
    Command::Soft(SoftBatch { now, parts: Vec::new() })
}

/// A node whose clocks are right.
fn at(now: Millis) -> Moment {
    Moment { wall: now, local: 0 }
}

/// Whether nothing is left but the time and who was heard.
fn is_empty(state: &State) -> bool {
    let State { clock, ref parts, .. } = *state;
    *state == State { clock, parts: parts.clone(), ..State::default() }
}

fn run(commands: &[Command]) -> (State, Vec<Reply>) {
    let mut state = State::default();
    let replies = commands.iter().map(|command| state.apply(command)).collect();
    (state, replies)
}

#[test]
fn commands_answer_whether_there_was_something_to_do() {
    use Reply::{Done, Nothing};
    let delete = |id: &str| Command::DeleteExApp { tenant: ours(), id: id.into() };
    let cache = |version: &str, revision| Command::CacheExApp {
        tenant: ours(),
        record: exapp("a", version),
        revision,
    };
    let stamped = |count| Tunnel { stamp: TunnelStamp { epoch: 1, count }, ..tunnel(1, "kept") };
    let up = |count| Command::TunnelUp(stamped(count));
    let down = |count| down(&stamped(count));
    let table: [(&str, Vec<Command>, Vec<Reply>); 6] = [
        ("delete of the unknown", vec![delete("a")], vec![Nothing]),
        ("push and delete", vec![push("a", "1"), delete("a")], vec![Done, Done]),
        ("fetch of the untouched", vec![cache("1", 0)], vec![Done]),
        (
            "a fetch begun before a push loses",
            vec![push("a", "2"), cache("1", 0)],
            vec![Done, Nothing],
        ),
        (
            "a fetch begun before a delete loses",
            vec![delete("a"), cache("1", 0)],
            vec![Nothing, Nothing],
        ),
        (
            "only the newest registration ends a tunnel",
            vec![up(1), up(2), up(1), down(1), down(2), down(2)],
            vec![Done, Done, Nothing, Nothing, Done, Nothing],
        ),
    ];
    for (name, commands, expected) in table {
        assert_eq!(run(&commands).1, expected, "{name}");
    }
}

#[test]
fn registrations_have_a_limit_that_refuses_and_never_takes_one_that_is_there() {
    let mut state = State::default();
    let up = |n: usize| Command::TunnelUp(tunnel(u16::try_from(n).unwrap(), "run"));
    for n in 0..MAX_TUNNELS {
        assert_eq!(state.apply(&up(n)), Reply::Done);
    }
    assert_eq!(state.apply(&up(MAX_TUNNELS)), Reply::Full);
    assert_eq!(state.apply(&up(0)), Reply::Done, "registered again");
    assert_eq!(state.apply(&down(&tunnel(1, "run"))), Reply::Done);
    assert_eq!(state.apply(&up(MAX_TUNNELS)), Reply::Done);
}

#[test]
fn the_exapp_changed_longest_ago_makes_room_and_its_late_fetch_is_refused() {
    let mut state = State::default();
    for n in 0..=MAX_EXAPPS {
        state.apply(&push(&format!("app{n:05}"), "1"));
    }
    assert_eq!(state.exapps().count(), MAX_EXAPPS);
    assert!(state.exapp(&ours(), "app00000").is_none());
    let before = state.exapp_revision(&ours(), "late");
    for n in 0..5 * MAX_EXAPPS {
        state.apply(&Command::DeleteExApp { tenant: ours(), id: format!("gone{n}") });
    }
    let late = Command::CacheExApp { tenant: ours(), record: exapp("late", "1"), revision: before };
    assert_eq!(state.apply(&late), Reply::Nothing);
    let revision = state.exapp_revision(&ours(), "late");
    assert_eq!(
        state.apply(&Command::CacheExApp { tenant: ours(), record: exapp("late", "1"), revision }),
        Reply::Done
    );
}

fn once(state: &mut State, ticket: Option<Ticket>, command: &Command) -> Reply {
    state.apply_once(&Proposal { ticket, at: 0, command: Arc::new(command.clone()) })
}

#[test]
fn a_repeated_proposal_is_applied_once_and_answered_alike() {
    let mut state = State::default();
    let ticket = |boot, seq| Some(Ticket { node: 1, boot, seq });
    let push = push("a", "1");
    let delete = Command::DeleteExApp { tenant: ours(), id: "a".into() };
    state.apply(&push);
    assert_eq!(once(&mut state, ticket(1, 1), &delete), Reply::Done);
    let revision = state.exapp_revision(&ours(), "a");
    assert_eq!(once(&mut state, ticket(1, 1), &delete), Reply::Done);
    assert_eq!(state.exapp_revision(&ours(), "a"), revision);
    assert_eq!(once(&mut state, ticket(1, 2), &delete), Reply::Nothing);
    assert_eq!(once(&mut state, ticket(2, 1), &push), Reply::Done, "after a restart");
    assert_eq!(once(&mut state, ticket(1, 3), &delete), Reply::Nothing, "from before it");
    assert!(state.exapp(&ours(), "a").is_some());
    assert_eq!(once(&mut state, ticket(2, 1 + WINDOW), &push), Reply::Done);
    assert_eq!(once(&mut state, ticket(2, 1), &delete), Reply::Nothing, "too old to tell");
    assert!(state.exapp(&ours(), "a").is_some());
}

#[test]
fn a_map_that_claims_countless_entries_is_refused_and_not_reserved_for() {
    let claim = postcard::to_stdvec(&u64::MAX).unwrap();
    let empty = codec::encode(&State::default()).unwrap();
    let mut refused = 0;
    for at in 1..empty.len() {
        let bytes = [&empty[..at], &claim, &empty[at + 1..]].concat();
        refused += usize::from(codec::decode::<State>("state", &bytes).is_err());
    }
    // All but the counters of the tables and the journal and the clock.
    assert_eq!(refused, empty.len() - 1 - 11);
}

fn wide(host: u32, prefix: u8) -> Subnet {
    net(&format!("{}/{prefix}", address(host)))
}

fn any_tunnel() -> impl Strategy<Value = Tunnel> {
    (1..4u16, 1..3u64, 0..4u64, 0..2u64).prop_map(|(port, node, epoch, count)| Tunnel {
        node,
        stamp: TunnelStamp { epoch, count },
        ..tunnel(port, "a")
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = "[a-d]";
    prop_oneof![
        (id, "[0-9]").prop_map(|(id, version)| push(&id, &version)),
        (id, 0..6u64).prop_map(|(id, revision)| Command::CacheExApp {
            tenant: ours(),
            record: exapp(&id, "c"),
            revision
        }),
        id.prop_map(|id| Command::DeleteExApp { tenant: ours(), id }),
        any_tunnel().prop_map(Command::TunnelUp),
        any_tunnel().prop_map(|tunnel| down(&tunnel)),
        (0..3u32, 30..33u8, 0..3 * MAX_STRIKE_AGE, prop::option::of(0..3 * MAX_STRIKE_AGE))
            .prop_map(|(host, prefix, since, until)| set_ban(wide(host, prefix), since, until)),
        (0..3u32, 30..33u8, 0..3 * MAX_STRIKE_AGE)
            .prop_map(|(host, prefix, at)| pardon(wide(host, prefix), at)),
        (
            0..3 * MAX_STRIKE_AGE,
            prop::collection::vec((1..3u64, 0..3u32, 0..3 * MAX_STRIKE_AGE), 0..4),
            prop::collection::vec((0..4u64, 0..12_000u32), 0..4),
        )
            .prop_map(|(now, strikes, sessions)| soft(
                now,
                sessions.into_iter().map(|(n, lifetime)| put(n, lifetime)).collect(),
                strikes.into_iter().map(|(node, host, at)| strike(node, host, at)).collect(),
            )),
    ]
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_bytes(
        log in prop::collection::vec((any_command(), 1..3u64, 0..8u64), 0..60),
        cut in 0..60usize,
    ) {
        let mut straight = State::default();
        let mut restored = State::default();
        for (at, (command, boot, seq)) in log.iter().enumerate() {
            let ticket = (*seq > 0).then_some(Ticket { node: 1, boot: *boot, seq: *seq });
            if at == cut {
                // A replica that joined by snapshot must go on like one that saw everything.
                restored = codec::decode("state", &codec::encode(&restored).unwrap()).unwrap();
            }
            prop_assert_eq!(
                once(&mut straight, ticket, command),
                once(&mut restored, ticket, command)
            );
            prop_assert_eq!(codec::encode(&straight).unwrap(), codec::encode(&restored).unwrap());
        }
    }
}

#[test]
fn tenants_have_ids_and_ports_of_their_own() {
    let (a, b) = (ours(), Tenant::new("b"));
    let of_b = |record| Command::PushExApp { tenant: b.clone(), record };
    let (mut state, _) = run(&[push("app", "1"), of_b(exapp("app", "2"))]);
    state.apply(&Command::TunnelUp(tunnel(1, "a")));
    state.apply(&Command::TunnelUp(Tunnel { tenant: b.clone(), ..tunnel(1, "b") }));
    assert_eq!(state.exapp(&a, "app").unwrap().version, "1");
    assert_eq!(state.exapp(&b, "app").unwrap().version, "2");
    assert_eq!(state.exapps_of(&b).count(), 1);
    let delete = Command::DeleteExApp { tenant: b.clone(), id: "app".into() };
    assert_eq!(state.apply(&delete), Reply::Done);
    let theirs = Tunnel { tenant: b.clone(), ..tunnel(1, "b") };
    assert_eq!(state.apply(&down(&theirs)), Reply::Done);
    assert!(state.exapp(&a, "app").is_some() && !state.exapp_is_deleted(&a, "app"));
    assert_eq!(state.tunnel(&a, 1).unwrap().run_id, "a");
    assert!(state.tunnel(&b, 1).is_none());
}

#[test]
fn w16_a_deleted_record_is_known_to_be_until_it_is_pushed_or_fetched_again() {
    let delete = Command::DeleteExApp { tenant: ours(), id: "a".into() };
    let (mut state, _) = run(&[push("a", "1"), delete.clone()]);
    assert!(state.exapp_is_deleted(&ours(), "a"));
    assert!(!state.exapp_is_deleted(&ours(), "b"));
    let revision = state.exapp_revision(&ours(), "a");
    let record = exapp("a", "2");
    state.apply(&Command::CacheExApp { tenant: ours(), record, revision });
    assert!(!state.exapp_is_deleted(&ours(), "a"));
    state.apply(&delete);
    state.apply(&push("a", "3"));
    assert!(!state.exapp_is_deleted(&ours(), "a"));
}
