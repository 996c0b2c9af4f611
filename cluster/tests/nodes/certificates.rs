//! Certificates that are renewed and an authority that is changed, while the cluster works.

use cluster::{Handle, LinkCertificates, Role};

use crate::support::{PATIENCE, Site, exapp, until};

async fn holds(handle: &Handle, what: &str, holds: impl Fn(&LinkCertificates) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !handle.certificates().is_some_and(|now| holds(&now)) {
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "no {what} on node {}: {:?}", handle.node_id(), handle.certificates());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn certificate(site: &Site, id: u64) -> Vec<u8> {
    std::fs::read(site.state_dir(id).join("link/node.pem")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_change_while_changes_go_on() {
    let site = Site::new(&[Role::Node, Role::Node, Role::Witness]);
    let nodes = site.start_all().await;
    for (_, handle) in &nodes {
        holds(handle, "certificate of the first authority", |it| it.issued_by == Some(1)).await;
    }
    let before: Vec<_> = [1, 2, 3].map(|id| certificate(&site, id)).into();
    for (_, handle) in &nodes {
        handle.renew_certificate();
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while (1..).zip(&before).any(|(id, old)| certificate(&site, id) == *old) {
        assert!(tokio::time::Instant::now() < deadline, "not every certificate was renewed");
        let refused = nodes[1].1.propose(exapp("a", "1"), PATIENCE).await;
        assert!(refused.is_ok(), "{refused:?}");
    }

    assert_eq!(nodes[1].1.rotate_authority(PATIENCE).await.unwrap(), 2);
    for (_, handle) in &nodes {
        handle.propose(exapp("b", "1"), PATIENCE).await.unwrap();
        holds(handle, "certificate of the second authority alone", |it| {
            it.issued_by == Some(2) && it.authorities.len() == 1 && it.waiting_for.is_empty()
        })
        .await;
    }
    // New connections work with the new authority, and nobody trusts the old one any more.
    for (node, handle) in nodes {
        drop(handle);
        node.shutdown().await;
    }
    let nodes = site.start_all().await;
    nodes[0].1.propose(exapp("c", "1"), PATIENCE).await.unwrap();
    until(&nodes[0].1, "no refusals", |status| status.quorum).await;
    let trusted = std::fs::read_to_string(site.state_dir(3).join("link/authority.pem")).unwrap();
    assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 1);
    for (node, _) in nodes {
        node.shutdown().await;
    }
}
