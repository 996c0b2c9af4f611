//! The tests of the state machine notice errors: each deliberate one is caught by a row of the table
//! or within so many runs of the simulation, and the machine without any passes the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/oracle.rs"]
mod oracle;
#[path = "common/rows.rs"]
mod rows;

use vrrp::mutation::{Mutation, with};

/// Runs of the simulation for each mutation.
const SEEDS: u64 = 300;

fn caught_by_table() -> Option<String> {
    let setups = rows::setups();
    setups.iter().find_map(|setup| setup.rows().iter().find_map(|row| setup.check(row).err()))
}

fn caught_by_simulation() -> Option<String> {
    (0..SEEDS).find_map(|seed| oracle::run(seed).err())
}

#[test]
fn nothing_is_caught_where_nothing_is_mutated() {
    assert_eq!(caught_by_table(), None);
    assert_eq!(caught_by_simulation(), None);
}

#[test]
fn every_mutation_is_caught() {
    let escapes = |mutation: &Mutation| {
        with(*mutation, || caught_by_table().or_else(caught_by_simulation).is_none())
    };
    let escaped: Vec<_> = Mutation::ALL.into_iter().filter(escapes).collect();
    assert_eq!(escaped, []);
}

/// What several routers do to each other is not left to the table.
#[test]
fn the_simulation_alone_catches_most() {
    let unseen: Vec<_> = Mutation::ALL
        .into_iter()
        .filter(|mutation| with(*mutation, caught_by_simulation).is_none())
        .collect();
    let only_in_the_table = [
        Mutation::SkewIgnored,
        Mutation::FarewellUnanswered,
        Mutation::LosingUnanswered,
        Mutation::AddressesBeforeAdvertisement,
        Mutation::EchoHeard,
        Mutation::SleepIgnored,
        Mutation::OpinionIgnored,
    ];
    assert_eq!(unseen, only_in_the_table);
}
