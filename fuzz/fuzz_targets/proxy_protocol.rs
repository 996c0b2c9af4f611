//! The header of the PROXY protocol from any balancer: whoever reads as many bytes as are asked for
//! comes to an end within the bounds, and not a byte of what follows is taken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::net::proxy_protocol::{Header, read};

/// The longest header of version 2 there may be.
const LONGEST: usize = 16 + 2048;

fuzz_target!(|bytes: &[u8]| {
    let _ = read(bytes);
    let mut taken = 0;
    while let Ok(Header::Wants(more)) = read(&bytes[..taken]) {
        assert!(more > 0, "progress");
        taken += more;
        assert!(taken <= LONGEST, "within bounds");
        if taken > bytes.len() {
            return;
        }
    }
    if let Ok(Header::Names(_)) = read(&bytes[..taken]) {
        assert!(taken == 0 || !matches!(read(&bytes[..taken - 1]), Ok(Header::Names(_))));
    }
});
