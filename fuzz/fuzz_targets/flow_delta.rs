//! What another node says about its flows, however wrong: it is refused or taken in, a node's
//! part of the table keeps its limit, and an honest telling afterwards makes it right again.

#![no_main]

use cluster::flows::{FlowKind, FlowTable, MAX_CHANGES, MAX_HEARD};
use cluster::fuzzing::{VERSION, flow_delta, flow_delta_bytes};
use libfuzzer_sys::fuzz_target;

/// The decoder reserves up to 1 MiB for each of two lists before it has seen their elements.
const HEAP: usize = 4 << 20;

/// What is held of a connection that takes a dozen bytes to name.
const HEAP_PER_BYTE: usize = 256;

const NODE: u64 = 2;

fuzz_target!(|deltas: Vec<&[u8]>| {
    let length: usize = deltas.iter().map(|bytes| bytes.len()).sum();
    let mut table = FlowTable::new(1, 0);
    trigon_fuzz::within(HEAP + HEAP_PER_BYTE * length, || {
        for bytes in &deltas {
            // The version byte is given, or chance would have to find it each time.
            let Some(delta) = flow_delta(&[&[VERSION], *bytes].concat()) else { continue };
            let written = flow_delta_bytes(&delta);
            assert_eq!(flow_delta(&written).as_ref(), Some(&delta), "one value, one form");
            let before = table.counts();
            match table.apply(NODE, &delta) {
                Ok(_) => assert!(delta.len() <= MAX_CHANGES),
                Err(_) => assert!(table.counts().heard <= before.heard),
            }
            assert!(table.counts().heard <= MAX_HEARD);
        }
        for flow in table.of_node(NODE) {
            let is_v4 = flow.server.is_ipv4();
            assert!(is_v4 == flow.client.is_ipv4() && flow.client.port() > 0);
        }
    });
    let mut honest = FlowTable::new(table.mark_of(NODE).epoch.wrapping_add(1).max(1), 9);
    for flow in table.of_node(NODE).take(9) {
        honest.add(flow);
    }
    while let Some(delta) = honest.delta_since(table.mark_of(NODE)) {
        assert!(table.apply(NODE, &delta).is_ok(), "what is honest is taken in");
    }
    assert_eq!(table.of_node(NODE).count(), honest.own().count());
    assert!(honest.own().filter(|flow| flow.kind == FlowKind::Client).count() <= 9);
});
