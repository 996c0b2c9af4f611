//! What an operator may expect of each failure: the rows of `docs/reference/failures.md`, and what
//! the tests assert. One source for both: [`judge`](crate::judge) holds a place against a row,
//! [`document`](crate::document) holds the page against the rows.
//!
//! In every row node A holds the address at first, and leads. Columns describe the time while the
//! failure lasts, once it has had its effect.

use std::fmt;

/// Nodes by name. `A and B` is each of them by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    None,
    A,
    B,
    Both,
}

/// Who holds the virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A keeps it: no virtual router changes its state.
    Stays,
    /// B alone has it, and A, if it runs, has let go.
    Moves,
    /// Each side has it.
    Both,
}

/// What somebody sees who uses an ExApp through the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    /// Not one request fails.
    Nothing,
    /// Requests fail or wait until the address and the tunnel are back, and none does after that.
    OneMove,
    /// Both sides of a split are served by their own node.
    BothServed,
    /// Pages for everybody go on; those for users go on as long as their session is remembered.
    PublicOnly,
    /// Nothing answers before the first node has started.
    Outage,
}

/// What shows that a row is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The test of this name in `tests/cluster`.
    Here(&'static str),
    /// It cannot be made with processes on one machine; this says why, and what shows it instead.
    Elsewhere(&'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// As the tests are named: `a08`, `p05b`.
    pub(crate) id: &'static str,
    pub(crate) event: &'static str,
    pub(crate) address: Address,
    /// Where a durable change is confirmed; a node that runs and is not named refuses it.
    pub(crate) writes: Nodes,
    /// Who routes, with what it knows.
    pub(crate) reads: Nodes,
    /// Where a tunnel client can register.
    pub(crate) registrations: Nodes,
    pub(crate) users: Users,
    pub(crate) shown: Shown,
}

impl Nodes {
    pub(crate) fn has_a(self) -> bool {
        matches!(self, Self::A | Self::Both)
    }

    pub(crate) fn has_b(self) -> bool {
        matches!(self, Self::B | Self::Both)
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::A => "A",
            Self::B => "B",
            Self::Both => "A and B",
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stays => "A",
            Self::Moves => "B",
            Self::Both => "A and B, each on its side",
        })
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::OneMove => "one short move",
            Self::BothServed => "both sides are served",
            Self::PublicOnly => "pages for everybody; users while their session is remembered",
            Self::Outage => "an outage until the first node has started",
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(test) => write!(f, "`{test}`"),
            Self::Elsewhere(why) => f.write_str(why),
        }
    }
}

/// The row of that id.
pub(crate) fn row(id: &str) -> &'static Row {
    let found = QUORUM.iter().find(|row| row.id == id);
    found.unwrap_or_else(|| panic!("there is no row {id}"))
}

/// Two nodes and a witness.
pub(crate) const QUORUM: &[Row] = &[
    Row {
        id: "a01",
        event: "the process of A is killed, and started again 2 s later",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a01_the_process_of_a_is_killed"),
    },
    Row {
        id: "a02",
        event: "the machine of A dies",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a02_the_machine_of_a_dies"),
    },
    Row {
        id: "a03",
        event: "A is stopped in order",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a03_a_is_stopped_in_order"),
    },
    Row {
        id: "a04",
        event: "the machine of B dies",
        address: Address::Stays,
        writes: Nodes::A,
        reads: Nodes::A,
        registrations: Nodes::A,
        users: Users::Nothing,
        shown: Shown::Here("a04_the_machine_of_b_dies"),
    },
    Row {
        id: "a05",
        event: "the machine of the witness dies",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Here("a05_the_witness_dies"),
    },
    Row {
        id: "a06",
        event: "the machines of A and of the witness die",
        address: Address::Moves,
        writes: Nodes::None,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a06_a_and_the_witness_die"),
    },
    Row {
        id: "a07",
        event: "the machines of B and of the witness die",
        address: Address::Stays,
        writes: Nodes::None,
        reads: Nodes::A,
        registrations: Nodes::A,
        users: Users::Nothing,
        shown: Shown::Here("a07_b_and_the_witness_die"),
    },
    Row {
        id: "a08",
        event: "the control links of A are cut, its advertisements arrive, `preempt = true`",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::OneMove,
        shown: Shown::Here("a08_the_control_links_of_a_are_cut"),
    },
    Row {
        id: "a09",
        event: "advertisements of A and B do not reach each other, the control links do",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Here("a09_the_segment_of_the_address_is_cut"),
    },
    Row {
        id: "a10",
        event: "A is cut off from everything",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a10_a_is_cut_off_from_everything"),
    },
    Row {
        id: "a11",
        event: "A on one side, B and the witness on the other, users and a gateway on both",
        address: Address::Both,
        writes: Nodes::B,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::BothServed,
        shown: Shown::Here("a11_a_full_split_with_users_on_both_sides"),
    },
    Row {
        id: "a12",
        event: "the link between A and the witness is cut",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Here("a12_the_link_between_a_and_the_witness_is_cut"),
    },
    Row {
        id: "a13",
        event: "nothing A sends on its control links arrives, `preempt = true`",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::OneMove,
        shown: Shown::Here("a13_nothing_a_sends_on_its_control_links_arrives"),
    },
    Row {
        id: "a14",
        event: "the disk of A answers nothing",
        address: Address::Stays,
        writes: Nodes::B,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Here("a14_the_disk_of_a_stalls"),
    },
    Row {
        id: "a15",
        event: "the disk of A fails",
        address: Address::Moves,
        writes: Nodes::B,
        reads: Nodes::B,
        registrations: Nodes::B,
        users: Users::OneMove,
        shown: Shown::Here("a15_the_disk_of_a_fails"),
    },
    Row {
        id: "a16",
        event: "the clock of A jumps by an hour",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Elsewhere(
            "the clock of one process cannot be set; the simulation of `cluster` jumps clocks",
        ),
    },
    Row {
        id: "a17",
        event: "every Nextcloud is down",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::PublicOnly,
        shown: Shown::Here("a17_every_nextcloud_is_down"),
    },
    Row {
        id: "a18",
        event: "power is lost everywhere, A is back first",
        address: Address::Stays,
        writes: Nodes::None,
        reads: Nodes::A,
        registrations: Nodes::A,
        users: Users::Outage,
        shown: Shown::Here("a18_power_is_lost_everywhere"),
    },
];
