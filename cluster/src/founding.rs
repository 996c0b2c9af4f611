//! The first node of a cluster: its id, its authority, its key, its passport.
//!
//! Everything is made before the node runs. The authority and the first members are handed to the
//! replicated state by the first leader; until then they lie in `founding.json`, the key of the
//! authority sealed. While that file is there, further members can be admitted on the same
//! machine ([`admit`]), without a token and without a running node: how a whole cluster is
//! prepared at once. Afterwards nodes join with a token.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Role, is_label};
use crate::dice;
use crate::disk::Disk;
use crate::group::{ClusterId, Group, Lineage};
use crate::identity::{self, Authority, AuthorityError};
use crate::passport::{Passport, PassportError, Seed};
use crate::record::NodeId;
use crate::seal::{Kek, NoKek, Secret};

/// What the sealed key of the cluster's authority is called.
pub(crate) const AUTHORITY_KEY: &str = "cluster authority key";

/// Name of the file below the state directory.
const CHARTER_FILE: &str = "founding.json";

/// Largest such file that is read, in bytes.
const MAX_CHARTER: u64 = 1 << 20;

/// Longest name of a node, in bytes.
pub const MAX_NODE_NAME: usize = 64;

/// A cluster to be.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What people will call it: 1 to 40 of a-z, 0-9 and inner hyphens.
    pub cluster_name: String,
    /// What people will call its first node.
    pub node_name: String,
    /// Where other nodes will reach the first one; none for a cluster that stays alone.
    pub advertise: Option<SocketAddr>,
}

/// A member admitted while its cluster is prepared.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What people will call it.
    pub node_name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where the others will reach it.
    pub advertise: SocketAddr,
}

