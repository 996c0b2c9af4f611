//! A witness keeps the secrets of the others and can read none of them.

use std::fs;
use std::path::{Path, PathBuf};

use cluster::record::{ExApp, Tenant};
use cluster::{Command, Role};

use crate::support::{PATIENCE, Site, session_key, shows};

const TOKEN: &str = "a token that only load balancers may see";

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.append(&mut files(&path)) } else { found.push(path) }
    }
    found
}

/// The files below a directory that hold these bytes.
fn showing(dir: &Path, wanted: &[u8]) -> Vec<PathBuf> {
    let shows = |path: &PathBuf| {
        fs::read(path).unwrap().windows(wanted.len()).any(|window| window == wanted)
    };
    files(dir).into_iter().filter(shows).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_witness_shows_a_token_or_the_key_of_cookies() {
    let site = Site::new(&[Role::Node, Role::Node, Role::Witness]);
    let nodes = site.start_all().await;
    let [(_, one), (_, two), (_, witness)] = &nodes[..] else { unreachable!("three members") };
    let tenant = Tenant::default();
    let record = ExApp {
        id: "demonstration".into(),
        token: TOKEN.into(),
        version: "1".into(),
        host: "127.0.0.1".into(),
        port: 23000,
        routes: Vec::new(),
    };
    let sealed = one.seal_exapp(&tenant, &record);
    let push = Command::PushExApp { tenant: tenant.clone(), record: sealed };
    one.propose(push, PATIENCE).await.unwrap();
    for (_, handle) in &nodes {
        shows(handle, &record.id, "1").await;
    }
    let key = session_key(one, 1).await;
    assert_eq!(session_key(two, 1).await, key, "the nodes share one");
    session_key(witness, 1).await;
    assert!(witness.session_keys().current.is_none());

    let opened = |handle: &cluster::Handle| {
        let stored = handle.read(|state| state.exapp(&tenant, &record.id).cloned()).unwrap();
        handle.open_exapp(&tenant, &stored)
    };
    assert_eq!(opened(two).as_ref(), Some(&record));
    assert_eq!(opened(witness), None);

    let key = key.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }
    let dir = site.state_dir(3);
    let with_record = showing(&dir, record.id.as_bytes());
    let is_kept_in = |end| with_record.iter().any(|path| path.extension().unwrap() == end);
    assert!(is_kept_in("redb") && is_kept_in("snapshot"), "{with_record:?}");
    for secret in [TOKEN.as_bytes(), key.expose()] {
        assert_eq!(showing(&dir, secret), Vec::<PathBuf>::new());
    }
}
