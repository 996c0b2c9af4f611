use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::codec;
use crate::record::{
    AccessLevel, MAX_EXAPPS, MAX_SESSIONS, MAX_STRIKE_AGE, MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY,
    Strike, User,
};

fn exapp(id: &str, version: &str) -> ExApp {
    ExApp {
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
        port,
        proxy: "app".into(),
        run_id: run_id.into(),
        node: 1,
        client: "192.0.2.9:40000".parse().unwrap(),
        server: "192.0.2.1:8782".parse().unwrap(),
        since: 5,
    }
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(n))
}

fn strike(node: NodeId, host: u32, at: Millis) -> Strike {
    Strike { node, address: address(host), at }
}

fn key(n: u64) -> SessionKey {
    SessionKey(u128::from(n).to_be_bytes())
}

fn session(expires_at: Millis) -> Session {
    let user = User { id: "alice".into(), level: AccessLevel::User };
    Session { user, validated_at: 0, expires_at }
}

fn soft(now: Millis, sessions: Vec<(SessionKey, Session)>, strikes: Vec<Strike>) -> Command {
    Command::Soft(SoftBatch { now, sessions, strikes })
}

fn run(commands: &[Command]) -> (State, Vec<Reply>) {
    let mut state = State::default();
    let replies = commands.iter().map(|command| state.apply(command)).collect();
    (state, replies)
}

#[test]
fn commands_answer_whether_there_was_something_to_do() {
    use Reply::{Done, Nothing};
    let delete = |id: &str| Command::DeleteExApp { id: id.into() };
    let cache =
        |version: &str, revision| Command::CacheExApp { record: exapp("a", version), revision };
    let down = |run_id: &str| Command::TunnelDown { port: 1, run_id: run_id.into() };
    let table: [(&str, Vec<Command>, Vec<Reply>); 6] = [
        ("delete of the unknown", vec![delete("a")], vec![Nothing]),
        (
            "push and delete",
            vec![Command::PushExApp(exapp("a", "1")), delete("a")],
            vec![Done, Done],
        ),
        ("fetch of the untouched", vec![cache("1", 0)], vec![Done]),
        (
            "a fetch begun before a push loses",
            vec![Command::PushExApp(exapp("a", "2")), cache("1", 0)],
            vec![Done, Nothing],
        ),
        (
            "a fetch begun before a delete loses",
            vec![delete("a"), cache("1", 0)],
            vec![Nothing, Nothing],
        ),
        (
            "only the newest registration ends a tunnel",
            vec![
                Command::TunnelUp(tunnel(1, "old")),
                Command::TunnelUp(tunnel(1, "new")),
                down("old"),
                down("new"),
                down("new"),
            ],
            vec![Done, Done, Nothing, Done, Nothing],
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
    assert_eq!(state, State::default());
}

#[test]
fn the_address_struck_longest_ago_makes_room() {
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
fn a_session_is_valid_until_it_expires_and_the_first_to_expire_makes_room() {
    let (mut state, _) =
        run(&[soft(0, vec![(key(1), session(10)), (key(2), session(20))], vec![])]);
    assert!(state.session(&key(1), 9).is_some());
    assert!(state.session(&key(1), 10).is_none());
    let fill = (0..MAX_SESSIONS as u64 - 1).map(|n| (key(1000 + n), session(1000))).collect();
    state.apply(&soft(5, fill, vec![]));
    assert!(state.session(&key(1), 5).is_none());
    assert!(state.session(&key(2), 5).is_some());
    state.apply(&soft(6, vec![(key(2), session(2000))], vec![]));
    assert!(state.session(&key(2), 1500).is_some(), "renewed");
    state.apply(&soft(3000, vec![], vec![]));
    assert_eq!(state, State::default());
}

#[test]
fn the_exapp_changed_longest_ago_makes_room_and_its_late_fetch_is_refused() {
    let mut state = State::default();
    for n in 0..=MAX_EXAPPS {
        state.apply(&Command::PushExApp(exapp(&format!("app{n:05}"), "1")));
    }
    assert_eq!(state.exapps().count(), MAX_EXAPPS);
    assert!(state.exapp("app00000").is_none());
    let before = state.exapp_revision("late");
    for n in 0..5 * MAX_EXAPPS {
        state.apply(&Command::DeleteExApp { id: format!("gone{n}") });
    }
    let late = Command::CacheExApp { record: exapp("late", "1"), revision: before };
    assert_eq!(state.apply(&late), Reply::Nothing);
    let revision = state.exapp_revision("late");
    assert_eq!(
        state.apply(&Command::CacheExApp { record: exapp("late", "1"), revision }),
        Reply::Done
    );
}

#[test]
fn a_repeated_proposal_is_applied_once_and_answered_alike() {
    let mut state = State::default();
    let ticket = |boot, seq| Some(Ticket { node: 1, boot, seq });
    let push = Command::PushExApp(exapp("a", "1"));
    let delete = Command::DeleteExApp { id: "a".into() };
    state.apply(&push);
    assert_eq!(state.apply_once(ticket(1, 1), &delete), Reply::Done);
    let revision = state.exapp_revision("a");
    assert_eq!(state.apply_once(ticket(1, 1), &delete), Reply::Done);
    assert_eq!(state.exapp_revision("a"), revision);
    assert_eq!(state.apply_once(ticket(1, 2), &delete), Reply::Nothing);
    assert_eq!(state.apply_once(ticket(2, 1), &push), Reply::Done, "after a restart");
    assert_eq!(state.apply_once(ticket(1, 3), &delete), Reply::Nothing, "from before it");
    assert!(state.exapp("a").is_some());
    assert_eq!(state.apply_once(ticket(2, 1 + WINDOW), &push), Reply::Done);
    assert_eq!(state.apply_once(ticket(2, 1), &delete), Reply::Nothing, "too old to tell");
    assert!(state.exapp("a").is_some());
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
    // All but the two counters, which may be that high.
    assert_eq!(refused, empty.len() - 1 - 2);
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = "[a-d]";
    prop_oneof![
        (id, "[0-9]").prop_map(|(id, version)| Command::PushExApp(exapp(&id, &version))),
        (id, 0..6u64)
            .prop_map(|(id, revision)| Command::CacheExApp { record: exapp(&id, "c"), revision }),
        id.prop_map(|id| Command::DeleteExApp { id }),
        (1..4u16, "[ab]").prop_map(|(port, run_id)| Command::TunnelUp(tunnel(port, &run_id))),
        (1..4u16, "[ab]").prop_map(|(port, run_id)| Command::TunnelDown { port, run_id }),
        (
            0..3 * MAX_STRIKE_AGE,
            prop::collection::vec((1..3u64, 0..3u32, 0..3 * MAX_STRIKE_AGE), 0..4),
            prop::collection::vec((0..4u64, 0..3 * MAX_STRIKE_AGE), 0..4),
        )
            .prop_map(|(now, strikes, sessions)| soft(
                now,
                sessions.into_iter().map(|(n, at)| (key(n), session(at))).collect(),
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
                straight.apply_once(ticket, command),
                restored.apply_once(ticket, command)
            );
            prop_assert_eq!(codec::encode(&straight).unwrap(), codec::encode(&restored).unwrap());
        }
    }
}