/// Why no cluster was founded, or no member admitted.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// A name that cannot be used.
    #[error("{key}: {found:?} cannot be a name; use {expected}")]
    Name {
        /// What it names.
        key: &'static str,
        /// The name.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The address is one nobody can reach.
    #[error("advertise: {0} cannot be reached by peers; name the real address and port")]
    Address(SocketAddr),
    /// The directory belongs to a node already.
    #[error(
        "{}: belongs to node {node:?} of cluster {cluster:?} already; use another directory, or \
         empty it if that node is gone for good", dir.display()
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// Name of its node.
        node: String,
        /// Name of its cluster.
        cluster: String,
    },
    /// The founder has started; from then on nodes join with a token.
    #[error("{}: its node has started already; make a token and join", .0.display())]
    Started(PathBuf),
    /// Another member has that name or address.
    #[error("{0} is that of another member already")]
    Twice(String),
    /// The passport.
    #[error(transparent)]
    Passport(#[from] PassportError),
    /// The authority or a certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The key of the cluster.
    #[error(transparent)]
    Kek(#[from] NoKek),
    /// Disk or permissions.
    #[error("{}: cannot be used", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What the first leader brings into the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Charter {
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// Its key, sealed with the KEK as [`AUTHORITY_KEY`].
    pub(crate) authority_key: Vec<u8>,
    /// The members prepared so far.
    pub(crate) members: Vec<Seed>,
}

/// Makes the first node of a new cluster in `dir`, which is made when missing. Doing it again with
/// the same names changes nothing.
///
/// # Errors
/// A name cannot be used, the directory belongs to another node, or the disk.
pub fn found(dir: &Path, founding: &Founding) -> Result<Passport, FoundError> {
    found_on(&Disk::Files, dir, founding)
}

/// The same on any disk.
///
/// # Errors
/// As [`found`].
pub fn found_on(on: &Disk, dir: &Path, founding: &Founding) -> Result<Passport, FoundError> {
    let Founding { cluster_name, node_name, advertise } = founding;
    if !is_label(cluster_name) {
        return Err(FoundError::Name {
            key: "cluster name",
            found: cluster_name.clone(),
            expected: "1 to 40 of a-z, 0-9 and inner hyphens",
        });
    }
    check_node_name(node_name)?;
    if let Some(address) = advertise {
        check_address(*address)?;
    }
    if let Some(found) = Passport::load_from(on, dir)? {
        let same = found.cluster_name == *cluster_name && found.node_name == *node_name;
        return if same && found.number == FOUNDER { Ok(found) } else { Err(taken(dir, found)) };
    }
    let disk = disk(dir);
    on.create_dir(dir).map_err(disk)?;
    let cluster = random_id();
    let group = Group::first(cluster, random_lineage());
    let authority = Authority::generate(&cluster.to_string())?;
    let kek = Kek::generate();
    kek.store(on, dir).map_err(disk)?;
    issue(on, dir, &authority, FOUNDER)?;
    let member =
        Seed { number: FOUNDER, name: node_name.clone(), role: Role::Node, address: *advertise };
    let charter = Charter {
        authority: authority.certificate_pem().to_owned(),
        authority_key: kek.seal(AUTHORITY_KEY, authority.key_pem().as_bytes()),
        members: vec![member.clone()],
    };
    charter.store(on, dir).map_err(disk)?;
    let passport = Passport::new(group, cluster_name, member);
    // Last: the passport is what makes the directory a node's.
    passport.store_on(on, dir)?;
    Ok(passport)
}

/// Makes one more member of the cluster that was founded in `founder` and has not started yet, in
/// `dir`, which is made when missing. It takes part as soon as both run.
///
/// # Errors
/// The founder has started, the name or address is taken, or the disk.
pub fn admit(founder: &Path, dir: &Path, admission: &Admission) -> Result<Passport, FoundError> {
    admit_on([&Disk::Files; 2], founder, dir, admission)
}

/// The same from one disk to another.
///
/// # Errors
/// As [`admit`].
pub fn admit_on(
    [from, on]: [&Disk; 2],
    founder: &Path,
    dir: &Path,
    admission: &Admission,
) -> Result<Passport, FoundError> {
    check_node_name(&admission.node_name)?;
    check_address(admission.advertise)?;
    let started = || FoundError::Started(founder.to_owned());
    let mut first = Passport::load_from(from, founder)?.ok_or_else(started)?;
    let mut charter = Charter::load(from, founder).map_err(disk(founder))?.ok_or_else(started)?;
    if first.begun {
        return Err(started());
    }
    let kek = Kek::load(from, founder).map_err(disk(founder))?.ok_or_else(started)?;
    if let Some(found) = Passport::load_from(on, dir)? {
        let same = charter.members.iter().any(|seed| *seed == found.seed())
            && found.group == first.group
            && found.node_name == admission.node_name
            && found.role == admission.role;
        return if same { Ok(found) } else { Err(taken(dir, found)) };
    }
    let address = Some(admission.advertise);
    if charter.members.iter().any(|seed| seed.name == admission.node_name) {
        return Err(FoundError::Twice(format!("the name {:?}", admission.node_name)));
    }
    if charter.members.iter().any(|seed| seed.address == address) {
        return Err(FoundError::Twice(format!("the address {}", admission.advertise)));
    }
    let last = charter.members.iter().map(|seed| seed.number).max().unwrap_or(FOUNDER);
    let member =
        Seed { number: last + 1, name: admission.node_name.clone(), role: admission.role, address };
    on.create_dir(dir).map_err(disk(dir))?;
    let authority = charter.open_authority(first.group.cluster, &kek)?;
    issue(on, dir, &authority, member.number)?;
    if admission.role == Role::Node {
        kek.store(on, dir).map_err(disk(dir))?;
    }
    charter.members.push(member.clone());
    let mut passport = Passport::new(first.group, first.cluster_name.clone(), member);
    passport.seeds.clone_from(&charter.members);
    passport.store_on(on, dir)?;
    first.seeds.clone_from(&charter.members);
    first.store_on(from, founder)?;
    charter.store(from, founder).map_err(disk(founder))?;
    Ok(passport)
}

/// The number of the first node.
pub(crate) const FOUNDER: NodeId = 1;

impl Charter {
    /// The one in a state directory; none once the state has it.
    pub(crate) fn load(disk: &Disk, dir: &Path) -> io::Result<Option<Self>> {
        match disk.read(&dir.join(CHARTER_FILE), MAX_CHARTER) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The state has it.
    pub(crate) fn remove(disk: &Disk, dir: &Path) -> io::Result<()> {
        match disk.remove(&dir.join(CHARTER_FILE)) {
            Ok(()) => disk.sync_dir(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn store(&self, disk: &Disk, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        disk.store(&dir.join(CHARTER_FILE), &bytes)
    }

    /// The authority to sign with.
    fn open_authority(&self, cluster: ClusterId, kek: &Kek) -> Result<Authority, FoundError> {
        let key = kek.open(AUTHORITY_KEY, &self.authority_key).ok_or(NoKek)?;
        let key = std::str::from_utf8(key.expose()).map_err(|_| NoKek)?;
        Ok(Authority::from_pem(&cluster.to_string(), &self.authority, key)?)
    }
}

pub(crate) fn issue(
    on: &Disk,
    dir: &Path,
    authority: &Authority,
    number: NodeId,
) -> Result<(), FoundError> {
    let (certificate, key) = authority.issue(number)?;
    let chain = format!("{certificate}{}", authority.certificate_pem());
    identity::store(on, dir, authority.certificate_pem(), &chain, &Secret::new(key))
        .map_err(disk(dir))
}

/// A name people can read in logs and tables.
pub(crate) fn check_node_name(name: &str) -> Result<(), FoundError> {
    let good = (1..=MAX_NODE_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    Err(FoundError::Name {
        key: "node.name",
        found: name.to_owned(),
        expected: "1 to 64 visible ASCII characters without spaces",
    })
}

fn check_address(address: SocketAddr) -> Result<(), FoundError> {
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(FoundError::Address(address));
    }
    Ok(())
}

fn taken(dir: &Path, found: Passport) -> FoundError {
    FoundError::Taken { dir: dir.to_owned(), node: found.node_name, cluster: found.cluster_name }
}

fn random_id() -> ClusterId {
    uuid::Builder::from_random_bytes(random()).into_uuid()
}

/// A lineage nobody has.
pub(crate) fn random_lineage() -> Lineage {
    Lineage(random())
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    dice::fill(&mut bytes);
    bytes
}

fn disk(path: &Path) -> impl Fn(io::Error) -> FoundError + Copy + '_ {
    move |source| FoundError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::identity::{Identity, link_files};

    fn founding(cluster: &str, node: &str) -> Founding {
        Founding {
            cluster_name: cluster.into(),
            node_name: node.into(),
            advertise: Some("192.0.2.11:7443".parse().unwrap()),
        }
    }

    fn admission(node: &str, role: Role, port: u16) -> Admission {
        let advertise = SocketAddr::from(([192, 0, 2, 12], port));
        Admission { node_name: node.into(), role, advertise }
    }

    fn identity(dir: &Path, passport: &Passport) -> Result<(), identity::IdentityError> {
        let cluster = passport.group.cluster.to_string();
        Identity::load(&link_files(dir), &cluster, passport.number).map(drop)
    }

    #[test]
    fn a_cluster_is_founded_once_however_often_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let passport = found(&state, &founding("alpha", "lb1")).unwrap();
        assert_eq!((passport.number, passport.incarnation, passport.begun), (1, 0, false));
        assert_eq!(passport.group.generation, 1);
        identity(&state, &passport).unwrap();
        assert_eq!(found(&state, &founding("alpha", "lb1")).unwrap(), passport);
        for (cluster, node) in [("beta", "lb1"), ("alpha", "lb2")] {
            let refused = found(&state, &founding(cluster, node)).unwrap_err().to_string();
            assert!(refused.contains("belongs to node \"lb1\" of cluster \"alpha\""), "{refused}");
        }
        let other = found(&dir.path().join("other"), &founding("alpha", "lb1")).unwrap();
        assert_ne!(other.group, passport.group, "a name does not make the same cluster");
    }

    #[test]
    fn what_cannot_be_a_cluster_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let unreachable =
            Founding { advertise: Some("0.0.0.0:7443".parse().unwrap()), ..founding("a", "b") };
        let table = [
            ("capital", founding("Alpha", "lb1"), "cluster name"),
            ("empty node name", founding("alpha", ""), "node.name"),
            ("space in node name", founding("alpha", "l b"), "node.name"),
            ("unspecified", unreachable, "advertise"),
        ];
        for (name, founding, expected) in table {
            let refused = found(&state, &founding).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{name}: {refused}");
            assert!(!state.exists(), "{name}");
        }
    }

    #[test]
    fn the_key_of_the_authority_is_nowhere_in_clear() {
        let dir = tempfile::tempdir().unwrap();
        found(dir.path(), &founding("alpha", "lb1")).unwrap();
        let charter = Charter::load(&Disk::Files, dir.path()).unwrap().unwrap();
        let kek = Kek::load(&Disk::Files, dir.path()).unwrap().unwrap();
        assert!(kek.open(AUTHORITY_KEY, &charter.authority_key).is_some());
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = fs::read(&path).unwrap();
                let pem = text.windows(11).any(|bytes| bytes == b"PRIVATE KEY");
                assert!(!pem, "{}", path.display());
            }
        }
    }

    #[test]
    fn members_prepared_together_know_each_other_and_a_witness_gets_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let first = found(&at("1"), &founding("alpha", "lb1")).unwrap();
        let second = admit(&at("1"), &at("2"), &admission("lb2", Role::Node, 1)).unwrap();
        let witness = admit(&at("1"), &at("3"), &admission("w", Role::Witness, 2)).unwrap();
        assert_eq!((second.number, witness.number), (2, 3));
        assert_eq!((second.group, witness.role), (first.group, Role::Witness));
        assert_eq!(Passport::load(&at("1")).unwrap().unwrap().seeds, witness.seeds);
        identity(&at("2"), &second).unwrap();
        identity(&at("3"), &witness).unwrap();
        assert!(Kek::load(&Disk::Files, &at("2")).unwrap().is_some());
        assert!(Kek::load(&Disk::Files, &at("3")).unwrap().is_none());
        assert_eq!(admit(&at("1"), &at("2"), &admission("lb2", Role::Node, 1)).unwrap(), second);
    }

    #[test]
    fn a_member_is_not_prepared_twice_nor_after_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut first = found(&at("1"), &founding("alpha", "lb1")).unwrap();
        admit(&at("1"), &at("2"), &admission("lb2", Role::Node, 1)).unwrap();
        let table = [
            ("name", "3", admission("lb1", Role::Node, 3), "the name \"lb1\""),
            ("address", "3", admission("lb3", Role::Node, 1), "the address 192.0.2.12:1"),
            ("directory", "2", admission("lb3", Role::Node, 3), "belongs to node \"lb2\""),
        ];
        for (name, state, admission, expected) in table {
            let refused = admit(&at("1"), &at(state), &admission).unwrap_err().to_string();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
        first.begun = true;
        first.store(&at("1")).unwrap();
        let refused = admit(&at("1"), &at("4"), &admission("lb4", Role::Node, 4)).unwrap_err();
        assert!(matches!(refused, FoundError::Started(_)), "{refused}");
    }
}
