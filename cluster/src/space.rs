//! What a node does when its disk is full.
//!
//! A ballast file holds room back. The first write that finds none gives the ballast up and is
//! made again, so that a last snapshot can be stored and the log be cut. From then on the node
//! takes no changes ([`ProposeError::DiskFull`](crate::ProposeError::DiskFull)) and no entries of
//! a leader, and hands leadership over, but goes on reading, voting and serving. It comes back by itself as soon as there is
//! room for twice the ballast: less would only be gone at once.
//!
//! Only a write that found no room may be made again. A sync that failed, for whatever reason, is
//! [`Fatal`](crate::fatal::Fatal): nobody knows what is on the disk then.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::disk::Disk;
use crate::engine::Engine;
use crate::fatal::Fatal;
use crate::measures::Measures;

/// Room held back, in bytes.
pub(crate) const BALLAST: u64 = 16 << 20;

/// Between two looks for room.
const PAUSE: Duration = Duration::from_secs(5);

/// Name of the file below the state directory.
const FILE: &str = "ballast";

/// What the stores of a node share: their disk, and what they find out about it.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) disk: Disk,
    pub(crate) fatal: Fatal,
    pub(crate) space: Space,
    pub(crate) measures: Arc<Measures>,
}

impl Storage {
    /// Takes the disk that `state_dir` is on into use.
    pub(crate) fn open(disk: Disk, state_dir: &Path) -> io::Result<Self> {
        let space = Space::open(disk.clone(), state_dir)?;
        Ok(Self { disk, fatal: Fatal::new(), space, measures: Arc::default() })
    }
}

/// Whether there is room; clones watch the same disk.
#[derive(Clone)]
pub(crate) struct Space {
    disk: Disk,
    ballast: PathBuf,
    full: Arc<watch::Sender<bool>>,
    /// Set once leadership was handed over because of it.
    handed_over: Arc<AtomicBool>,
}

impl Space {
    /// Makes the ballast if there is room for it; without, the node begins with a full disk.
    pub(crate) fn open(disk: Disk, state_dir: &Path) -> io::Result<Self> {
        disk.create_dir(state_dir)?;
        let space = Self {
            disk,
            ballast: state_dir.join(FILE),
            full: Arc::new(watch::Sender::new(false)),
            handed_over: Arc::default(),
        };
        if !space.disk.exists(&space.ballast)? && !space.recover() {
            space.declare_full();
        }
        Ok(space)
    }

    pub(crate) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Whether a leader should hand over because of it: once, or two full nodes would do it in
    /// turns for ever.
    pub(crate) fn asks_for_another_leader(&self) -> bool {
        self.is_full() && !self.handed_over.load(Ordering::Relaxed)
    }

    /// Leadership was handed over.
    pub(crate) fn handed_over(&self) {
        self.handed_over.store(self.is_full(), Ordering::Relaxed);
    }

    /// A write found no room. Whether some was made, so that it is worth to write again.
    pub(crate) fn make_room(&self) -> bool {
        self.declare_full();
        self.disk.remove(&self.ballast).is_ok()
    }

    /// Looks whether there is room again.
    pub(crate) fn recover(&self) -> bool {
        let reserved = self
            .disk
            .reserve(&self.ballast, 2 * BALLAST)
            .and_then(|()| self.disk.reserve(&self.ballast, BALLAST));
        if reserved.is_err() {
            // A part of it would only take the room that is missing.
            let _ = self.disk.remove(&self.ballast);
            return false;
        }
        if self.full.send_replace(false) {
            self.handed_over();
            tracing::info!("there is room on the disk of state_dir again, changes are taken again");
        }
        true
    }

    fn declare_full(&self) {
        if !self.full.send_replace(true) {
            tracing::error!(
                path = %self.ballast.display(),
                "the disk of state_dir is full: this node takes no changes until there is room"
            );
        }
    }
}

impl Engine {
    /// Cuts the log when the disk becomes full and looks for room again, until dropped.
    pub(crate) async fn run_space(self: Arc<Self>) {
        let mut full = self.space.full.subscribe();
        loop {
            if full.wait_for(|full| *full).await.is_err() {
                return;
            }
            if let Err(error) = self.raft.trigger().snapshot().await {
                tracing::debug!(%error, "no snapshot on a full disk");
            }
            while self.space.is_full() {
                sleep(PAUSE).await;
                if let Some(applied) = self.metrics().snapshot
                    && let Err(error) = self.raft.trigger().purge_log(applied.index).await
                {
                    tracing::debug!(%error, "the log is not cut");
                }
                let space = self.space.clone();
                let _ = self.space.disk.work(move || space.recover()).await;
            }
        }
    }
}

/// Whether an error says that there is no room.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::config::Config;
    use crate::disk::MemoryDisk;
    use crate::error::ProposeError;
    use crate::founding::{Founding, found_on};
    use crate::node::Node;
    use crate::record::{SealedExApp, Tenant};
    use crate::transport::{Boxed, Dialler, Stream, World};

    /// The way out of a node without peers.
    struct Nowhere;

    impl Dialler for Nowhere {
        fn dial(
            &self,
            _to: crate::record::NodeId,
            _address: std::net::SocketAddr,
        ) -> Boxed<'static, io::Result<Stream>> {
            Box::pin(async { Err(io::ErrorKind::AddrNotAvailable.into()) })
        }
    }

    fn push(number: usize) -> Command {
        let record = SealedExApp {
            id: format!("app{}", number % 500),
            token: vec![0; 8000],
            version: "1".into(),
            host: "127.0.0.1".into(),
            port: 23000,
            routes: Vec::new(),
        };
        Command::PushExApp { tenant: Tenant::default(), record }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_on_a_full_disk_reads_on_and_takes_changes_again_once_there_is_room() {
        let memory = MemoryDisk::default();
        let world = World {
            dialler: Arc::new(Nowhere),
            door: None,
            clock: Arc::new(|| 1000),
            disk: Disk::Memory(memory.clone()),
        };
        let config = Config { snapshot_every: 50, ..Config::new("/state") };
        let founding =
            Founding { cluster_name: "full".into(), node_name: "n1".into(), advertise: None };
        found_on(&world.disk, &config.state_dir, &founding).unwrap();
        let (node, handle) = Node::start_in_world(world, config).await.unwrap();
        let within = Duration::from_secs(5);
        let mut number = 0;
        while handle.propose(push(number), within).await.is_err() {}
        memory.set_capacity(Some(memory.used() + (1 << 20)));
        let refused = loop {
            number += 1;
            match handle.propose(push(number), within).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(refused, ProposeError::DiskFull);
        assert!(handle.status().disk_full);
        assert!(handle.view().exapp(&Tenant::default(), "app0").is_some(), "reading goes on");
        sleep(10 * PAUSE).await;
        assert_eq!(handle.propose(push(number), within).await, Err(ProposeError::DiskFull));

        memory.set_capacity(Some(memory.used() + 3 * BALLAST));
        sleep(2 * PAUSE).await;
        assert!(!handle.status().disk_full);
        handle.propose(push(number), within).await.unwrap();
        node.shutdown().await;
    }
}
