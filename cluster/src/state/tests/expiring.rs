//! What is kept for a while only: failures, pardons, bans and sessions.

use super::*;

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
