//! Ten failures within the window are a ban (contract 1.2, step 2, and 1.6).

use crate::judge::BAN;
use crate::row::{Row, dropped, get, reached, refused, row, status, story};

/// An address with this many failures.
fn after(failures: usize, name: &'static str) -> Row {
    (0..failures).fold(story(name), |row, _| row.then(get("/exapps/demo{n}/none"), refused(404)))
}

pub(crate) fn bans() -> Vec<Row> {
    vec![
        after(BAN - 1, "nine failures are no ban")
            .then(get("/exapps/demo{n}/public"), reached("/public"))
            .strikes(BAN - 1),
        after(BAN, "ten are").then(get("/exapps/demo{n}/public"), dropped()).strikes(BAN),
        after(BAN, "a ban covers every ExApp")
            .then(get("/exapps/open{n}/x"), dropped())
            .strikes(BAN),
        after(BAN, "and every session")
            .then(get("/exapps/demo{n}/public").session("admin"), dropped().asked(0, 0))
            .strikes(BAN),
        after(BAN, "and the control API without the key")
            .then(get("/exapps/app_api/info"), dropped())
            .strikes(BAN),
        after(BAN, "another address is not meant")
            .then(
                get("/exapps/demo{n}/public").with("X-Forwarded-For", "{decoy}"),
                reached("/public"),
            )
            .strikes(BAN),
        story("failures of every kind add up")
            .then(get("/exapps/demo{n}/none"), refused(404))
            .then(get("/exapps/demo{n}/../x"), dropped())
            .then(get("/exapps/demo{n}/admin"), refused(403))
            .then(get("/exapps/app_api/info"), refused(401))
            .then(get("/exapps/demo{n}/init"), dropped())
            .then(get("/nothing"), refused(404))
            .strikes(6),
    ]
}

/// One address may hide Nextcloud and all its visitors (weakness W7).
pub(crate) fn key_holders() -> Vec<Row> {
    const ALL: &str = "a ban keeps out the holders of the key too (W7)";
    vec![
        after(BAN, "a banned address with the right key reaches the control API")
            .then(get("/exapps/app_api/info").key(), status(200))
            .harp(ALL, dropped())
            .strikes(BAN),
        after(BAN, "and its signed requests reach the ExApp")
            .then(get("/exapps/demo{n}/heartbeat").signed(), reached("/heartbeat"))
            .harp(ALL, dropped())
            .strikes(BAN),
    ]
}

/// A customer owns a whole network of addresses (weakness W7).
pub(crate) fn networks() -> Vec<Row> {
    let from = |host: usize, path: &str| {
        get(path).with("X-Forwarded-For", &format!("{{network}}:1:2:3:{host:x}"))
    };
    let failed = (0..BAN)
        .fold(story("ten failures from one IPv6 network are a ban of it"), |row, host| {
            row.then(from(host, "/exapps/demo{n}/none"), refused(404))
        });
    vec![
        failed
            .then(from(99, "/exapps/demo{n}/public"), dropped())
            .harp("IPv6 addresses are counted one by one", reached("/public"))
            .strikes_unmeasured(),
    ]
}

pub(crate) fn response_statuses() -> Vec<Row> {
    let passes = |code: u16, target: &str| reached(target).status(code).body("as you wish\n");
    vec![
        row(
            "a listed status counts, and arrives unchanged",
            get("/exapps/listed{n}/status/401"),
            passes(401, "/status/401"),
        )
        .strikes(1),
        row(
            "the list is the matched route's",
            get("/exapps/listed{n}/status/403"),
            passes(403, "/status/403"),
        )
        .strikes(1),
        row(
            "another route's list is not",
            get("/exapps/listed{n}/status/429"),
            passes(429, "/status/429"),
        ),
        row(
            "an unlisted status costs nothing",
            get("/exapps/listed{n}/status/500"),
            passes(500, "/status/500"),
        ),
        row(
            "without a list none does",
            get("/exapps/demo{n}/status/401"),
            passes(401, "/status/401"),
        ),
        row(
            "our own refusals do not come from the ExApp",
            get("/exapps/listed{n}/x").session("disabled"),
            refused(403),
        )
        .strikes(1),
    ]
}
