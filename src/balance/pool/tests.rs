use proptest::prelude::*;

use super::*;

fn pool(servers: usize) -> (Pool, Instant) {
    let now = Instant::now();
    let terms = Terms {
        ejection: ejection::Terms { failures: 2, ..ejection::Terms::default() },
        ..Terms::default()
    };
    let mut pool = Pool::new(terms, servers, now);
    for at in 0..servers {
        pool.checked(at, Ok(String::new()), now);
    }
    (pool, now)
}

fn down(pool: &mut Pool, at: usize, now: Instant) {
    for _ in 0..3 {
        pool.checked(at, Err("refused".into()), now);
    }
}

fn chosen(pool: &mut Pool, now: Instant, times: usize) -> Vec<usize> {
    (0..times).map(|_| pool.choose(now, &[]).unwrap()).collect()
}

fn ejected(event: Option<Event>) -> bool {
    matches!(event, Some(Event::Ejected(_)))
}

#[test]
fn the_least_busy_is_chosen_and_ties_go_round() {
    let (mut pool, now) = pool(3);
    let mut first = chosen(&mut pool, now, 3);
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2]);
    pool.ended(1);
    assert_eq!(pool.choose(now, &[]), Ok(1));
    // One after the other, nobody is preferred.
    let mut counts = [0; 3];
    for at in 0..3 {
        pool.ended(at);
    }
    for _ in 0..30 {
        let at = pool.choose(now, &[]).unwrap();
        counts[at] += 1;
        pool.ended(at);
    }
    assert_eq!(counts, [10, 10, 10]);
}

#[test]
fn a_server_that_is_down_drained_or_in_maintenance_gets_nothing() {
    for (name, change) in [
        ("down", down as fn(&mut Pool, usize, Instant)),
        ("drain", |pool, at, now| pool.set(at, Admin::Drain, now)),
        ("maint", |pool, at, now| pool.set(at, Admin::Maint, now)),
    ] {
        let (mut pool, now) = pool(2);
        change(&mut pool, 0, now);
        assert_eq!(chosen(&mut pool, now, 5), [1; 5], "{name}");
        change(&mut pool, 1, now);
        assert_eq!(pool.choose(now, &[]), Err(Nobody::Fit), "{name}");
    }
}

#[test]
fn maintenance_stops_checks_and_forgets_what_they_said() {
    let (mut pool, now) = pool(1);
    pool.set(0, Admin::Drain, now);
    assert!(pool.wants_check(0));
    pool.set(0, Admin::Maint, now);
    assert!(!pool.wants_check(0));
    down(&mut pool, 0, now);
    pool.set(0, Admin::Ready, now);
    assert_eq!(pool.reports(now).next().unwrap().condition, Condition::Checking);
    assert_eq!(pool.choose(now, &[]), Ok(0));
}

#[test]
fn where_a_request_was_already_it_does_not_go_again() {
    let (mut pool, now) = pool(2);
    assert_eq!(pool.choose(now, &[0]), Ok(1));
    assert_eq!(pool.choose(now, &[1, 0]), Err(Nobody::Fit));
}

#[test]
fn failures_in_a_row_eject_but_at_most_half_and_never_the_last() {
    let (mut pool, now) = pool(3);
    assert_eq!(pool.judged(0, Outcome::Failed, now), None);
    assert!(ejected(pool.judged(0, Outcome::Failed, now)));
    assert!(!chosen(&mut pool, now, 6).contains(&0));
    // The second of three would be more than half.
    assert!((0..5).all(|_| pool.judged(1, Outcome::Failed, now).is_none()));
    // Later it is back.
    let later = now + Duration::from_secs(11);
    assert!(chosen(&mut pool, later, 6).contains(&0));

    let (mut alone, now) = self::pool(1);
    assert!((0..5).all(|_| alone.judged(0, Outcome::Failed, now).is_none()));
    assert_eq!(alone.choose(now, &[]), Ok(0));
}

#[test]
fn an_ejected_server_is_used_when_the_others_are_down() {
    let (mut pool, now) = pool(2);
    pool.judged(0, Outcome::Failed, now);
    assert!(ejected(pool.judged(0, Outcome::Failed, now)));
    down(&mut pool, 1, now);
    assert_eq!(pool.choose(now, &[]), Ok(0));
}

#[test]
fn who_is_full_gets_nothing_until_it_has_ended_something() {
    let (mut pool, now) = pool(2);
    pool.terms.most = Some(2);
    assert_eq!(chosen(&mut pool, now, 4).len(), 4);
    assert_eq!(pool.choose(now, &[]), Err(Nobody::Idle));
    pool.ended(1);
    assert_eq!(pool.choose(now, &[]), Ok(1));
}

#[test]
fn a_server_that_is_back_gets_more_and_more() {
    let (mut pool, now) = pool(2);
    down(&mut pool, 0, now);
    pool.checked(0, Ok(String::new()), now);
    assert_eq!(pool.checked(0, Ok(String::new()), now), Some(Event::Up));
    let mut share = |after: u64| {
        let now = now + Duration::from_secs(after);
        // The other one is busy: only warming up keeps this one from everything.
        pool.servers[1].in_flight = 1000;
        let got = (0..100).filter(|_| {
            let at = pool.choose(now, &[]).unwrap();
            pool.ended(at);
            at == 0
        });
        got.count()
    };
    assert_eq!([share(0), share(15), share(30)], [10, 50, 100]);
    // Alone it gets everything at once.
    down(&mut pool, 1, now);
    assert_eq!(chosen(&mut pool, now, 3), [0; 3]);
}

proptest! {
    /// Whatever happens: nobody unfit is chosen while somebody fit is there, counts stay exact.
    #[test]
    fn only_who_can_work_is_chosen(
        events in proptest::collection::vec((0u8..7, 0usize..4, 0u64..4000), 0..200),
    ) {
        let (mut pool, mut now) = pool(4);
        let mut open = [0u64; 4];
        for (event, at, millis) in events {
            now += Duration::from_millis(millis);
            match event {
                0 | 1 => match pool.choose(now, &[]) {
                    Ok(chosen) => {
                        open[chosen] += 1;
                        prop_assert!(pool.servers[chosen].can_work());
                        let out = pool.servers[chosen].ejection.is_out(now);
                        let fit = |s: &Server| s.can_work() && !s.ejection.is_out(now);
                        prop_assert!(!out || !pool.servers.iter().any(fit));
                    }
                    Err(_) => prop_assert!(!pool.servers.iter().any(Server::can_work)),
                },
                2 if open[at] > 0 => {
                    open[at] -= 1;
                    pool.ended(at);
                }
                3 => {
                    pool.judged(at, Outcome::Failed, now);
                    let able = pool.servers.iter().filter(|s| s.can_work()).count();
                    let out = pool.servers.iter().filter(|s| s.can_work() && s.ejection.is_out(now));
                    prop_assert!(able == 0 || out.count() < able || able == 1);
                }
                4 => drop(pool.checked(at, Ok(String::new()), now)),
                5 => drop(pool.checked(at, Err(String::new()), now)),
                6 => pool.set(at, [Admin::Ready, Admin::Drain, Admin::Maint][at % 3], now),
                _ => {}
            }
            let counted: Vec<u64> = pool.reports(now).map(|report| report.in_flight).collect();
            prop_assert_eq!(&counted[..], &open[..]);
        }
    }
}
