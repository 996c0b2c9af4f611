//! Certificates of the FRP port through renewals and rotations: who accepts whom.

use std::os::unix::fs::PermissionsExt;

use cluster::Command;

use super::issue::{Terms, life, without};
use super::*;

/// Those of a cluster of its own.
fn terms(days: u32) -> Terms {
    Terms { seal: Seal::of(&Handle::in_memory(1)).unwrap(), days }
}

impl Terms {
    fn open(&self, record: &FrpPki) -> Pki {
        Pki::open(record, &self.seal).unwrap()
    }
}

/// Whether the two accept each other.
async fn meet(server: &Pki, client: &Pki) -> bool {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio_rustls::TlsAcceptor::from(Arc::new(server.server_config(true).unwrap()));
    let client = tokio_rustls::TlsConnector::from(Arc::new(client.client_config().unwrap()));
    let name = SERVER_NAME.try_into().unwrap();
    let (served, connected) = tokio::join!(server.accept(near), client.connect(name, far));
    served.is_ok() && connected.is_ok()
}

#[tokio::test]
async fn every_node_gets_the_certificates_made_first() {
    let cluster = Handle::in_memory(1);
    let first = ensure(&cluster, 5000).await.unwrap();
    let second = ensure(&cluster, 5000).await.unwrap();
    assert_eq!(first.server_chain, second.server_chain);
    assert!(first.server_key.matches(second.server_key.expose()));
}

#[test]
fn the_key_of_another_cluster_is_named_as_the_cause() {
    let record = terms(5000).first().unwrap();
    let error = Pki::open(&record, &terms(5000).seal).unwrap_err().to_string();
    assert!(error.contains("sealed under the key of another cluster"), "{error}");
}

#[test]
fn a_key_does_not_open_beside_another_certificate() {
    let terms = terms(5000);
    let record = terms.first().unwrap();
    let mut swapped = record.clone();
    std::mem::swap(&mut swapped.server.key, &mut swapped.client.key);
    assert!(Pki::open(&swapped, &terms.seal).is_err());
    for cut in [0, 1, 5, 13, 40] {
        let mut record = record.clone();
        record.authorities[0].own.key.truncate(cut);
        assert!(Pki::open(&record, &terms.seal).is_err(), "cut at {cut}");
    }
}

