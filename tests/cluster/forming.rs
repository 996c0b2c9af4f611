//! How the members of a test's cluster come to be one: the only file that knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::Machine;

const CLUSTER_PORT: u16 = 7443;

/// Writes what every member needs, starts all of them, and returns: they find each other.
pub(crate) async fn form(directory: &Path, members: &mut [&mut Machine]) {
    let certificates = directory.join("certificates");
    let numbers: Vec<_> = members.iter().map(|member| member.number().to_string()).collect();
    let made = Command::new(env!("CARGO_BIN_EXE_trigon"))
        .args(["certs", "--nodes", &numbers.join(","), "--out"])
        .arg(&certificates)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let mut list = String::new();
    for member in &*members {
        list += &format!(
            "[[cluster.members]]\nid = {}\naddress = \"{}\"\nrole = \"{}\"\n",
            member.number(),
            control(member.address()),
            member.role(),
        );
    }
    for member in members {
        let (number, files) = (member.number(), certificates.display());
        let node = format!("id = {number}\nrole = \"{}\"\n", member.role());
        let cluster = format!(
            "[cluster]\nlisten = \"{}\"\nca = \"{files}/ca.crt\"\n\
             certificate = \"{files}/node-{number}.crt\"\nkey = \"{files}/node-{number}.key\"\n\
             {list}",
            control(member.address()),
        );
        member.configure(&node, &cluster);
        member.start();
    }
}

/// Where a member listens for the others.
pub(crate) fn control(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, CLUSTER_PORT))
}

/// What proves to `to` that somebody is that member.
pub(crate) struct Papers {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// What `to` is called in its own certificate.
    pub(crate) server_name: String,
}

/// Those of `member`.
pub(crate) fn papers(member: &Machine, to: &Machine) -> Papers {
    let files = member.dir().parent().unwrap().join("certificates");
    let number = member.number();
    Papers {
        authority: files.join("ca.crt"),
        certificate: files.join(format!("node-{number}.crt")),
        key: files.join(format!("node-{number}.key")),
        server_name: format!("node-{}.trigon.trigon.internal", to.number()),
    }
}
