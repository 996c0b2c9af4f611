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
fn strikes_of_other_nodes_count_within_the_window() {
    let batch = vec![strike(1, 7, 90), strike(2, 7, 80), strike(2, 7, 95), strike(2, 8, 95)];
    let (state, _) = run(&[soft(100, vec![], batch)]);
    assert_eq!(state.strikes(address(7), 0, 1), 2);
    assert_eq!(state.strikes(address(7), 0, 9), 3);
    assert_eq!(state.strikes(address(7), 85, 1), 1);
    assert_eq!(state.strikes(address(9), 0, 1), 0);
}

#[test]
fn a_strike_from_the_future_counts_as_now() {
    let (state, _) = run(&[soft(100, vec![], vec![strike(2, 7, 5_000)])]);
    assert_eq!(state.strikes(address(7), 99, 1), 1);
    assert_eq!(state.strikes(address(7), 100, 1), 0);
}

#[test]
fn old_strikes_are_forgotten_and_a_pair_keeps_the_newest() {
    let many = (0..=MAX_STRIKES_PER_KEY as u64).map(|at| strike(2, 7, at)).collect();
    let (mut state, _) = run(&[soft(100, vec![], many)]);
    assert_eq!(state.strikes(address(7), 0, 1), MAX_STRIKES_PER_KEY);
    state.apply(&soft(MAX_STRIKE_AGE + 65, vec![], vec![]));
    assert!(is_empty(&state), "{state:?}");
}

#[test]
fn w12_the_address_struck_longest_ago_makes_room() {
    let last = u32::try_from(MAX_STRIKE_KEYS).unwrap();
    let mut state = State::default();
    for host in 0..last {
        state.apply(&soft(u64::from(host), vec![], vec![strike(2, host, u64::from(host) + 1)]));
    }
    state.apply(&soft(1_000_000, vec![], vec![strike(2, 0, 999_999), strike(2, last, 999_999)]));
    let struck = |host| state.strikes(address(host), 0, 1);
    assert_eq!((struck(0), struck(1), struck(2), struck(last)), (1, 0, 1, 1));
}

#[test]
fn a_pardon_forgives_what_was_and_nothing_that_comes_after() {
    let strikes = vec![strike(1, 7, 90), strike(2, 7, 95), strike(2, 7, 99), strike(2, 8, 95)];
    let (mut state, _) = run(&[soft(100, vec![], strikes)]);
    assert_eq!(state.apply(&pardon(Subnet::of(address(7)), 96)), Reply::Done);
    assert_eq!(state.pardoned(address(7)), Some(96));
    assert_eq!((state.strikes(address(7), 0, 9), state.strikes(address(8), 0, 9)), (1, 1));
    // Two that were under way when the pardon was given, one of them younger.
    state.apply(&soft(101, vec![], vec![strike(3, 7, 96), strike(3, 7, 97)]));
    assert_eq!(state.strikes(address(7), 0, 9), 2);
    assert_eq!(state.apply(&pardon(Subnet::of(address(9)), 102)), Reply::Nothing);
    // A clock that is behind takes no pardon back.
    state.apply(&pardon(Subnet::of(address(7)), 50));
    assert_eq!(state.pardoned(address(7)), Some(96));
    let seen: Vec<_> = state.every_strike().map(|strike| strike.at).collect();
    assert_eq!(seen, [99, 97, 95]);
}

#[test]
fn a_pardoned_network_is_pardoned_whole() {
    let host = |last: u8| IpAddr::from([192, 0, 2, last]);
    let struck = |last| Strike { node: 2, address: host(last), at: 10 };
    let outside = Strike { node: 2, address: [192, 0, 3, 1].into(), at: 10 };
    let (mut state, _) = run(&[
        soft(10, vec![], vec![struck(1), struck(250), outside]),
        set_ban(net("192.0.2.128/25"), 10, None),
        set_ban(net("192.0.0.0/16"), 10, None),
    ]);
    assert_eq!(state.apply(&pardon(net("192.0.2.0/24"), 20)), Reply::Done);
    let left: Vec<_> = state.every_strike().collect();
    assert_eq!(left, [outside]);
    let bans: Vec<_> = state.bans().map(|ban| ban.subnet.to_string()).collect();
    assert_eq!(bans, ["192.0.0.0/16"]);
    assert_eq!(state.pardoned(host(77)), Some(20));
}

#[test]
fn a_ban_holds_until_it_ends_and_the_narrowest_is_named() {
    let (mut state, replies) = run(&[
        set_ban(net("10.0.0.0/8"), 0, None),
        set_ban(net("10.0.0.7"), 0, Some(100)),
        set_ban(net("2001:db8::1"), 0, Some(100)),
    ]);
    assert_eq!(replies, [Reply::Done; 3]);
    let found = |state: &State, address: &str, now| {
        state.ban(address.parse().unwrap(), now).map(|ban| ban.subnet.to_string())
    };
    assert_eq!(found(&state, "10.0.0.7", 99).as_deref(), Some("10.0.0.7"));
    assert_eq!(found(&state, "10.0.0.7", 100).as_deref(), Some("10.0.0.0/8"));
    assert_eq!(found(&state, "2001:db8::ffff", 99).as_deref(), Some("2001:db8::/64"));
    assert_eq!(found(&state, "2001:db8::ffff", 100), None);
    assert_eq!(found(&state, "11.0.0.1", 99), None);
    state.apply(&soft(100, vec![], vec![]));
    assert_eq!(state.bans().count(), 1);
}

