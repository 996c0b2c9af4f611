//! What another node or the disk says: frame headers, requests, answers, commands, log entries
//! and snapshots. What is read is written in one way only, and reading holds no more than a
//! multiple of what arrived.

#![no_main]

use cluster::fuzzing::{
    VERSION, answer, command, command_bytes, entry, envelope, frame_length, snapshot_with,
};
use libfuzzer_sys::fuzz_target;

/// Largest frame.
const MAX_FRAME: usize = 8 << 20;

/// The decoder reserves up to 1 MiB for a list before it has seen its elements; lists nest.
const HEAP: usize = 4 << 20;

/// Sets and maps of few entries, each with nodes made for many.
const HEAP_PER_BYTE: usize = 1024;

fuzz_target!(|input: (u8, &[u8])| {
    let (what, body) = input;
    if let Some(header) = body.first_chunk::<5>() {
        assert!(frame_length(*header).is_none_or(|length| length <= MAX_FRAME));
    }
    // The version byte is given, or chance would have to find it each time.
    let bytes = [&[VERSION], body].concat();
    let rewrite: fn(&[u8]) -> Option<Vec<u8>> = match what % 5 {
        0 => envelope,
        1 => answer,
        2 => |bytes| command(bytes).map(|command| command_bytes(&command)),
        3 => entry,
        _ => snapshot_body,
    };
    trigon_fuzz::within(HEAP + HEAP_PER_BYTE * bytes.len(), || {
        if let Some(written) = rewrite(&bytes) {
            assert_eq!(rewrite(&written).as_ref(), Some(&written), "one value, one form");
        }
    });
});

/// A snapshot's body without the magic and checksum around it.
fn snapshot_body(bytes: &[u8]) -> Option<Vec<u8>> {
    let written = snapshot_with(bytes)?;
    let body = written.get(8..written.len().checked_sub(32)?)?;
    Some(body.to_vec())
}
