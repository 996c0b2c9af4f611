//! A cluster of one.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use cluster::record::{AccessLevel, SessionKey, Strike, User};
use cluster::{Config, Founding, Node, ProposeError, RaftState, Reply, Soft, found};

use crate::support::{PATIENCE, exapp, now, shows, until, version};

#[tokio::test]
async fn records_outlive_a_clean_stop_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let config = alone(&dir.path().join("state"));

    let (node, handle) = Node::start(config.clone()).await.unwrap();
    assert_eq!(handle.propose(exapp("a", "1"), PATIENCE).await, Ok(Reply::Done));
    assert_eq!(version(&handle, "a").as_deref(), Some("1"), "the proposer sees it at once");
    node.shutdown().await;
    assert_eq!(handle.propose(exapp("a", "2"), PATIENCE).await, Err(ProposeError::Stopped));
    assert_eq!(handle.status().state, RaftState::Shutdown);
    assert_eq!(version(&handle, "a").as_deref(), Some("1"), "the view stays readable");
    drop(handle);

    let (node, handle) = Node::start(config.clone()).await.unwrap();
    assert_eq!(version(&handle, "a").as_deref(), Some("1"), "from the snapshot");
    assert_eq!(handle.propose(exapp("b", "1"), PATIENCE).await, Ok(Reply::Done));
    // A copy of the files of a running node is what a power cut leaves.
    let copy = dir.path().join("copy");
    copy_dir(&dir.path().join("state"), &copy);
    node.shutdown().await;

    let (node, handle) = Node::start(Config { state_dir: copy, ..config }).await.unwrap();
    shows(&handle, "a", "1").await;
    shows(&handle, "b", "1").await;
    node.shutdown().await;
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn soft_changes_arrive_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handle) = Node::start(alone(dir.path())).await.unwrap();
    let before = until(&handle, "leader", |status| status.quorum).await.last_log.unwrap();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let mut changes = handle.changes();
    for n in 0..300u64 {
        let user = User { id: "alice".into(), level: AccessLevel::User };
        let key = SessionKey(u128::from(n).to_be_bytes());
        handle.share(Soft::Session { key, user, lifetime: Duration::from_secs(10) });
    }
    handle.share(Soft::Strike(Strike { node: 1, address, at: now() - 1 }));
    let arrived = async {
        let last = SessionKey(299u128.to_be_bytes());
        while handle.session(&last).is_none()
            || handle.read(|state| state.strikes(address, 0, 9) == 0)
        {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    let after = handle.status();
    assert!(after.last_log.unwrap() <= before + 3, "{before} {after:?}");
    assert_eq!(after.dropped_soft, 0);
    node.shutdown().await;
}

#[tokio::test]
async fn what_does_not_fit_one_entry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handle) = Node::start(alone(dir.path())).await.unwrap();
    let refused = handle.propose(exapp(&"x".repeat(100_000), "1"), PATIENCE).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { limit: 65_536, .. })), "{refused:?}");
    node.shutdown().await;
}

/// The configuration of a cluster of one that is founded there, without a listener.
fn alone(dir: &Path) -> Config {
    let founding =
        Founding { cluster_name: "alone".into(), node_name: "n1".into(), advertise: None };
    found(dir, &founding).unwrap();
    Config::new(dir)
}
