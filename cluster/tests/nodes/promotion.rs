//! A promotion that is cut off at any point goes on with the next start, and loses nothing.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::disk::{Disk, Fault, Loss, MemoryDisk};
use cluster::pair::Consent;
use cluster::record::NodeId;
use cluster::{
    Admission, Boxed, Config, Dialler, Founding, Handle, Node, Role, Stream, World, admit_on,
    found_on,
};

use crate::support::{PATIENCE, exapp, shows, version};

const STATE: &str = "/state";

/// The other node is gone.
struct Nobody;

impl Dialler for Nobody {
    fn dial(&self, _to: NodeId, _address: SocketAddr) -> Boxed<'static, io::Result<Stream>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

async fn start(disk: &MemoryDisk) -> (Node, Handle) {
    let world = World {
        dialler: Arc::new(Nobody),
        door: None,
        clock: Arc::new(crate::support::now),
        disk: Disk::Memory(disk.clone()),
    };
    let listen = Some(SocketAddr::from(([192, 0, 2, 1], 7443)));
    Node::start_in_world(world, Config { listen, ..Config::new(STATE) }).await.unwrap()
}

/// Node 1 of a pair that has a record and was stopped.
async fn prepared() -> MemoryDisk {
    let [memory, other] = [MemoryDisk::default(), MemoryDisk::default()];
    let disks = [Disk::Memory(memory.clone()), Disk::Memory(other)];
    let address = |last| SocketAddr::from(([192, 0, 2, last], 7443));
    let founding = Founding {
        cluster_name: "alpha".into(),
        node_name: "n1".into(),
        advertise: Some(address(1)),
    };
    found_on(&disks[0], Path::new(STATE), &founding).unwrap();
    let admission = Admission { node_name: "n2".into(), role: Role::Node, advertise: address(2) };
    let state = Path::new(STATE);
    admit_on([&disks[0], &disks[1]], state, state, &admission).unwrap();
    let (node, handle) = start(&memory).await;
    handle.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    node.shutdown().await;
    memory
}

/// Long enough for the other node to be given up.
async fn alone() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_promotion_cut_off_anywhere_goes_on_at_the_next_start() {
    let prepared = prepared().await;
    let points = {
        let disk = prepared.copy();
        let (node, handle) = start(&disk).await;
        alone().await;
        let before = disk.points();
        handle.promote(Consent::Force).await.unwrap();
        let points = disk.points() - before;
        assert_eq!(version(&handle, "a").as_deref(), Some("1"));
        node.shutdown().await;
        points
    };
    assert!(points > 5, "{points}");
    let mut resumed = 0;
    for at in 1..=points {
        // Both ways to lose, in turn: each costs a whole life of a node.
        let loss = if at % 2 == 0 { Loss::All } else { Loss::Torn { seed: at } };
        println!("cut off at {at} of {points}, {loss:?}");
        let disk = prepared.copy();
        let (node, handle) = start(&disk).await;
        alone().await;
        disk.plan(disk.points() + at, Fault::PowerOff(loss));
        let _ = handle.promote(Consent::Force).await;
        drop((node, handle));
        if !disk.is_off() {
            disk.power_off(loss);
        }
        // What the node was doing ends before the machine is on again.
        alone().await;
        disk.power_on();

        let (node, handle) = start(&disk).await;
        // It is read from the log again, which takes a moment.
        shows(&handle, "a", "1").await;
        alone().await;
        resumed += u32::from(handle.status().group.generation == 2);
        // Before the plan and after its end this is a former voter like any other, and asks.
        if !handle.status().quorum {
            handle.promote(Consent::Force).await.unwrap();
        }
        handle.propose(exapp("b", "1"), PATIENCE).await.unwrap();
        assert_eq!(version(&handle, "a").as_deref(), Some("1"));
        node.shutdown().await;
    }
    println!("{points} sync points; {resumed} starts went on with the promotion");
    assert!(resumed > 0);
}
