//! The simulation notices errors: each deliberate one is found within so many seeds.
//!
//! Every mutant gets the trouble that can bring it to light, and most die in the first seeds;
//! that is what makes this affordable in every test run. A seed counts only if the same run without
//! the error is sound.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::Role;
use cluster::mutation::{Mutation, with};

use crate::THREADS;
use crate::faults::Kind;
use crate::run::{Profile, run};

/// Seeds within which each has to be found.
pub(crate) const SEEDS: u64 = 1_000;

/// Whether every mutant was found.
pub(crate) fn mutants(seeds: u64) -> bool {
    let (next, escaped) = (AtomicUsize::new(0), Mutex::new(0));
    let hunt = || {
        while let Some(mutation) = Mutation::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let profile = profile(*mutation);
            let found = (0..seeds).find_map(|seed| {
                let failed = with(*mutation, || run(seed, profile)).err()?;
                match run(seed, profile) {
                    Ok(_) => Some((seed, failed.why)),
                    Err(anyway) => {
                        println!(
                            "mutant {mutation:?}: seed {seed} fails anyway: {:.160}",
                            anyway.why
                        );
                        None
                    }
                }
            });
            match found {
                Some((seed, why)) => println!("mutant {mutation:?}: seed {seed}: {why:.160}"),
                None => {
                    println!("mutant {mutation:?}: NOT FOUND in {seeds} seeds");
                    *escaped.lock().unwrap() += 1;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(hunt);
        }
    });
    let escaped = escaped.into_inner().unwrap();
    println!("simulation: {} mutants, {escaped} not found", Mutation::ALL.len());
    escaped == 0
}

fn profile(mutation: Mutation) -> Profile {
    let three: &[Role] = &[Role::Node, Role::Node, Role::Node];
    let kinds: &[Kind] = match mutation {
        Mutation::VoteNotSynced
        | Mutation::AppendNotSynced
        | Mutation::CommittedForgotten
        | Mutation::StartsNotCounted => &[Kind::Crash],
        Mutation::SnapshotEmpty => &[Kind::Restart],
        Mutation::RepeatsApplied => &[Kind::Tear, Kind::Slow],
        Mutation::ConfirmedEarly | Mutation::QuorumNotAsked => &[Kind::Isolate],
        Mutation::LostLogTakesPart => &[Kind::Wipe],
        Mutation::OwnWriteNotAwaited => &[Kind::Slow],
        Mutation::WitnessKeepsLeading => &[Kind::Isolate],
        Mutation::SessionByWallClock => &[Kind::Clock, Kind::Isolate],
        Mutation::GroupNotChecked => &[Kind::Crash, Kind::Split],
        Mutation::PromotedAtOnce | Mutation::BanShortened => &[Kind::Split],
        Mutation::NumberTwice | Mutation::TokenNotSpent | Mutation::LearnerVotes => &[],
    };
    let roles: &[Role] = match mutation {
        Mutation::WitnessKeepsLeading => &[Role::Node, Role::Node, Role::Witness],
        Mutation::GroupNotChecked
        | Mutation::PromotedAtOnce
        | Mutation::BanShortened
        | Mutation::LearnerVotes => &[Role::Node, Role::Node][..],
        _ => three,
    };
    let pause_ms = match mutation {
        // Somebody has to lead when it is cut off.
        Mutation::QuorumNotAsked | Mutation::WitnessKeepsLeading => Some(8_000),
        // Answers have to get lost on their way.
        Mutation::RepeatsApplied => Some(500),
        _ => None,
    };
    let admits = Some(matches!(mutation, Mutation::NumberTwice | Mutation::TokenNotSpent));
    Profile { kinds: Some(kinds), roles: Some(roles), pause_ms, admits, renews: None }
}
