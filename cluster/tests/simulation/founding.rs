//! Clusters that are founded but have not started yet. Founding makes keys, which no seed can
//! repeat, so each kind of cluster is founded once and every run gets a copy of its disks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use cluster::disk::{Disk, MemoryDisk};
use cluster::sim::{copy, with_seed};
use cluster::{Admission, Founding, Role, admit_on, found_on};

use crate::network::{PORT, ip};

/// Where every host keeps its state.
pub(crate) const STATE_DIR: &str = "/state";

/// The disks of a new cluster, one for each role, and that of a machine the cluster does not know
/// yet, with what it will get when it is admitted.
pub(crate) fn disks(roles: &[Role]) -> Vec<MemoryDisk> {
    static FOUNDED: Mutex<BTreeMap<Vec<bool>, Vec<MemoryDisk>>> = Mutex::new(BTreeMap::new());
    let mut known = FOUNDED.lock().unwrap();
    let kind = roles.iter().map(|role| *role == Role::Witness).collect();
    let founded = known.entry(kind).or_insert_with(|| with_seed(0, || found(roles)));
    founded.iter().map(|disk| copy(disk, Path::new(STATE_DIR), "").unwrap()).collect()
}

fn found(roles: &[Role]) -> Vec<MemoryDisk> {
    let dir = Path::new(STATE_DIR);
    let address = |id| SocketAddr::new(ip(0, id), PORT);
    let disks: Vec<_> = roles.iter().map(|_| MemoryDisk::default()).collect();
    let on = |at: usize| Disk::Memory(disks[at].clone());
    let founding = Founding {
        cluster_name: "alpha".into(),
        node_name: "node-1".into(),
        advertise: Some(address(1)),
    };
    found_on(&on(0), dir, &founding).unwrap();
    for (at, role) in roles.iter().enumerate().skip(1) {
        let id = u64::try_from(at).unwrap() + 1;
        let admission =
            Admission { node_name: format!("node-{id}"), role: *role, advertise: address(id) };
        admit_on([&on(0), &on(at)], dir, dir, &admission).unwrap();
    }
    // Admitted where nobody will ever know of it.
    let elsewhere = copy(&disks[0], dir, "").unwrap();
    let id = u64::try_from(roles.len()).unwrap() + 1;
    let admission =
        Admission { node_name: format!("node-{id}"), role: Role::Node, advertise: address(id) };
    let newcomer = MemoryDisk::default();
    let both = [elsewhere, newcomer.clone()].map(Disk::Memory);
    admit_on([&both[0], &both[1]], dir, dir, &admission).unwrap();
    disks.into_iter().chain([newcomer]).collect()
}
