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
    /// A keeps it; B may claim it as well while it hears nobody, until it knows that it is cut off.
    Island,
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

/// One row of a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairRow {
    /// B, which learns, takes no changes until it has opened a generation of its own by the rules,
    /// and takes them there. A takes those it takes in the generation there was.
    pub(crate) opens: bool,
    pub(crate) row: Row,
}

impl PairRow {
    /// As the page calls it.
    pub(crate) fn writes(&self) -> String {
        match (self.opens, self.row.writes) {
            (false, nodes) => nodes.to_string(),
            (true, Nodes::Both) => "A; B at first none, then in a generation of its own".to_owned(),
            (true, nodes) => format!("none, then {nodes} in the next generation"),
        }
    }
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
            Self::Island => "A; B for a moment, where nobody is",
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

/// The row of that id, and whether B opens a generation in it.
pub(crate) fn row(id: &str) -> (&'static Row, bool) {
    let pairs = PAIR.iter().map(|pair| (&pair.row, pair.opens));
    let mut rows = QUORUM.iter().map(|row| (row, false)).chain(pairs);
    rows.find(|(row, _)| row.id == id).unwrap_or_else(|| panic!("there is no row {id}"))
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
    Row {
        id: "a19",
        event: "the disk of A is full",
        address: Address::Stays,
        writes: Nodes::Both,
        reads: Nodes::Both,
        registrations: Nodes::Both,
        users: Users::Nothing,
        shown: Shown::Here("a19_the_disk_of_a_is_full"),
    },
];

/// Two nodes without a witness: A votes, B learns.
pub(crate) const PAIR: &[PairRow] = &[
    PairRow {
        opens: false,
        row: Row {
            id: "p01",
            event: "the machine of B dies",
            address: Address::Stays,
            writes: Nodes::A,
            reads: Nodes::A,
            registrations: Nodes::A,
            users: Users::Nothing,
            shown: Shown::Here("p01_the_machine_of_b_dies"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p02",
            event: "A is stopped in order",
            address: Address::Moves,
            writes: Nodes::B,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::OneMove,
            shown: Shown::Here("p02_a_is_stopped_in_order"),
        },
    },
    PairRow {
        opens: true,
        row: Row {
            id: "p03",
            event: "the machine of A dies",
            address: Address::Moves,
            writes: Nodes::B,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::OneMove,
            shown: Shown::Here("p03_a_dies_and_p12_comes_back"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p04",
            event: "the machine of A dies while B lacks what A acknowledged",
            address: Address::Moves,
            writes: Nodes::None,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::OneMove,
            shown: Shown::Here("p04_a_dies_while_the_pair_is_async"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p05",
            event: "the control links are cut, B hears the advertisements of A",
            address: Address::Stays,
            writes: Nodes::A,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::Nothing,
            shown: Shown::Here("p05_the_control_links_are_cut"),
        },
    },
    PairRow {
        opens: true,
        row: Row {
            id: "p05b",
            event: "the same while B holds the address, and A votes",
            address: Address::Moves,
            writes: Nodes::B,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::Nothing,
            shown: Shown::Here("p05b_the_control_links_are_cut_and_b_holds_the_address"),
        },
    },
    PairRow {
        opens: true,
        row: Row {
            id: "p06",
            event: "A is cut off from everything",
            address: Address::Moves,
            writes: Nodes::B,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::OneMove,
            shown: Shown::Here("p06_a_is_cut_off_from_everything"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p07",
            event: "B is cut off from everything",
            address: Address::Island,
            writes: Nodes::A,
            reads: Nodes::A,
            registrations: Nodes::A,
            users: Users::Nothing,
            shown: Shown::Here("p07_b_is_cut_off_from_everything"),
        },
    },
    PairRow {
        opens: true,
        row: Row {
            id: "p08",
            event: "A and B on either side of a split, users, a gateway and Nextcloud on both",
            address: Address::Both,
            writes: Nodes::Both,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::BothServed,
            shown: Shown::Here("p08_a_split_and_p09_its_end"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p08m",
            event: "the same with `pair_policy = \"manual\"`",
            address: Address::Both,
            writes: Nodes::A,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::BothServed,
            shown: Shown::Here("p08m_a_split_under_an_operator"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p09",
            event: "the split of p08 ends",
            address: Address::Stays,
            writes: Nodes::Both,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::OneMove,
            shown: Shown::Here("p08_a_split_and_p09_its_end"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p10",
            event: "power is lost everywhere, A is back first",
            address: Address::Stays,
            writes: Nodes::None,
            reads: Nodes::A,
            registrations: Nodes::A,
            users: Users::Outage,
            shown: Shown::Here("p10_power_is_lost_and_a_is_back_first"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p11",
            event: "power is lost everywhere, B is back first",
            address: Address::Moves,
            writes: Nodes::None,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::Outage,
            shown: Shown::Here("p11_power_is_lost_and_b_is_back_first"),
        },
    },
    PairRow {
        opens: false,
        row: Row {
            id: "p12",
            event: "A comes back after p03",
            address: Address::Moves,
            writes: Nodes::Both,
            reads: Nodes::Both,
            registrations: Nodes::Both,
            users: Users::Nothing,
            shown: Shown::Here("p03_a_dies_and_p12_comes_back"),
        },
    },
    PairRow {
        opens: true,
        row: Row {
            id: "p13",
            event: "the machine of A dies, and its disk is lost",
            address: Address::Moves,
            writes: Nodes::B,
            reads: Nodes::B,
            registrations: Nodes::B,
            users: Users::OneMove,
            shown: Shown::Here("p13_the_disk_of_a_is_lost"),
        },
    },
];
