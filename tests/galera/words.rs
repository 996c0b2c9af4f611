//! What a real node says of itself reaches the load balancer: by each word it may get what it is
//! fit for, and nothing else.

use std::time::{Duration, Instant};

use trigon::database::connection::{Connection, ConnectionError};
use trigon::database::{Database, NodeReport, Report};
use trigon::secret::Secret;

use crate::block_on;
use crate::cluster::{Db, Galera, PASSWORD};

const LIMIT: Duration = Duration::from_secs(30);

/// The timer of galera that a test changes, and what it is otherwise.
const TIMER: (&str, &str) = ("evs.suspect_timeout", "PT5S");

/// Says each word at a node that does not write, and then one at the writer. All nodes are well
/// before and after.
pub(crate) fn are_heard(galera: &Galera, front: &Database) {
    let writes = writer(&front.report()).expect("somebody writes");
    let reader = galera.nodes.iter().find(|node| node.name != writes).unwrap();
    // What is set, and the reason, and whether it may still be written to and read from.
    for (variable, (on, off), reason, fit) in [
        ("wsrep_reject_queries", ("ALL", "NONE"), "rejecting", (false, false)),
        ("wsrep_desync", ("ON", "OFF"), "desynced", (true, true)),
        ("read_only", ("ON", "OFF"), "read_only", (false, true)),
    ] {
        let is_heard = |node: &NodeReport| {
            let word = node.reason.as_ref().map(|(word, _)| word.as_str());
            word == Some(reason) && (node.writes, node.reads) == fit
        };
        reader.sql(&format!("SET GLOBAL {variable} = {on}"));
        until(front, variable, |report| is_heard(of(report, reader)));
        assert_eq!(writer(&front.report()).as_deref(), Some(&*writes), "{variable}");
        reader.sql(&format!("SET GLOBAL {variable} = {off}"));
        until(front, variable, |report| of(report, reader).reason.is_none());
    }

    let (timer, usual) = TIMER;
    let set = |value| {
        reader.sql(&format!("SET GLOBAL wsrep_provider_options = '{timer}={value}'"));
    };
    set("PT2S");
    until(front, "timers differ", |report| report.mismatches == [timer]);
    assert!(front.report().to_string().contains(timer));
    set(usual);
    until(front, "timers are alike", |report| report.mismatches.is_empty());

    let old = galera.nodes.iter().find(|node| node.name == writes).unwrap();
    old.sql("SET GLOBAL read_only = ON");
    until(front, "another writes", |report| writer(report).is_some_and(|now| now != writes));
    old.sql("SET GLOBAL read_only = OFF");
    until(front, "all are well", |report| report.nodes.iter().all(|node| node.reason.is_none()));
}

/// The monitor's user may be one of the plugin MariaDB recommends.
pub(crate) fn ed25519_is_spoken(galera: &Galera) {
    let node = &galera.nodes[0];
    node.sql(&format!(
        "INSTALL SONAME 'auth_ed25519';
         CREATE USER signer@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')"
    ));
    let at = node.address();
    let told = galera.balancer.enter_thread(move || async move {
        let mut open = Connection::open(at, "signer", &Secret::new(PASSWORD)).await?;
        let rows = open.query("SELECT 'in'").await?;
        let wrong = Connection::open(at, "signer", &Secret::new("a guess")).await;
        Ok::<_, ConnectionError>((rows, wrong.err().map(|error| error.to_string())))
    });
    let (rows, wrong) = block_on(told.unwrap().result()).expect("an answer").unwrap();
    assert_eq!(rows, [["in"]]);
    assert!(wrong.is_some_and(|error| error.starts_with("error 1045")));
}

fn writer(report: &Report) -> Option<String> {
    report.writer().map(|node| node.name.clone())
}

fn of<'r>(report: &'r Report, node: &Db) -> &'r NodeReport {
    report.nodes.iter().find(|known| known.name == node.name).unwrap()
}

fn until(front: &Database, what: &str, is_so: impl Fn(&Report) -> bool) {
    let since = Instant::now();
    while !is_so(&front.report()) {
        assert!(since.elapsed() < LIMIT, "never heard: {what}\n{}", front.report());
        std::thread::sleep(Duration::from_millis(20));
    }
}
