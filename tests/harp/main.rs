//! HaRP's contract as a table: requests on the wire, and what the client, the ExApp and Nextcloud
//! saw of them.
//!
//! Without further settings the rows meet a real `trigon run`. With these they meet any server
//! that speaks HaRP's contract:
//!
//! | variable | meaning |
//! |---|---|
//! | `TRIGON_SUBJECT` | `http://address:port` of the server |
//! | `TRIGON_SUBJECT_KIND` | `trigon` (the default), or `harp` to expect the original's answers where a row says they differ |
//! | `TRIGON_SUBJECT_KEY` | the shared key it was started with (default `a-shared-key-for-tests`) |
//! | `TRIGON_SUBJECT_NEXTCLOUD` | `address:port` the suite's Nextcloud has to listen on: the server's `NC_INSTANCE_URL` |
//! | `TRIGON_SUBJECT_EXAPP` | `address:port` the suite's ExApp has to listen on; the records name it |
//!
//! Such a server trusts the address the suite comes from as a proxy (`HP_TRUSTED_PROXY_IPS`) and
//! keeps sessions for ten seconds (`HP_SESSION_LIFETIME=10`); all else is HaRP's default. A Trigon
//! takes loopback records for tunnels: give it an ExApp on another address, or a stock frpc.
//!
//! `row` says what a row is and what its placeholders mean, `rows` holds them, `judge` runs them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and tells which rows do not hold"
)]

#[path = "../support/mod.rs"]
mod support;

mod judge;
mod row;
mod rows;
mod stage;
mod subject;
mod wire;

use judge::{hold, hold_to};
use row::Row;
use rows::{
    bans, clients, control, decision, engine, headers, malformed, nextcloud, paths, routes,
    sessions, signed, storage, streams,
};
use subject::Subject;

/// A test for each table; the list feeds the count below.
macro_rules! tables {
    ($($name:ident: $($rows:expr),+;)*) => {
        $(#[tokio::test]
        async fn $name() {
            hold(stringify!($name), [$($rows),+].into_iter().flatten().collect()).await;
        })*

        fn every_row() -> Vec<Row> {
            [$($($rows),+),*].into_iter().flatten().collect()
        }
    };
}

tables! {
    paths_and_ids: paths::parent_segments(), paths::ids(), paths::targets();
    levels_and_credentials: decision::levels(), decision::credentials();
    internal_endpoints_and_methods: decision::internal_endpoints(), decision::methods();
    route_patterns: routes::patterns();
    signed_requests: signed::known(), signed::announced(), signed::broken();
    headers_towards_the_exapp: headers::towards_the_exapp();
    bans_and_listed_statuses: bans::bans(), bans::response_statuses();
    remembered_sessions: sessions::remembered();
    answers_of_nextcloud: nextcloud::records(), nextcloud::refusals(), nextcloud::caches();
    the_control_api: control::general();
    pushed_records: storage::pushes();
    docker_calls_without_an_engine: engine::ports(), engine::bodies();
    calls_passed_to_an_engine: engine::passthrough();
    kubernetes_is_off: engine::kubernetes();
    malformed_requests: malformed::heads(), malformed::targets(), malformed::lengths(), malformed::strangers();
    sizes_of_heads: malformed::sizes();
    bodies_and_upgrades: streams::bodies(), streams::upgrades();
    w03_exapps_never_see_the_shared_key: headers::secrets();
    w05_a_wrong_key_is_charged_to_the_client: signed::wrong_keys();
    w06_the_true_client_is_found_from_the_right: clients::addresses();
    w07_a_ban_spares_the_holders_of_the_key: bans::key_holders();
    w07_an_ipv6_network_is_one_client: bans::networks();
    w08_only_the_whole_key_is_the_key: control::keys();
    w09_encoded_paths_meet_the_stricter_route: paths::encoded();
    w10_a_pattern_that_would_not_end_decides_nothing: routes::pathological();
    w11_another_session_under_one_passphrase_is_asked_about: sessions::mixed_up();
    w13_bytes_beyond_ascii_are_bytes: headers::beyond_ascii();
    w14_nextcloud_is_told_only_what_identifies_a_visitor: headers::towards_nextcloud();
    w15_an_ill_nextcloud_punishes_nobody: nextcloud::failures();
    w16_newer_facts_replace_a_record: signed::stale(), storage::removals();
    w19_a_name_leads_nowhere_else: engine::names();
    w20_an_absent_exapp_is_told_at_once: streams::absent();
    w21_a_body_may_have_sixteen_mebibytes: storage::sizes();
    w22_a_malformed_body_is_the_callers_fault: storage::malformed();
}

/// At the level that tells most; the log of every other subject is read as well when it ends.
#[tokio::test]
async fn w02_the_log_tells_no_secret_at_any_level() {
    let visitor = || row::get("/exapps/demo{n}/user");
    let rows = vec![
        row::row("a session", visitor().session("alice"), row::reached("/user")),
        row::row(
            "a password",
            visitor().with("authorization", "Basic {basic:alice:password-of-alice-{n}}"),
            row::reached("/user"),
        ),
        row::row("a signature", row::get("/exapps/demo{n}/x").signed(), row::reached("/x")),
    ];
    let subject = Subject::start().await;
    hold_to(&subject, "w02", rows).await;
    if let Some(log) = subject.log() {
        assert!(log.contains("trigon::access"), "the log tells of requests");
    }
}

/// HaRP keeps everything in one process and forgets it with the process.
#[tokio::test]
async fn w01_a_restart_forgets_no_record() {
    let mut subject = Subject::start().await;
    if subject.is_foreign() {
        return;
    }
    let (before, after) = storage::over_a_restart();
    hold_to(&subject, "w01", vec![before]).await;
    subject.restart().await;
    hold_to(&subject, "w01, restarted", vec![after]).await;
}

/// HaRP goes on with the configuration it generated at its first start.
#[tokio::test]
async fn w23_the_file_of_this_start_is_in_force() {
    let mut subject = Subject::start().await;
    if subject.is_foreign() {
        return;
    }
    subject.configure("ban_count", "2");
    subject.restart().await;
    let none = || row::get("/exapps/app_api/info");
    let banned = row::story("two failures are a ban now")
        .then(none(), row::refused(401))
        .then(none(), row::refused(401))
        .then(none(), row::dropped())
        .strikes_unmeasured();
    hold_to(&subject, "w23", vec![banned]).await;
}

#[test]
fn the_table_has_two_hundred_rows_with_names_of_their_own() {
    let rows = every_row();
    let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
    assert!(names.len() >= 200, "{}", names.len());
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let differing = rows.iter().filter(|row| row.harp_differs.is_some()).count();
    let kept = rows.iter().filter(|row| row.harp_skipped.is_some()).count();
    eprintln!("{} rows, HaRP differs in {differing} and is spared {kept}", names.len());
}
