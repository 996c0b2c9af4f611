//! Durable changes asked of both nodes while members die, pause and are cut off: whatever was
//! answered, one copy of the data could have answered it, and nothing that was confirmed is lost.
//!
//! A ban is the record: setting one writes, a pardon deletes and tells whether there was one. A
//! read is the node's own view after a change of the reader shows in it, which makes it
//! linearizable. `CLUSTER_CYCLES` sets how many failures there are, `CLUSTER_SEED` which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trigon::admin::bans::{NewBan, Removal};
use trigon::admin::client;

use crate::linearizability::{Operation, Record, RecordAnswer, RecordCall, Verdict, check};
use crate::machine::Machine;
use crate::place::{Place, Setup, Side};
use crate::support::eventually;

/// Failures in a run of every day: one of each kind. The dice choose those after them.
const FIRST: [Fault; 6] = [
    Fault::Kill(Who::A),
    Fault::CutOff(Who::A),
    Fault::Pause(Who::B),
    Fault::KillBoth(Who::A, Who::Witness),
    Fault::Kill(Who::Witness),
    Fault::CutOff(Who::B),
];
/// Clients of each node.
const CLIENTS: u64 = 2;
/// Keys in use at once. Every cycle has its own: short histories are decided fast.
const KEYS: u64 = 8;
/// So many answers show that a state of affairs was really lived in.
const ANSWERS: u64 = 25;

type History = BTreeMap<String, Vec<Operation<RecordCall, RecordAnswer>>>;

/// What all clients share.
struct Book {
    started: Instant,
    history: Mutex<History>,
    cycle: AtomicU64,
    values: AtomicU64,
    answered: AtomicU64,
    /// Called, and never learned what came of it.
    unknown: AtomicU64,
}

/// What goes wrong in one cycle.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(Who),
    Pause(Who),
    CutOff(Who),
    /// No two of three are left.
    KillBoth(Who, Who),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    A,
    B,
    Witness,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_one_copy_whatever_fails() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cycles = number("CLUSTER_CYCLES").unwrap_or(FIRST.len() as u64);
    let seed = number("CLUSTER_SEED").unwrap_or(5);
    eprintln!("failures of CLUSTER_SEED={seed}");
    let mut dice = Dice(seed);
    let mut place = Place::start(Setup::default()).await;
    let book = Arc::new(Book::new());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    for client in 0..2 * CLIENTS {
        let node = if client % 2 == 0 { &place.a } else { &place.b };
        let client = Client { number: client, socket: node.socket(), dice: Dice(client + 77) };
        let (book, stop) = (Arc::clone(&book), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(client.run(&book)).await });
    }
    tasks.close();
    for cycle in 0..cycles {
        book.cycle.store(cycle, Ordering::Relaxed);
        book.has_answered("before a failure").await;
        let first = usize::try_from(cycle).ok().and_then(|at| FIRST.get(at));
        let fault = first.copied().unwrap_or_else(|| dice.fault());
        strike(&mut place, fault).await;
        if matches!(fault, Fault::KillBoth(..)) {
            let left = [&place.a, &place.b].into_iter().find(|node| node.runs());
            if let Some(node) = left {
                node.until("alone", |status| !status.cluster.quorum).await;
                book.refuses().await;
            }
        } else {
            book.has_answered(&format!("cycle {cycle}, {fault:?}")).await;
        }
        repair(&mut place, fault).await;
        for node in [&place.a, &place.b] {
            node.until("a quorum", |status| status.ready && status.cluster.quorum).await;
        }
    }
    stop.cancel();
    tasks.wait().await;
    place.is_whole().await;
    for side in [Side::A, Side::B] {
        book.read_all(place.node(side)).await;
    }
    book.is_linearizable();
    let (answered, unknown) = (&book.answered, &book.unknown);
    assert!(answered.load(Ordering::Relaxed) > cycles * ANSWERS && cycles > 0);
    eprintln!("{answered:?} operations answered, {unknown:?} with an unknown end");
}

async fn strike(place: &mut Place, fault: Fault) {
    match fault {
        Fault::Kill(who) => machine(place, who).end(Signal::KILL),
        Fault::Pause(who) => machine(place, who).pause(),
        Fault::CutOff(who) => {
            let cut = "tcp dport 7443 drop\ntcp sport 7443 drop";
            machine(place, who).filter(cut, cut);
        }
        Fault::KillBoth(one, other) => {
            machine(place, one).end(Signal::KILL);
            machine(place, other).end(Signal::KILL);
        }
    }
}

async fn repair(place: &mut Place, fault: Fault) {
    match fault {
        Fault::Kill(who) => machine(place, who).start(),
        Fault::Pause(who) => machine(place, who).resume(),
        Fault::CutOff(who) => machine(place, who).unfilter(),
        Fault::KillBoth(one, other) => {
            machine(place, one).start();
            machine(place, other).start();
        }
    }
}

fn machine(place: &mut Place, who: Who) -> &mut Machine {
    match who {
        Who::A => &mut place.a,
        Who::B => &mut place.b,
        Who::Witness => place.witness(),
    }
}

/// Somebody who asks one node for one change after the other.
struct Client {
    number: u64,
    socket: PathBuf,
    dice: Dice,
}

