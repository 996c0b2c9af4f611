//! The judge is judged: histories whose verdict is known.

use crate::linearizability::{Operation, Record, RecordAnswer, RecordCall, Verdict, check};

use RecordAnswer::{Done, Nothing, Value};
use RecordCall::{Delete, Read, Refresh, Write};

type Line = (u64, RecordCall, Option<(u64, RecordAnswer)>);

/// Whether the checker tells good histories from bad ones.
pub(crate) fn checker() -> bool {
    let wrong: Vec<_> = TABLE.iter().filter(|(_, good, lines)| verdict(lines) != *good).collect();
    for (name, ..) in &wrong {
        println!("checker: wrong about {name:?}");
    }
    println!("simulation: {} known histories, {} misjudged", TABLE.len(), wrong.len());
    wrong.is_empty()
}

fn verdict(lines: &[Line]) -> bool {
    let operation = |(called, call, answered): &Line| Operation {
        called: *called,
        call: *call,
        answered: *answered,
    };
    let history: Vec<_> = lines.iter().map(operation).collect();
    check::<Record>(&history) == Verdict::Linearizable
}

/// Name, whether some order explains it, and the calls with the times of their ends.
const TABLE: &[(&str, bool, &[Line])] = &[
    ("nothing happened", true, &[]),
    (
        "what was written is read",
        true,
        &[(1, Write(1), Some((2, Done))), (3, Read, Some((4, Value(Some(1)))))],
    ),
    (
        "a confirmed write is lost",
        false,
        &[(1, Write(1), Some((2, Done))), (3, Read, Some((4, Value(None))))],
    ),
    (
        "an unknown write may have happened",
        true,
        &[(1, Write(1), None), (3, Read, Some((4, Value(Some(1)))))],
    ),
    ("or not", true, &[(1, Write(1), None), (3, Read, Some((4, Value(None))))]),
    (
        "or later",
        true,
        &[
            (1, Write(1), None),
            (3, Read, Some((4, Value(None)))),
            (5, Read, Some((6, Value(Some(1))))),
        ],
    ),
    (
        "but once only",
        false,
        &[
            (1, Write(1), None),
            (2, Read, Some((3, Value(Some(1))))),
            (4, Write(2), Some((5, Done))),
            (6, Read, Some((7, Value(Some(1))))),
        ],
    ),
    (
        "and never before it was called",
        false,
        &[(1, Read, Some((2, Value(Some(1))))), (3, Write(1), None)],
    ),
    (
        "writes at one time come in either order",
        true,
        &[
            (1, Write(1), Some((9, Done))),
            (2, Write(2), Some((8, Done))),
            (10, Read, Some((11, Value(Some(1))))),
        ],
    ),
    (
        "but in one",
        false,
        &[
            (1, Write(1), Some((9, Done))),
            (2, Write(2), Some((8, Done))),
            (10, Read, Some((11, Value(Some(1))))),
            (12, Read, Some((13, Value(Some(2))))),
        ],
    ),
    (
        "an older value comes back",
        false,
        &[
            (1, Write(1), Some((2, Done))),
            (3, Write(2), Some((4, Done))),
            (5, Read, Some((6, Value(Some(1))))),
        ],
    ),
    (
        "two deletes of one record both succeed",
        false,
        &[
            (1, Write(1), Some((2, Done))),
            (3, Delete, Some((4, Done))),
            (5, Delete, Some((6, Done))),
        ],
    ),
    (
        "a delete finds nothing that was confirmed",
        false,
        &[(1, Write(1), Some((2, Done))), (3, Delete, Some((4, Nothing)))],
    ),
    (
        "a refresh of what was replaced",
        false,
        &[
            (1, Write(1), Some((2, Done))),
            (3, Write(2), Some((4, Done))),
            (5, Refresh { written: 1, value: 3 }, Some((6, Done))),
        ],
    ),
    (
        "a refresh keeps the write it is of",
        true,
        &[
            (1, Write(1), Some((2, Done))),
            (3, Refresh { written: 1, value: 3 }, Some((4, Done))),
            (5, Refresh { written: 1, value: 4 }, Some((6, Done))),
            (7, Read, Some((8, Value(Some(4))))),
        ],
    ),
    (
        "a refresh is refused because of an unknown write",
        true,
        &[
            (1, Write(1), Some((2, Done))),
            (3, Write(2), None),
            (5, Refresh { written: 1, value: 3 }, Some((6, Nothing))),
        ],
    ),
];
