//! Whose fault it is: the true client behind trusted proxies (contract 1.2, step 1). Each row
//! fails once on purpose, and the failure has to be found at the row's address, or not.

use crate::row::{Row, Send, get, refused, row};

fn failing() -> Send {
    get("/exapps/demo{n}/none")
}

pub(crate) fn addresses() -> Vec<Row> {
    const LEFT: &str = "the leftmost entry counts, which a visitor can choose (W6)";
    const BARE: &str = "only bare addresses are read";
    let found = |name, value: &str| {
        row(name, failing().with("X-Forwarded-For", value), refused(404)).strikes(1)
    };
    vec![
        found("one entry is the client", "{client}"),
        found("spaces around it", "  {client}  "),
        found("a trusted hop behind it is walked past", "{client}, 127.0.0.1"),
        found("what stands left of the client is the client's word", "{decoy}, {client}")
            .harp_strikes(LEFT, Some(0)),
        found("so it is with a trusted address on the left", "127.0.0.1, {client}")
            .harp_strikes(LEFT, Some(0)),
        found("a port is no obstacle", "{client}:4711").harp_strikes(BARE, Some(0)),
        found("empty entries are none", ",, {client} ,").harp_strikes(BARE, Some(0)),
        row(
            "of two lines the last ends the list",
            failing().with("X-Forwarded-For", "{decoy}").with("X-Forwarded-For", "{client}"),
            refused(404),
        )
        .strikes(1),
        row(
            "trusted hops on a line of their own",
            failing().with("X-Forwarded-For", "{client}").with("X-Forwarded-For", "127.0.0.1"),
            refused(404),
        )
        .strikes(1)
        .harp_strikes("only the last line is read (W6)", Some(0)),
        row(
            "unreadable: X-Real-IP",
            failing().all(&[("X-Forwarded-For", "unknown"), ("X-Real-IP", "{client}")]),
            refused(404),
        )
        .strikes(1),
        row(
            "readable: not X-Real-IP",
            failing().all(&[("X-Forwarded-For", "{decoy}"), ("X-Real-IP", "{client}")]),
            refused(404),
        ),
        row(
            "Forwarded is not read",
            failing().all(&[("X-Forwarded-For", "{decoy}"), ("Forwarded", "for={client}")]),
            refused(404),
        ),
    ]
}