impl Client {
    async fn run(mut self, book: &Book) {
        loop {
            let cycle = book.cycle.load(Ordering::Relaxed);
            let key = key(cycle, self.dice.below(KEYS));
            let call = match self.dice.below(4) {
                0 | 1 => RecordCall::Write(book.values.fetch_add(1, Ordering::Relaxed)),
                2 => RecordCall::Delete,
                _ => RecordCall::Read,
            };
            let called = book.now();
            // Noted before it is asked: a client that is stopped never learns its end.
            let noted = book.note(&key, called, call);
            let outcome = self.ask(&key, call).await;
            book.settle(&key, noted, outcome);
            if matches!(outcome, Outcome::Never) {
                // Nobody is there to be asked.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn ask(&self, key: &str, call: RecordCall) -> Outcome {
        match call {
            RecordCall::Write(value) => match client::ban(&self.socket, &ban(key, value)).await {
                Ok(()) => Outcome::Answer(RecordAnswer::Done),
                Err(error) => unanswered(&error),
            },
            RecordCall::Delete => {
                let removal = Removal { address: key.to_owned() };
                match client::pardon(&self.socket, &removal).await {
                    Ok(removed) if removed.found => Outcome::Answer(RecordAnswer::Done),
                    Ok(_) => Outcome::Answer(RecordAnswer::Nothing),
                    Err(error) => unanswered(&error),
                }
            }
            RecordCall::Read => match view(&self.socket, self.number).await {
                Some(view) => Outcome::Answer(RecordAnswer::Value(view.get(key).copied())),
                None => Outcome::Never,
            },
            RecordCall::Refresh { .. } => unreachable!("no client asks for it"),
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Answer(RecordAnswer),
    /// It has surely had no effect and never will.
    Never,
    /// It may have, or may yet.
    Unknown,
}

fn unanswered(error: &client::Error) -> Outcome {
    match error {
        client::Error::Unreachable { .. } => Outcome::Never,
        _ => Outcome::Unknown,
    }
}

/// Every ban of the node at a moment after the call, by a change of the reader that shows in it.
async fn view(socket: &Path, reader: u64) -> Option<BTreeMap<String, u64>> {
    static MARKS: AtomicU64 = AtomicU64::new(1);
    let (mark, own) = (MARKS.fetch_add(1, Ordering::Relaxed), format!("198.19.255.{reader}"));
    client::ban(socket, &ban(&own, mark)).await.ok()?;
    let bans = client::bans(socket, false).await.ok()?.0.into_iter();
    let value = |reason: Option<String>| reason.and_then(|text| text.parse::<u64>().ok());
    let view: BTreeMap<_, _> =
        bans.filter_map(|ban| Some((ban.address, value(ban.reason)?))).collect();
    (view.get(&own) == Some(&mark)).then_some(view)
}

fn ban(address: &str, value: u64) -> NewBan {
    NewBan { address: address.to_owned(), for_seconds: None, reason: value.to_string() }
}

fn key(cycle: u64, number: u64) -> String {
    // 198.18/15 is for tests; `judge` uses its first half, readers the last addresses.
    format!("198.19.{}.{}", cycle / 8, 8 * (cycle % 8) + number)
}

impl Book {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            history: Mutex::default(),
            cycle: AtomicU64::new(0),
            values: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap()
    }

    fn note(&self, key: &str, called: u64, call: RecordCall) -> u64 {
        let mut history = self.history.lock().unwrap();
        let operations = history.entry(key.to_owned()).or_default();
        operations.push(Operation { called, call, answered: None });
        called
    }

    /// `called` finds the operation: no two of one key are called in the same nanosecond by
    /// clients that take microseconds to ask.
    fn settle(&self, key: &str, called: u64, outcome: Outcome) {
        let at = self.now();
        let mut history = self.history.lock().unwrap();
        let operations = history.get_mut(key).unwrap();
        let place = operations.iter().rposition(|operation| operation.called == called).unwrap();
        match outcome {
            Outcome::Answer(answer) => {
                operations[place].answered = Some((at, answer));
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Never => {
                operations.remove(place);
            }
        }
    }

    async fn has_answered(&self, what: &str) {
        let seen = self.answered.load(Ordering::Relaxed);
        eventually(&format!("answers {what}"), || async {
            (self.answered.load(Ordering::Relaxed) >= seen + ANSWERS).then_some(())
        })
        .await;
    }

    async fn refuses(&self) {
        let seen = self.unknown.load(Ordering::Relaxed);
        eventually("a refusal", || async {
            (self.unknown.load(Ordering::Relaxed) > seen).then_some(())
        })
        .await;
    }

    /// What a node knows in the end, as one more answer for every key.
    async fn read_all(&self, node: &Machine) {
        let called = self.now();
        let socket = node.socket();
        let view = eventually("a last look", || view(&socket, 200)).await;
        let at = self.now();
        for (key, operations) in self.history.lock().unwrap().iter_mut() {
            let answered = Some((at, RecordAnswer::Value(view.get(key).copied())));
            operations.push(Operation { called, call: RecordCall::Read, answered });
        }
    }

    fn is_linearizable(&self) {
        for (key, operations) in self.history.lock().unwrap().iter() {
            let verdict = check::<Record>(operations);
            assert_eq!(verdict, Verdict::Linearizable, "{key}: {operations:#?}");
        }
    }
}

/// Small numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn fault(&mut self) -> Fault {
        let who = [Who::A, Who::B, Who::Witness];
        let one = self.below(3);
        let pick = |at: u64| who[usize::try_from(at % 3).unwrap()];
        match self.below(8) {
            0..=2 => Fault::Kill(pick(one)),
            3 | 4 => Fault::Pause(pick(one)),
            5 | 6 => Fault::CutOff(pick(one)),
            _ => Fault::KillBoth(pick(one), pick(one + 1 + self.below(2))),
        }
    }
}