#[test]
fn bans_are_refused_when_there_is_no_room_and_pardons_make_their_own() {
    let mut state = State::default();
    let subnet = |n: usize| Subnet::of(address(u32::try_from(n).unwrap()));
    for n in 0..MAX_BANS {
        assert_eq!(state.apply(&set_ban(subnet(n), 0, Some(50))), Reply::Done);
    }
    assert_eq!(state.apply(&set_ban(subnet(MAX_BANS), 10, None)), Reply::Full);
    assert_eq!(state.apply(&set_ban(subnet(0), 10, None)), Reply::Done, "replaced");
    assert_eq!(state.apply(&set_ban(subnet(MAX_BANS), 50, None)), Reply::Full, "a fast clock");
    state.apply(&tick(50));
    assert_eq!(state.apply(&set_ban(subnet(MAX_BANS), 50, None)), Reply::Done, "others ended");
    assert_eq!(state.bans().count(), 2);
    let wordy = Ban {
        subnet: subnet(3),
        since: 60,
        until: None,
        node: 1,
        reason: "x".repeat(MAX_REASON + 1),
    };
    assert_eq!(state.apply(&Command::SetBan(wordy)), Reply::Nothing);
    for n in 0..=MAX_PARDONS {
        state.apply(&pardon(subnet(n), 100 + n as u64));
    }
    assert_eq!(state.pardoned(address(0)), None, "the oldest made room");
    assert_eq!(state.pardoned(address(1)), Some(101));
    state.apply(&soft(MAX_STRIKE_AGE + 100_000, vec![], vec![]));
    assert!(is_empty(&state), "nothing is kept for ever: {state:?}");
}

#[test]
fn w12_a_session_is_valid_until_it_expires_and_there_are_not_too_many() {
    let (mut state, _) = run(&[soft(0, vec![put(1, 10), put(2, 20)], vec![])]);
    assert!(state.session(&key(1), at(9)).is_some());
    state.apply(&tick(10));
    assert!(state.session(&key(1), at(9)).is_none());
    assert!(state.session(&key(2), at(10)).is_some());
    let fill = (0..MAX_SESSIONS as u64).map(|n| put(1000 + n, 1000)).collect();
    state.apply(&soft(11, fill, vec![]));
    assert!(state.session(&key(2), at(11)).is_none(), "it would have expired first");
    assert!(state.session_count() <= MAX_SESSIONS);
    let endless = SessionPut { lifetime: u32::MAX, ..put(2, 0) };
    state.apply(&soft(12, vec![endless], vec![]));
    assert_eq!(state.session(&key(2), at(12)).unwrap().expires_at, 12 + MAX_LIFETIME);
    let wordy = User { id: "x".repeat(MAX_USER_ID + 1), level: AccessLevel::User };
    state.apply(&soft(13, vec![SessionPut { user: wordy, ..put(3, 1000) }], vec![]));
    assert!(state.session(&key(3), at(13)).is_none());
    state.apply(&tick(12 + MAX_LIFETIME));
    assert!(is_empty(&state), "{state:?}");
}

#[test]
fn the_clock_never_goes_back_and_says_when_something_is_due() {
    let (mut state, _) = run(&[tick(1000), soft(900, vec![put(1, 200)], vec![strike(2, 7, 950)])]);
    assert_eq!((state.clock(), state.next_expiry()), (1000, Some(1100)));
    state.apply(&set_ban(net("10.0.0.7"), 0, Some(1050)));
    assert_eq!(state.next_expiry(), Some(1050));
    state.apply(&tick(1100));
    assert_eq!(state.next_expiry(), Some(950 + MAX_STRIKE_AGE + 1));
    state.apply(&pardon(Subnet::of(address(7)), 1000));
    assert_eq!(state.next_expiry(), Some(1000 + MAX_STRIKE_AGE + 1));
    state.apply(&tick(1000 + MAX_STRIKE_AGE + 1));
    assert_eq!(state.next_expiry(), None);
}

#[test]
fn a_part_that_is_sent_again_strikes_once() {
    let part = |seq| {
        let strikes = vec![strike(1, 7, 90)];
        SoftPart { origin: 1, boot: 3, seq, sent: 100, strikes, ..SoftPart::default() }
    };
    let batch = |seqs: &[u64]| {
        Command::Soft(SoftBatch { now: 100, parts: seqs.iter().copied().map(part).collect() })
    };
    let (state, _) = run(&[batch(&[1]), batch(&[0, 1]), batch(&[0, 2, 2])]);
    assert_eq!(state.strikes(address(7), 0, 9), 3);
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
