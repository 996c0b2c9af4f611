//! An upload in chunks, by the rules Nextcloud's clients follow: a folder under `uploads`, chunks
//! by number, and a MOVE of `.file` that puts them together. A chunk that fails is sent again.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::time::{sleep, timeout};
use trigon::balance::roster::Condition;

use crate::client::{HOST, Speaks, ask, request};
use crate::rig::{Extras, Rig};

/// What clients begin with.
const CHUNK: usize = 10 << 20;

/// The bytes of a chunk, different for each.
fn chunk(number: usize, length: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Tries until it is done, as clients do; says how often it was not.
async fn insist(rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u32 {
    for again in 0..50 {
        let asked = request(method, path, headers, body.to_vec());
        let answer = timeout(Duration::from_secs(60), ask(rig.front, Speaks::Http1, asked)).await;
        match answer {
            Ok(Some(answer)) if answer.status().is_success() => return again,
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
    panic!("{method} {path} never worked");
}

#[tokio::test]
async fn an_upload_in_chunks_survives_the_death_of_a_web_node() {
    let megabytes: usize =
        std::env::var("WEB_UPLOAD_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    let chunks = (megabytes << 20).div_ceil(CHUNK);
    let mut rig = Rig::start(Extras::default()).await;
    let folder = "/remote.php/dav/uploads/alice/web-file-upload-1";
    let destination = format!("http://{HOST}/remote.php/dav/files/alice/large%20file");
    let headers = [("destination", destination.as_str())];
    insist(&rig, "MKCOL", folder, &headers, b"").await;
    let mut digest = Context::new(&SHA256);
    let mut repeated = 0;
    let mut total = 0;
    for number in 1..=chunks {
        let length = CHUNK.min((megabytes << 20) - total);
        let bytes = chunk(number, length);
        digest.update(&bytes);
        total += length;
        let path = format!("{folder}/{number:05}");
        if number == chunks / 2 {
            // While this one is on its way.
            let sending = insist(&rig, "PUT", &path, &headers, &bytes);
            let mut sending = Box::pin(sending);
            let sent = timeout(Duration::from_millis(5), &mut sending).await;
            drop(sent);
            // Every node in turn would be cruel; two of three are enough to meet the one.
            for at in 0..2 {
                rig.signal(at, rustix::process::Signal::KILL);
            }
            repeated += sending.await;
            continue;
        }
        repeated += insist(&rig, "PUT", &path, &headers, &bytes).await;
    }
    rig.kill(0);
    rig.kill(1);
    rig.start_node(0);
    rig.wait_for("web1", Condition::Up).await;
    let length = total.to_string();
    let headers = [("destination", destination.as_str()), ("oc-total-length", &length)];
    insist(&rig, "MOVE", &format!("{folder}/.file"), &headers, b"").await;
    eprintln!("{megabytes} MB in {chunks} chunks, {repeated} sent again");

    let file = std::fs::read(rig.data().join("dav/files/alice/large file")).unwrap();
    assert_eq!(file.len(), total);
    let mut stored = Context::new(&SHA256);
    stored.update(&file);
    assert_eq!(stored.finish().as_ref(), digest.finish().as_ref());
}
