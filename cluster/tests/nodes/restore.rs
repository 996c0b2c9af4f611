//! A cluster out of a backup, and releases of two feature levels.

use std::path::Path;
use std::time::Duration;

use cluster::record::FEATURE;
use cluster::{
    Backup, Config, Handle, Node, NodeId, Passport, RestoreError, Restoring, Role, Secret,
    StartError, restore,
};

use crate::support::{PATIENCE, Site, exapp, free_address, shows, until, version};

fn wish(name: &str) -> Restoring {
    let advertise = Some(free_address());
    Restoring { node_name: name.to_owned(), advertise, kek: None, force: false }
}

async fn start(dir: &Path, passport: &Passport) -> (Node, Handle) {
    let config = Config { listen: passport.advertise, ..Config::new(dir) };
    let (node, handle) = Node::start(config).await.unwrap();
    until(&handle, "leader", |status| status.quorum).await;
    (node, handle)
}

fn members(handle: &Handle) -> Vec<NodeId> {
    handle.read(|state| state.members().map(|member| member.id).collect())
}

#[tokio::test]
async fn a_lost_cluster_comes_back_on_an_empty_machine_and_grows_again() {
    let site = Site::three();
    let nodes = site.start_all().await;
    let handle = &nodes[0].1;
    handle.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    handle.create_token(Role::Node, Duration::from_secs(600), 1, PATIENCE).await.unwrap();
    shows(&nodes[1].1, "a", "1").await;
    let bytes = nodes[1].1.backup(true).await.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }

    let taken = Backup::decode(&bytes).unwrap();
    assert!(taken.has_key());
    assert_eq!((taken.made_by, taken.cluster_name.as_str()), (2, "alpha"));
    let dir = site.dir_of("fresh");
    let passport = restore(&dir, &bytes, &wish("fresh")).unwrap();
    assert_eq!(passport.group.cluster, taken.group.cluster);
    assert_eq!(passport.group.generation, taken.group.generation + 1);
    assert_ne!(passport.group.lineage, taken.group.lineage);
    assert_eq!(passport.number, 4, "numbers are never given twice");

    let (node, handle) = start(&dir, &passport).await;
    assert_eq!(version(&handle, "a").as_deref(), Some("1"));
    assert_eq!(members(&handle), [4]);
    assert_eq!(handle.read(|state| state.tokens().count()), 0, "one may have been spent since");
    handle.propose(exapp("a", "2"), PATIENCE).await.unwrap();

    let life = Duration::from_secs(600);
    let token = handle.create_token(Role::Node, life, 1, PATIENCE).await.unwrap();
    let joining = cluster::Joining {
        token,
        peers: vec![passport.advertise.unwrap()],
        advertise: free_address(),
        node_name: "second".to_owned(),
        role: Role::Node,
    };
    let second_dir = site.dir_of("second");
    let second = cluster::join(&second_dir, &joining).await.unwrap();
    assert_eq!(second.number, 5);
    let (second_node, second_handle) = start(&second_dir, &second).await;
    shows(&second_handle, "a", "2").await;
    second_node.shutdown().await;
    node.shutdown().await;

    // What was restored is a log like any other. One of a pair, it asks the other before it leads.
    let config = Config { listen: passport.advertise, ..Config::new(&dir) };
    let (node, handle) = Node::start(config).await.unwrap();
    shows(&handle, "a", "2").await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_member_becomes_the_first_of_a_new_generation_only_by_force_and_with_its_key() {
    let site = Site::one();
    let (node, handle) = site.start(1).await;
    until(&handle, "leader", |status| status.quorum).await;
    let mut changes = handle.changes();
    while members(&handle).is_empty() {
        changes.changed().await.unwrap();
    }
    handle.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let bytes = handle.backup(false).await.unwrap();
    handle.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    node.shutdown().await;
    drop(handle);
    let dir = site.state_dir(1);
    let before = Passport::load(&dir).unwrap().unwrap();

    let refused = restore(&dir, &bytes, &wish("n1")).unwrap_err();
    assert!(matches!(refused, RestoreError::Occupied { .. }), "{refused}");
    let elsewhere = site.dir_of("elsewhere");
    let refused = restore(&elsewhere, &bytes, &wish("n1")).unwrap_err();
    assert!(matches!(refused, RestoreError::NoKey { .. }), "{refused}");
    let wrong = Restoring { kek: Some(Secret::new(vec![7; 32])), ..wish("n1") };
    let refused = restore(&elsewhere, &bytes, &wrong).unwrap_err();
    assert!(matches!(refused, RestoreError::WrongKey), "{refused}");
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    let refused = restore(&elsewhere, &damaged, &wish("n1")).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(_)), "{refused}");
    let other = Site::one();
    let refused = restore(&other.state_dir(1), &bytes, &wish("n1")).unwrap_err();
    assert!(matches!(refused, RestoreError::Foreign { .. }), "{refused}");
    assert!(Passport::load(&elsewhere).unwrap().is_none(), "a refusal leaves no node behind");
    assert_eq!(Passport::load(&dir).unwrap(), Some(before.clone()));

    let forced = Restoring { force: true, ..wish("n1") };
    let passport = restore(&dir, &bytes, &forced).unwrap();
    assert_eq!((passport.number, passport.incarnation), (1, before.incarnation + 1));
    let (node, handle) = start(&dir, &passport).await;
    assert_eq!(version(&handle, "a").as_deref(), Some("1"));
    handle.propose(exapp("a", "3"), PATIENCE).await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn the_level_rises_with_the_last_node_and_an_older_release_is_then_refused() {
    let site = Site::three();
    let newer = |id| Config { feature: FEATURE + 1, ..site.config(id) };
    let level = |handle: &Handle| handle.read(cluster::State::feature);
    let mut nodes = Vec::new();
    for config in [newer(1), newer(2), site.config(3)] {
        nodes.push(Node::start(config).await.unwrap());
    }
    crate::support::settled(&nodes).await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    assert_eq!(level(&nodes[0].1), FEATURE, "one node still runs the older release");

    let (node, _) = nodes.pop().unwrap();
    node.shutdown().await;
    let (node, handle) = Node::start(newer(3)).await.unwrap();
    nodes.push((node, handle));
    for (_, handle) in &nodes {
        let mut changes = handle.changes();
        let raised = async {
            while level(handle) == FEATURE {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, raised).await.unwrap();
    }
    let (node, handle) = nodes.pop().unwrap();
    node.shutdown().await;
    drop(handle);
    let refused = Node::start(site.config(3)).await.err().unwrap();
    assert!(matches!(refused, StartError::TooOld { needs, .. } if needs == FEATURE + 1));
    assert!(refused.to_string().contains("run the newer release of trigon"), "{refused}");
    for (node, _) in nodes {
        node.shutdown().await;
    }
}