#[test]
fn sealed_keys_do_not_show_the_key() {
    let record = terms(5000).first().unwrap();
    for sealed in [&record.authorities[0].own.key, &record.server.key, &record.client.key] {
        assert!(!sealed.windows(11).any(|window| window == b"PRIVATE KEY"));
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_where_one_is_required() {
    let terms = terms(5000);
    let pki = terms.open(&terms.first().unwrap());
    let bare = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_root_certificates(pki.roots().unwrap())
        .with_no_client_auth();
    for require in [false, true] {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor =
            tokio_rustls::TlsAcceptor::from(Arc::new(pki.server_config(require).unwrap()));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(bare.clone()));
        let name = SERVER_NAME.try_into().unwrap();
        let (server, _client) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        assert_eq!(server.is_ok(), !require, "require {require}");
    }
}

/// A client of each age against the server of each later age.
#[tokio::test]
async fn a_client_of_any_authority_is_served_until_that_one_is_dropped() {
    let terms = terms(5000);
    let first = terms.first().unwrap();
    let renewed = terms.renewed(&first).unwrap();
    let second = terms.rotated(&renewed).unwrap();
    let third = terms.rotated(&second).unwrap();
    let newest = third.newest().unwrap().own.pem.clone();
    let dropped = without(&third, |authority| authority.own.pem == newest);
    let again = terms.rotated(&dropped).unwrap();
    let ages = [first, renewed, second, third, dropped, again];
    assert_eq!(ages.each_ref().map(|age| age.revision), [1, 2, 3, 4, 5, 6]);
    let ages = ages.map(|record| terms.open(&record));
    // (client, server): everything but the clients of dropped authorities.
    for (client, of_client) in ages.iter().enumerate() {
        for (server, of_server) in ages.iter().enumerate().skip(client) {
            let expected = server < 4 || client >= 3;
            assert_eq!(meet(of_server, of_client).await, expected, "{client} to {server}");
        }
    }
}

#[test]
fn nothing_outlives_its_authority_and_the_server_is_renewed_more_often() {
    let terms = terms(5000);
    let first = terms.first().unwrap();
    let (authority, day) = (&first.authorities[0].own, 24 * 60 * 60 * 1000);
    assert!(first.client.until <= authority.until);
    assert!(first.server.until < first.server.from + 367 * day);
    let crossed = terms.rotated(&first).unwrap().authorities[1].crossed.clone().unwrap();
    assert!(life(&crossed).is_some());
    let record = Terms { days: 30, ..terms }.first().unwrap();
    assert!(record.server.until <= record.authorities[0].own.until);
}

#[tokio::test]
async fn a_change_is_in_force_on_the_node_that_did_not_make_it() {
    let [one, two] = Handle::in_memory_pair([1, 2]);
    let dir = tempfile::tempdir().unwrap();
    let keeper = |handle| Keeper::new(handle, 5000).unwrap();
    let one = keeper(one);
    one.ensure(None).await.unwrap();
    let (upkeep, mut used) = keeper(two).begin(dir.path().join("frp"), None, true).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(upkeep.run(stop.clone()));
    let old = used.pki.borrow_and_update().clone();
    used.server.borrow_and_update();
    one.change(Change::AddAuthority).await.unwrap();
    used.pki.changed().await.unwrap();
    let new = used.pki.borrow_and_update().clone();
    assert_eq!((old.authorities.len(), new.authorities.len()), (1, 2));
    assert!(used.server.has_changed().unwrap());
    assert!(meet(&new, &old).await, "who has the old ones is served on");
    let written = fs::read_to_string(dir.path().join("frp/ca.crt")).unwrap();
    assert_eq!(written, new.ca_certificates());
    one.change(Change::DropOld).await.unwrap();
    used.pki.changed().await.unwrap();
    let newest = used.pki.borrow().clone();
    assert!(!meet(&newest, &old).await);
    assert!(meet(&newest, &new).await);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_due_is_renewed_by_itself() {
    let cluster = Handle::in_memory(1);
    // Made long ago, as far as its own words go: a third of its life is left.
    let keeper = Keeper::new(cluster.clone(), 5000).unwrap();
    let terms = Terms { seal: Seal::of(&cluster).unwrap(), days: 5000 };
    let mut record = terms.first().unwrap();
    record.server.from = 0;
    let within = std::time::Duration::from_secs(1);
    cluster.propose(Command::SetPki(record.clone()), within).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (upkeep, mut used) = keeper.begin(dir.path().into(), None, true).await.unwrap();
    let old = used.pki.borrow().clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(upkeep.run(stop.clone()));
    used.pki.changed().await.unwrap();
    let new = used.pki.borrow().clone();
    assert_ne!(new.server_chain, old.server_chain);
    assert_eq!(new.client_certificate(), old.client_certificate(), "that one stays");
    assert!(meet(&new, &old).await);
    assert_eq!(cluster.view().pki().unwrap().revision, 2, "once");
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn files_are_laid_out_like_harps_and_keys_are_private() {
    let terms = terms(5000);
    let pki = terms.open(&terms.first().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs/frp");
    pki.write_files(&certs).unwrap();
    pki.write_files(&certs).unwrap();
    let mut names: Vec<_> = fs::read_dir(&certs)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().into_string().unwrap(), mode)
        })
        .collect();
    names.sort();
    let expected = [
        ("ca.crt", 0o644),
        ("client.crt", 0o644),
        ("client.key", 0o600),
        ("server.crt", 0o644),
        ("server.key", 0o600),
    ];
    assert_eq!(names, expected.map(|(name, mode)| (name.to_owned(), mode)));
}
