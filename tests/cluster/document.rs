//! `docs/reference/failures.md` says what the rows say, and names tests that exist.

use std::path::Path;

use crate::table::{PAIR, QUORUM, Row, Shown};

#[test]
fn the_page_on_failures_is_the_tables_of_the_tests() {
    let page = read("docs/reference/failures.md");
    let quorum: Vec<_> = QUORUM.iter().map(|row| line(row, &row.writes.to_string())).collect();
    let pair: Vec<_> = PAIR.iter().map(|pair| line(&pair.row, &pair.writes())).collect();
    for (begin, expected) in [("| a", quorum), ("| p", pair)] {
        let found: Vec<_> = page.lines().filter(|line| line.starts_with(begin)).collect();
        assert_eq!(found, expected, "\nthe page should have:\n\n{}\n", expected.join("\n"));
    }
}

#[test]
fn every_row_names_a_test_that_exists() {
    let pairs = PAIR.iter().map(|pair| (&pair.row, "tests/cluster/pairs.rs"));
    let rows = QUORUM.iter().map(|row| (row, "tests/cluster/quorum.rs")).chain(pairs);
    for (row, file) in rows {
        let Shown::Here(name) = row.shown else { continue };
        let tests = read(file);
        let (_, test) = tests
            .split_once(&format!("async fn {name}()"))
            .unwrap_or_else(|| panic!("there is no {name}"));
        let test = test.split("#[tokio::test]").next().unwrap_or_default();
        let is_named = name.split_inclusive('_').any(|part| part == format!("{}_", row.id));
        assert!(is_named, "{name} shows {}", row.id);
        assert!(test.contains(&format!(".shows(\"{}\")", row.id)), "{name} judges {}", row.id);
    }
}

fn line(row: &Row, writes: &str) -> String {
    let Row { id, event, address, reads, registrations, users, shown, .. } = row;
    format!(
        "| {id} | {event} | {address} | {writes} | {reads} | {registrations} | {users} | {shown} |"
    )
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
