//! Machines that ask to join: every reason to refuse one has an answer of its own.

use std::time::Duration;

use cluster::{JoinError, JoinToken, Joining, Passport, Role};

use crate::support::{PATIENCE, Site, free_address, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_own_answer_and_leaves_no_node_behind() {
    let (site, other) = (Site::one(), Site::one());
    let (node, handle) = site.start(1).await;
    let (stranger, strange) = other.start(1).await;
    until(&handle, "leader", |status| status.quorum).await;
    until(&strange, "leader", |status| status.quorum).await;
    let good = site.joining(&handle, "second", Role::Node).await;

    let wrong_secret = {
        let mut text = good.token.expose();
        let last = if text.ends_with('a') { 'b' } else { 'a' };
        text.pop();
        text.push(last);
        text.parse::<JoinToken>().unwrap()
    };
    let expired =
        handle.create_token(Role::Node, Duration::from_secs(1), 1, PATIENCE).await.unwrap();
    let revoked =
        handle.create_token(Role::Node, Duration::from_secs(60), 1, PATIENCE).await.unwrap();
    assert!(handle.revoke_token(revoked.id(), PATIENCE).await.unwrap());
    let foreign = site.joining(&handle, "x", Role::Node).await;
    let foreign = Joining { peers: vec![other.address(1)], ..foreign };

    // Five tries a minute from one address: each batch asks a node that was not asked before.
    let refuse = async |name: &str, joining: &Joining| {
        let dir = site.dir_of(name);
        let error = cluster::join(&dir, joining).await.unwrap_err();
        assert!(Passport::load(&dir).unwrap().is_none(), "{name} left a passport");
        error
    };
    let error = refuse("wrong", &Joining { token: wrong_secret, ..good.clone() }).await;
    assert!(matches!(error, JoinError::WrongToken(_)), "{error}");
    let error = refuse("revoked", &Joining { token: revoked, ..good.clone() }).await;
    assert!(matches!(error, JoinError::WrongToken(_)), "{error}");
    let error = refuse("role", &Joining { role: Role::Witness, ..good.clone() }).await;
    assert!(matches!(error, JoinError::WrongRole { role: Role::Witness, .. }), "{error}");
    let error = refuse("name", &Joining { node_name: "n1".into(), ..good.clone() }).await;
    assert!(matches!(error, JoinError::NameTaken(_)), "{error}");
    let error = refuse("address", &Joining { advertise: site.address(1), ..good.clone() }).await;
    assert!(matches!(error, JoinError::AddressTaken(_)), "{error}");
    let error = refuse("often", &good).await;
    assert!(matches!(error, JoinError::TooMany(_)), "{error}");
    let error = refuse("foreign", &foreign).await;
    assert!(matches!(error, JoinError::WrongAuthority(_)), "{error}");
    let nobody = Joining { peers: vec![free_address()], ..good.clone() };
    let error = refuse("nobody", &nobody).await;
    assert!(matches!(error, JoinError::Unreachable(_)), "{error}");

    // A restart forgets who knocked, and the tokens are still what they were.
    drop(handle);
    node.shutdown().await;
    let (node, handle) = site.start(1).await;
    until(&handle, "leader", |status| status.quorum).await;
    let error = refuse("expired", &Joining { token: expired, ..good.clone() }).await;
    assert!(matches!(error, JoinError::ExpiredToken(_)), "{error}");
    let passport = cluster::join(&site.dir_of("second"), &good).await.unwrap();
    assert_eq!((passport.number, passport.cluster_name.as_str()), (2, "alpha"));
    let again = Joining { node_name: "third".into(), advertise: free_address(), ..good.clone() };
    let error = refuse("spent", &again).await;
    assert!(matches!(error, JoinError::SpentToken(_)), "{error}");

    let token = handle.create_token(Role::Node, Duration::from_secs(60), 1, PATIENCE).await;
    let more = Joining { token: token.unwrap(), ..good };
    let error = cluster::join(&site.dir_of("second"), &more).await.unwrap_err();
    assert!(matches!(error, JoinError::StillMember { number: 2, .. }), "{error}");
    handle.remove_node(2, PATIENCE).await.unwrap();
    let error = cluster::join(&site.dir_of("second"), &more).await.unwrap_err();
    assert!(matches!(error, JoinError::Removed { number: 2, .. }), "{error}");
    stranger.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_sends_on_to_a_load_balancer_and_a_lost_quorum_is_told() {
    let site = Site::new(&[Role::Node, Role::Node, Role::Witness]);
    let mut nodes = site.start_all().await;
    let joining = site.joining(&nodes[0].1, "fourth", Role::Node).await;
    let through_witness = Joining { peers: vec![site.address(3)], ..joining.clone() };
    let passport = cluster::join(&site.dir_of("fourth"), &through_witness).await.unwrap();
    assert_eq!(passport.number, 4);

    let more = site.joining(&nodes[0].1, "fifth", Role::Node).await;
    for (node, _) in nodes.drain(1..) {
        node.shutdown().await;
    }
    until(&nodes[0].1, "lost quorum", |status| !status.quorum).await;
    let error = cluster::join(&site.dir_of("fifth"), &more).await.unwrap_err();
    assert!(matches!(error, JoinError::NoQuorum), "{error}");
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_answer_was_lost_gets_the_same_number_again() {
    let site = Site::one();
    let (node, handle) = site.start(1).await;
    until(&handle, "leader", |status| status.quorum).await;
    let joining = site.joining(&handle, "second", Role::Node).await;
    let dir = site.dir_of("second");
    // What a machine stores before it asks, and all it has if the power goes with the answer.
    let nobody = Joining { peers: vec![free_address()], ..joining.clone() };
    assert!(cluster::join(&dir, &nobody).await.is_err());
    let kept = std::fs::read(dir.join("joining.json")).unwrap();
    let first = cluster::join(&dir, &joining).await.unwrap();
    assert!(!dir.join("joining.json").exists(), "the key lies in one place only");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("joining.json"), kept).unwrap();
    let second = cluster::join(&dir, &joining).await.unwrap();
    assert_eq!((first.number, second.number), (2, 2));
    assert_eq!(handle.members().len(), 2);
    assert_eq!(handle.tokens()[0].uses_left, 0);
    node.shutdown().await;
}
