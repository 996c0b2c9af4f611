//! `docs/reference/failures.md` says what the rows say, and names tests that exist.

use std::path::Path;

use crate::table::{QUORUM, Row, Shown};

#[test]
fn the_page_on_failures_is_the_table_of_the_tests() {
    let page = read("docs/reference/failures.md");
    let found: Vec<_> = page.lines().filter(|line| line.starts_with("| a")).collect();
    let expected: Vec<_> = QUORUM.iter().map(line).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    assert_eq!(found, expected, "\nthe page should have:\n\n{}\n", expected.join("\n"));
}

#[test]
fn every_row_names_a_test_that_exists() {
    let tests = read("tests/cluster/quorum.rs");
    for row in QUORUM {
        let Shown::Here(name) = row.shown else { continue };
        assert!(tests.contains(&format!("async fn {name}()")), "{name}");
        assert!(name.starts_with(&format!("{}_", row.id)), "{name} shows {}", row.id);
        assert!(tests.contains(&format!(".shows(\"{}\")", row.id)), "{name} judges its row");
    }
}

fn line(row: &Row) -> String {
    let Row { id, event, address, writes, reads, registrations, users, shown } = row;
    format!(
        "| {id} | {event} | {address} | {writes} | {reads} | {registrations} | {users} | {shown} |"
    )
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
