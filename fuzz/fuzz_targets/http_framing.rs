//! The scanner that notices a head with two lengths: it sees them however the head is cut behind
//! its request line, and any bytes at all are read to their end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::http::framing::Scanner;

const LINE: &[u8] = b"POST /x HTTP/1.1\r\n";

fuzz_target!(|input: (&[u8], Vec<u8>)| {
    let (bytes, cuts) = input;
    trigon_fuzz::within(64 * bytes.len() + 8192, || {
        let mut scanner = Scanner::default();
        for piece in pieces(bytes, &cuts) {
            let _ = scanner.read(piece);
        }
        head(bytes, &cuts);
    });
});

/// `fields` as the lines of a head, up to the empty line at its end.
fn head(fields: &[u8], cuts: &[u8]) {
    let lines: Vec<_> = fields
        .split_inclusive(|byte| *byte == b'\n')
        .take_while(|line| *line != b"\n" && *line != b"\r\n")
        .collect();
    let named = |name: &[u8]| {
        lines.iter().any(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
    };
    let doubtful = named(b"content-length") && named(b"transfer-encoding");
    let mut rest = lines.concat();
    // A line that has not ended may be undecided still.
    rest.extend_from_slice(b"\nx-last: filler line\r\n");
    if lines.last().is_some_and(|line| line.ends_with(b"\n")) || lines.is_empty() {
        rest = [&lines.concat()[..], b"x-last: filler line\r\n"].concat();
    }
    let mut scanner = Scanner::default();
    let mut found = scanner.read(LINE);
    for piece in pieces(&rest, cuts) {
        found = scanner.read(piece);
    }
    assert_eq!(found, doubtful);
    assert_eq!(Scanner::default().read(&[LINE, &rest].concat()), doubtful);
}

/// `bytes` in pieces of the lengths in `cuts`, over and over.
fn pieces<'b>(mut bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !bytes.is_empty() {
        let length = cuts.next().map_or(bytes.len(), |cut| usize::from(*cut).max(1));
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
