//! In which order and how fast orphaned clients are woken. Sans-io.
//!
//! Six segments to each of 20,000 clients at once would overflow the queue of a neighbour whose
//! hardware address is still being asked for, and all of them would come back in the same moment
//! and find the listener's queue full. So they are woken at a rate; tunnel clients first, because
//! requests wait for them, and nobody a second time before everybody was woken once.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cluster::flows::{Flow, FlowKind};
use cluster::record::TunnelKey;

/// Time between two clients: 4,000 a second, whose handshakes two cores can just answer.
const INTERVAL: Duration = Duration::from_micros(250);

/// How much may be made up for when the thread came late, and how many go at once at first.
const BURST: u32 = 16;

/// How many become due before it is worth waking the thread.
const STEP: u32 = 4;

/// Pause when the kernel has no room for more segments.
const NO_ROOM: Duration = Duration::from_millis(2);

/// Pause before a client is tickled again: later than the 500 ms for which Linux suppresses a
/// second answer (`tcp_invalid_ratelimit`).
const AGAIN: Duration = Duration::from_millis(600);

/// How often a client is tickled at most.
const ROUNDS: u8 = 3;

/// A connection whose server is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The connection.
    pub flow: Flow,
    /// The tunnels that came through it, as far as known.
    pub tunnels: Vec<TunnelKey>,
}

/// How a wake went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The segments are out.
    Sent,
    /// Not necessary: the client is back.
    Back,
    /// The kernel has no room for more segments now.
    NoRoom,
    /// The kernel refused for good.
    Failed,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Not woken yet: tunnel clients, others.
    first: [VecDeque<Orphan>; 2],
    /// Woken before, in the order in which they are due.
    again: VecDeque<Waiting>,
    /// Being woken by the caller, and how often it was before.
    current: Option<u8>,
    known: HashSet<(SocketAddr, SocketAddr)>,
    /// When the next would go if nobody ever came late.
    theory: Option<Instant>,
    blocked: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    rounds: u8,
    orphan: Orphan,
}

impl Pace {
    /// Queues those that are not known yet.
    pub(super) fn add(&mut self, now: Instant, orphans: Vec<Orphan>) {
        self.theory.get_or_insert(now);
        for orphan in orphans {
            if self.known.insert(ends(&orphan)) {
                self.first[lane(&orphan)].push_back(orphan);
            }
        }
    }

    /// Drops those of addresses that are not ours any more, or are ours anew.
    pub(super) fn forget(&mut self, addresses: &[IpAddr]) {
        let stays = |server: SocketAddr| !addresses.contains(&server.ip());
        for lane in &mut self.first {
            lane.retain(|orphan| stays(orphan.flow.server));
        }
        self.again.retain(|waiting| stays(waiting.orphan.flow.server));
        self.known.retain(|(server, _)| stays(*server));
    }

    /// Nobody else will be found: what is remembered against doubles may go with the last one.
    pub(super) fn settle(&mut self) {
        if self.due().is_none() {
            *self = Self::default();
        }
    }

    /// The next to be woken, if it may be now; the answer goes to [`Self::woken`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Orphan> {
        if self.blocked.is_some_and(|until| until > now) {
            return None;
        }
        let theory = self.theory?.max(now);
        if theory - now > INTERVAL * (BURST - 1) {
            return None;
        }
        let first = self.first.iter_mut().find_map(VecDeque::pop_front);
        let (orphan, rounds) = match first {
            Some(orphan) => (orphan, 0),
            None if self.again.front().is_some_and(|waiting| waiting.due <= now) => {
                self.again.pop_front().map(|waiting| (waiting.orphan, waiting.rounds))?
            }
            None => return None,
        };
        self.theory = Some(theory + INTERVAL);
        self.current = Some(rounds);
        Some(orphan)
    }

    /// How it went with the one [`Self::next`] gave.
    pub(super) fn woken(&mut self, now: Instant, orphan: Orphan, outcome: Outcome) {
        let rounds = self.current.take().unwrap_or_default();
        match outcome {
            Outcome::Sent | Outcome::Failed if rounds + 1 < ROUNDS => {
                let due = now + AGAIN;
                self.again.push_back(Waiting { due, rounds: rounds + 1, orphan });
            }
            Outcome::Sent | Outcome::Failed | Outcome::Back => {}
            Outcome::NoRoom => {
                self.blocked = Some(now + NO_ROOM);
                if rounds == 0 {
                    self.first[lane(&orphan)].push_front(orphan);
                } else {
                    self.again.push_front(Waiting { due: now, rounds, orphan });
                }
            }
        }
    }

    /// When there is something to do again.
    pub(super) fn due(&self) -> Option<Instant> {
        let is_first = self.first.iter().any(|lane| !lane.is_empty());
        let again = self.again.front().map(|waiting| waiting.due);
        let theory = self.theory?;
        let allowed = theory.checked_sub(INTERVAL * (BURST - STEP)).unwrap_or(theory);
        let earliest = self.blocked.map_or(allowed, |until| until.max(allowed));
        if is_first { Some(earliest) } else { again.map(|due| due.max(earliest)) }
    }
}

