//! The cluster crate in a world of its own: real nodes on simulated hosts whose network, disks,
//! clocks and dice obey one seed.
//!
//! `cargo test -p cluster --test simulation` runs the seeds of every commit. After `--`:
//!
//! - `--seeds N` runs N of them, `--first S` begins with another than 0;
//! - `--seed S` runs one and tells its story;
//! - one of `checker` (the judge of histories), `repeats` (a seed repeats itself), `seeds` and
//!   `mutants` (deliberate errors are found) does only that.
//!
//! A failing seed prints what happened and how to see it again. Words that name nothing here run
//! nothing, so that a filter meant for other tests does no harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the report of this program")]

mod admissions;
mod air;
mod checker;
mod draw;
mod faults;
mod founding;
mod history;
mod host;
#[path = "../common/linearizability.rs"]
mod linearizability;
mod mutants;
mod network;
mod oracle;
mod pledges;
mod renewal;
mod run;
mod site;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cluster::Role;
use run::{Failed, Profile, run};

/// Seeds of every commit: some five minutes on the two cores of CI.
const SEEDS: u64 = 300;

/// A seed takes a second or two. One that takes this long does not end: something in it goes on
/// and on without time passing.
const ENDLESS: Duration = Duration::from_secs(180);

/// CI has two cores.
const THREADS: usize = 2;

/// Seeds that are run twice: some as they are, some with a pair, some where members come and go,
/// some where a machine is replaced.
const REPEATED: u64 = 8;

struct Options {
    seeds: Option<u64>,
    first: u64,
    seed: Option<u64>,
    wanted: Vec<String>,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { seeds: None, first: 0, seed: None, wanted: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
                text.parse().map_err(|_| format!("{word} {text}: not a number"))
            };
            match word.as_str() {
                "--seeds" => options.seeds = Some(number()?),
                "--first" => options.first = number()?,
                "--seed" => options.seed = Some(number()?),
                "--skip" | "--test-threads" | "--color" | "--format" => {
                    words.next();
                }
                flag if flag.starts_with('-') => {}
                name => options.wanted.push(name.to_owned()),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }
}

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.seed {
        return match run(seed, Profile::default()) {
            Ok(passed) => {
                println!("seed {seed}: {} answers, trace {:016x}", passed.answered, passed.trace);
                ExitCode::SUCCESS
            }
            Err(failed) => {
                report(seed, &failed);
                ExitCode::FAILURE
            }
        };
    }
    // A run that panics tells so itself; with `--seed` the place is shown as well.
    std::panic::set_hook(Box::new(|_| {}));
    let parts: [(&str, &dyn Fn() -> bool); 4] = [
        ("checker", &checker::checker),
        ("repeats", &repeats),
        ("seeds", &|| seeds(options.first, options.seeds.unwrap_or(SEEDS))),
        ("mutants", &|| mutants::mutants(options.seeds.unwrap_or(mutants::SEEDS))),
    ];
    let mut sound = true;
    for (name, part) in parts {
        sound &= !options.wants(name) || part();
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same seed gives the same run, bit for bit, on whatever thread.
fn repeats() -> bool {
    let traces = || {
        let seeds = 0..REPEATED;
        let trace = |seed| {
            let pair: &[Role] = &[Role::Node, Role::Node];
            let three: &[Role] = &[Role::Node, Role::Node, Role::Witness];
            let profile = match seed % 4 {
                0 => Profile::default(),
                1 => Profile { roles: Some(pair), ..Profile::default() },
                2 => Profile {
                    roles: Some(three),
                    admits: Some(false),
                    renews: Some(true),
                    ..Profile::default()
                },
                _ => Profile { admits: Some(true), ..Profile::default() },
            };
            run(seed, profile).map(|passed| passed.trace).ok()
        };
        seeds.map(trace).collect::<Vec<_>>()
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(traces);
        (traces(), other.join().unwrap())
    });
    let same = first == second;
    println!("simulation: {REPEATED} seeds twice: {}", if same { "same" } else { "DIFFERENT" });
    if !same {
        println!("{first:x?}\n{second:x?}");
    }
    same
}

fn seeds(first: u64, count: u64) -> bool {
    let begun = Instant::now();
    let (next, answered, renewed) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let end = first.saturating_add(count);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || failures.len() >= 3 {
                return failures;
            }
            match guarded(seed) {
                Ok(passed) => {
                    answered.fetch_add(passed.answered as u64, Ordering::Relaxed);
                    renewed.fetch_add(u64::from(passed.renewed), Ordering::Relaxed);
                }
                Err(failed) => {
                    println!("seed {seed} fails");
                    failures.push((seed, failed));
                }
            }
        }
    };
    let mut failures: Vec<(u64, Failed)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    failures.sort_by_key(|(seed, _)| *seed);
    for (seed, failed) in &failures {
        report(*seed, failed);
    }
    println!(
        "simulation: {} seeds of a minute, {} answers, {} machines replaced, {} failed, {:.0} s",
        count,
        answered.into_inner(),
        renewed.into_inner(),
        failures.len(),
        begun.elapsed().as_secs_f64()
    );
    failures.is_empty()
}

/// Runs a seed, and ends the whole program if the seed does not end.
fn guarded(seed: u64) -> Result<run::Passed, Failed> {
    let (ended, watched) = channel::<()>();
    std::thread::spawn(move || {
        if watched.recv_timeout(ENDLESS) == Err(RecvTimeoutError::Timeout) {
            println!("seed {seed} does not end: its virtual time stands still");
            println!("see it again: cargo test -p cluster --test simulation -- --seed {seed}");
            std::process::exit(1);
        }
    });
    let outcome = run(seed, Profile::default());
    drop(ended);
    outcome
}

fn report(seed: u64, failed: &Failed) {
    for line in &failed.story {
        println!("{line}");
    }
    println!("seed {seed}: {}", failed.why);
    println!("see it again: cargo test -p cluster --test simulation -- --seed {seed}\n");
}