fn ends(orphan: &Orphan) -> (SocketAddr, SocketAddr) {
    (orphan.flow.server, orphan.flow.client)
}

fn lane(orphan: &Orphan) -> usize {
    usize::from(orphan.flow.kind != FlowKind::Control)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn orphan(server: IpAddr, n: u16) -> Orphan {
        let flow = Flow {
            server: (server, 443).into(),
            client: ([198, 51, 100, 1], 1000 + n).into(),
            kind: FlowKind::Client,
            sequence: None,
        };
        Orphan { flow, tunnels: Vec::new() }
    }

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn number(orphan: &Orphan) -> u16 {
        orphan.flow.client.port() - 1000
    }

    /// Runs on virtual time until nothing is due; who was woken when, and how.
    fn run(
        pace: &mut Pace,
        start: Instant,
        mut outcome: impl FnMut(Duration, u16) -> Outcome,
    ) -> Vec<(Duration, u16, Outcome)> {
        let mut woken = Vec::new();
        let mut now = start;
        loop {
            while let Some(orphan) = pace.next(now) {
                let number = number(&orphan);
                let outcome = outcome(now - start, number);
                woken.push((now - start, number, outcome));
                pace.woken(now, orphan, outcome);
            }
            let Some(due) = pace.due() else { return woken };
            assert!(due > now, "nothing that is due stays undone");
            now = due;
        }
    }

    #[test]
    fn twenty_thousand_are_woken_at_a_steady_rate_and_each_three_times() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.add(start, (0..20_000).map(|n| orphan(VIP, n)).collect());
        let woken = run(&mut pace, start, |_, _| Outcome::Sent);
        assert_eq!(woken.len(), 60_000);
        // In any 100 ms at most the rate and one burst.
        for window in woken.windows(400 + 17) {
            assert!(window[416].0 - window[0].0 >= Duration::from_millis(100), "{:?}", window[0]);
        }
        let first: Vec<_> = woken[..20_000].iter().map(|(_, number, _)| *number).collect();
        assert!(first.iter().copied().eq(0..20_000), "everybody once before anybody twice");
        let took = woken[19_999].0;
        assert!((Duration::from_millis(4990)..Duration::from_millis(5010)).contains(&took));
        pace.settle();
        assert!(pace.known.is_empty() && pace.known.capacity() == 0);
    }

    #[test]
    fn a_handful_goes_at_once_and_again_when_linux_answers_again() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.add(start, (0..16).map(|n| orphan(VIP, n)).collect());
        let woken = run(&mut pace, start, |_, _| Outcome::Sent);
        assert!(woken[..16].iter().all(|(at, ..)| at.is_zero()));
        for number in 0..16 {
            let times: Vec<_> =
                woken.iter().filter(|(_, n, _)| *n == number).map(|(at, ..)| *at).collect();
            assert_eq!(times.len(), 3);
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= AGAIN), "{times:?}");
            assert!(times[2] < Duration::from_millis(1300), "{times:?}");
        }
    }

    #[test]
    fn tunnel_clients_go_first_also_when_found_late() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.add(start, (0..40).map(|n| orphan(VIP, n)).collect());
        for _ in 0..16 {
            let orphan = pace.next(start).unwrap();
            pace.woken(start, orphan, Outcome::Sent);
        }
        assert_eq!(pace.next(start), None);
        let mut control = orphan(VIP, 99);
        control.flow.kind = FlowKind::Control;
        pace.add(start, vec![control.clone(), orphan(VIP, 3)]);
        let later = pace.due().unwrap();
        assert_eq!(later - start, INTERVAL * STEP, "some at a time, not one by one");
        assert_eq!(pace.next(later), Some(control));
    }

    #[test]
    fn a_full_queue_of_the_kernel_costs_time_and_nobody() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.add(start, (0..100).map(|n| orphan(VIP, n)).collect());
        let until = Duration::from_millis(300);
        let woken = run(&mut pace, start, |at, number| match number {
            _ if at < until => Outcome::NoRoom,
            7 => Outcome::Back,
            _ => Outcome::Sent,
        });
        let tries = woken.iter().filter(|(at, ..)| *at < until).count();
        assert!(tries <= 150, "{tries} tries while there was no room");
        let sent = |wanted: u16| {
            let to = woken.iter().filter(|(_, number, _)| *number == wanted);
            to.filter(|(.., outcome)| *outcome == Outcome::Sent).count()
        };
        for number in (0..100).filter(|number| *number != 7) {
            assert_eq!(sent(number), 3, "{number}");
        }
        assert_eq!(sent(7), 0, "one that is back is left in peace");
    }
}
