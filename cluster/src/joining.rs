//! Joining a cluster, before the node runs: shows the token, and makes of the answer a state
//! directory that a node can start from.
//!
//! The key never leaves this machine. It lies in `joining.json` until the answer is stored, so
//! that asking again with the same token after a lost answer, or after a power cut, gives the same
//! membership instead of wasting the token.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::disk::Disk;
use crate::founding::{FoundError, check_node_name};
use crate::group::{ClusterId, Group, Lineage};
use crate::identity::{self, Identity, Pinned, link_files};
use crate::network::{Answer, Envelope, JoinRequest, NotWelcome, Request, Welcome, connection};
use crate::passport::{Passport, PassportError, Seed};
use crate::record::{FEATURE, NodeId, Refusal, Role, TokenId};
use crate::seal::{Kek, Secret};
use crate::token::JoinToken;

/// Name of the file below the state directory.
const PENDING_FILE: &str = "joining.json";

/// Longest a node may take to be reached, and then to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How often everybody is asked while there is no quorum.
const ROUNDS: usize = 3;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

const DISK: Disk = Disk::Files;

/// A machine that wants to join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What an operator of the cluster gave it.
    pub token: JoinToken,
    /// Members to ask, in this order.
    pub peers: Vec<SocketAddr>,
    /// Where the others will reach this node.
    pub advertise: SocketAddr,
    /// What people will call it.
    pub node_name: String,
    /// Serves or only votes.
    pub role: Role,
}

/// Why this machine is no member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No such token, or another secret.
    #[error("token {0}: is not known to the cluster; make a new one with `trigon token create`")]
    WrongToken(TokenId),
    /// The token has admitted everybody it could.
    #[error("token {0}: is spent; make a new one with `trigon token create`")]
    SpentToken(TokenId),
    /// The token's time is over.
    #[error("token {0}: has expired; make a new one with `trigon token create`")]
    ExpiredToken(TokenId),
    /// The token is for the other role.
    #[error(
        "token {id}: does not admit a {role}; make one with `trigon token create --role {role}`"
    )]
    WrongRole {
        /// The token.
        id: TokenId,
        /// What this machine wants to be.
        role: Role,
    },
    /// Whoever answered is not of the cluster the token is for.
    #[error(
        "{0}: is not a node of the cluster this token is for; check the address, and that the \
         token is of that cluster and not older than a change of its authority"
    )]
    WrongAuthority(SocketAddr),
    /// The clocks differ too much.
    #[error(
        "clock: {ahead_ms} ms ahead of the cluster (negative: behind), at most 5000 are allowed; \
         set both clocks with NTP"
    )]
    Clock {
        /// How much this clock is ahead.
        ahead_ms: i128,
    },
    /// The releases differ too much.
    #[error(
        "version: this release has feature level {FEATURE}, the cluster {theirs}; at most one \
         level apart works, install the release the cluster runs"
    )]
    Version {
        /// Of the node that was asked.
        theirs: u16,
    },
    /// The directory's node was removed.
    #[error(
        "{}: its node {number} was removed from this cluster; empty the directory and join as a \
         new node", dir.display()
    )]
    Removed {
        /// The directory.
        dir: PathBuf,
        /// The number it had.
        number: NodeId,
    },
    /// The directory's node is a member.
    #[error(
        "{}: its node {number} is a member of this cluster already; start it, or remove it and \
         empty the directory to join anew", dir.display()
    )]
    StillMember {
        /// The directory.
        dir: PathBuf,
        /// Its number.
        number: NodeId,
    },
    /// The directory belongs to a node of another cluster.
    #[error(transparent)]
    Directory(#[from] FoundError),
    /// The cluster cannot confirm anything now.
    #[error("cluster: no quorum; bring its nodes back, then join again with the same token")]
    NoQuorum,
    /// Only witnesses were asked.
    #[error("{0}: is a witness, which cannot admit anybody; name a load balancer with --peer")]
    OnlyWitness(SocketAddr),
    /// Too many tries.
    #[error("{0}: too many tries to join from here; wait a minute")]
    TooMany(SocketAddr),
    /// Another member has that name.
    #[error("name {0:?}: is that of another member; choose another node.name")]
    NameTaken(String),
    /// Another member has that address.
    #[error("address {0}: is that of another member; remove that one first, or advertise another")]
    AddressTaken(SocketAddr),
    /// The cluster is full.
    #[error("cluster: has as many members as there can be")]
    Full,
    /// Nobody answered.
    #[error("no node of the cluster could be asked: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The answer makes no sense.
    #[error("{0}: answered what this release does not understand: {1}")]
    Answer(SocketAddr, String),
    /// The passport.
    #[error(transparent)]
    Passport(#[from] PassportError),
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

/// What is kept until the answer is stored.
#[derive(Serialize, Deserialize)]
struct Pending {
    token: TokenId,
    key: String,
    request: Vec<u8>,
}

/// Becomes a member of the cluster the token is for. Afterwards `dir` is ready to start from.
///
/// # Errors
/// [`JoinError`] says why not and what to do.
pub async fn join(dir: &Path, joining: &Joining) -> Result<Passport, JoinError> {
    check_node_name(&joining.node_name)?;
    if !crate::config::is_reachable(joining.advertise) {
        return Err(FoundError::Address(joining.advertise).into());
    }
    let former = former(dir, joining)?;
    let io_error = |source| JoinError::Io { path: dir.to_owned(), source };
    let pending = match former {
        // Nothing will be stored.
        Some(_) => Pending::make(joining.token.id)?,
        None => {
            DISK.create_dir(dir).map_err(io_error)?;
            Pending::take_up(dir, joining.token.id)?
        }
    };
    let (peer, welcome) = ask_all(dir, joining, former, &pending).await?;
    store(dir, joining, peer, &pending, *welcome)
}

/// The number of the node that lives in the directory, if it is of the same cluster.
fn former(dir: &Path, joining: &Joining) -> Result<Option<NodeId>, JoinError> {
    let Some(passport) = Passport::load(dir)? else { return Ok(None) };
    let files = link_files(dir);
    let bundle = DISK.read(&files.ca, identity::MAX_PEM);
    if bundle.is_ok_and(|pem| identity::has_key(&pem, &joining.token.authority)) {
        return Ok(Some(passport.number));
    }
    let taken = FoundError::Taken {
        dir: dir.to_owned(),
        node: passport.node_name,
        cluster: passport.cluster_name,
    };
    Err(taken.into())
}

impl Pending {
    fn make(token: TokenId) -> Result<Self, JoinError> {
        let made = identity::request();
        let (key, request) = made.map_err(|error| JoinError::Directory(error.into()))?;
        Ok(Self { token, key, request })
    }

    /// What an earlier try with the same token left, or a new one.
    fn take_up(dir: &Path, token: TokenId) -> Result<Self, JoinError> {
        let path = dir.join(PENDING_FILE);
        let left = DISK.read(&path, identity::MAX_PEM).ok();
        let left = left.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if let Some(pending) = left.filter(|pending| pending.token == token) {
            return Ok(pending);
        }
        let pending = Self::make(token)?;
        let stored = serde_json::to_vec(&pending).map_err(io::Error::other);
        let stored = stored.and_then(|bytes| DISK.store(&path, &bytes));
        stored.map_err(|source| JoinError::Io { path, source })?;
        Ok(pending)
    }
}

async fn ask_all(
    dir: &Path,
    joining: &Joining,
    former: Option<NodeId>,
    pending: &Pending,
) -> Result<(SocketAddr, Box<Welcome>), JoinError> {
    let mut known = joining.peers.clone();
    let mut silent = Vec::new();
    let mut witness = None;
    let mut no_quorum = false;
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(PAUSE).await;
        }
        let mut waiting: VecDeque<_> = known.iter().copied().collect();
        (silent, no_quorum) = (Vec::new(), false);
        while let Some(peer) = waiting.pop_front() {
            let reason = match ask(peer, joining, former, pending).await {
                Ok(Answer::Welcome(welcome)) => return Ok((peer, welcome)),
                Ok(Answer::NotWelcome(reason)) => reason,
                Ok(other) => return Err(JoinError::Answer(peer, format!("{other:?}"))),
                Err(Silence::WrongAuthority) => return Err(JoinError::WrongAuthority(peer)),
                Err(Silence::Other(text)) => {
                    silent.push(format!("{peer}: {text}"));
                    continue;
                }
            };
            match reason {
                NotWelcome::NoQuorum => no_quorum = true,
                NotWelcome::AskAnother(others) => {
                    witness = Some(peer);
                    for other in others {
                        if !known.contains(&other) {
                            known.push(other);
                            waiting.push_back(other);
                        }
                    }
                }
                reason => return Err(refused(dir, joining, peer, reason)),
            }
        }
        if !no_quorum && silent.is_empty() {
            break;
        }
    }
    Err(match (no_quorum, witness) {
        (true, _) => JoinError::NoQuorum,
        (false, Some(witness)) if silent.is_empty() => JoinError::OnlyWitness(witness),
        (false, _) => JoinError::Unreachable(silent),
    })
}

/// What a refusal means here.
fn refused(dir: &Path, joining: &Joining, peer: SocketAddr, reason: NotWelcome) -> JoinError {
    let (id, role) = (joining.token.id, joining.role);
    match reason {
        NotWelcome::Refused(Refusal::WrongToken) => JoinError::WrongToken(id),
        NotWelcome::Refused(Refusal::SpentToken) => JoinError::SpentToken(id),
        NotWelcome::Refused(Refusal::ExpiredToken) => JoinError::ExpiredToken(id),
        NotWelcome::Refused(Refusal::WrongRole) => JoinError::WrongRole { id, role },
        NotWelcome::Refused(Refusal::NameTaken) => JoinError::NameTaken(joining.node_name.clone()),
        NotWelcome::Refused(Refusal::AddressTaken) => JoinError::AddressTaken(joining.advertise),
        NotWelcome::Refused(Refusal::Full) => JoinError::Full,
        NotWelcome::Refused(other) => JoinError::Answer(peer, format!("{other:?}")),
        NotWelcome::Clock { ours } => {
            JoinError::Clock { ahead_ms: i128::from(clock::now()) - i128::from(ours) }
        }
        NotWelcome::Version { ours } => JoinError::Version { theirs: ours },
        NotWelcome::Removed(number) => JoinError::Removed { dir: dir.to_owned(), number },
        NotWelcome::StillMember(number) => JoinError::StillMember { dir: dir.to_owned(), number },
        NotWelcome::NoQuorum => JoinError::NoQuorum,
        NotWelcome::AskAnother(_) => JoinError::OnlyWitness(peer),
        NotWelcome::TooMany => JoinError::TooMany(peer),
        NotWelcome::Malformed(text) => JoinError::Answer(peer, text),
    }
}

/// Why a peer gave no answer.
enum Silence {
    WrongAuthority,
    Other(String),
}

async fn ask(
    peer: SocketAddr,
    joining: &Joining,
    former: Option<NodeId>,
    pending: &Pending,
) -> Result<Answer, Silence> {
    let other = |text: String| Silence::Other(text);
    let tcp = timeout(CONNECT_LIMIT, TcpStream::connect(peer)).await;
    let tcp = tcp.map_err(|_| other("does not answer".to_owned()))?;
    let tcp = tcp.map_err(|error| other(error.to_string()))?;
    let exchange = async {
        let pinned = Pinned::new(joining.token.authority);
        let mut stream = match pinned.connect(tcp).await {
            Ok(stream) => stream,
            Err(_) if pinned.saw_stranger() => return Err(Silence::WrongAuthority),
            Err(error) => return Err(other(error.to_string())),
        };
        let request = JoinRequest {
            token: joining.token.id,
            secret: joining.token.secret.expose().to_vec(),
            request: pending.request.clone(),
            name: joining.node_name.clone(),
            role: joining.role,
            address: joining.advertise,
            feature: FEATURE,
            now: clock::now(),
            former,
        };
        // A stranger knows neither the group nor the numbers.
        let group = Group { cluster: ClusterId::nil(), generation: 0, lineage: Lineage([0; 16]) };
        let request = Request::Join(Box::new(request));
        let envelope = Envelope { group, from: 0, to: 0, request };
        connection::write(&mut stream, &envelope).await.map_err(|it| other(it.to_string()))?;
        connection::read(&mut stream).await.map_err(|it| other(it.to_string()))
    };
    let answer = timeout(ANSWER_LIMIT, exchange).await;
    answer.unwrap_or_else(|_| Err(other("does not answer in time".to_owned())))
}

/// Makes the directory a node's.
fn store(
    dir: &Path,
    joining: &Joining,
    peer: SocketAddr,
    pending: &Pending,
    welcome: Welcome,
) -> Result<Passport, JoinError> {
    let io_error = |source| JoinError::Io { path: dir.to_owned(), source };
    let Welcome { group, cluster_name, number, certificate, authorities, members, kek } = welcome;
    let key = Secret::new(pending.key.clone());
    identity::store(&DISK, dir, &authorities, &certificate, &key).map_err(io_error)?;
    Identity::load(&link_files(dir), &group.cluster.to_string(), number)
        .map_err(|error| JoinError::Answer(peer, error.to_string()))?;
    match (joining.role, kek.map(|kek| Kek::from_bytes(&kek))) {
        (Role::Node, Some(Ok(kek))) => kek.store(&DISK, dir).map_err(io_error)?,
        (Role::Witness, None) => {}
        _ => return Err(JoinError::Answer(peer, "a key for another role".to_owned())),
    }
    let member = Seed {
        number,
        name: joining.node_name.clone(),
        role: joining.role,
        address: Some(joining.advertise),
    };
    let mut passport = Passport::new(group, cluster_name, member);
    passport.seeds = members;
    // Last but for the cleaning: the passport is what makes the directory a node's.
    passport.store(dir)?;
    match DISK.remove(&dir.join(PENDING_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(passport),
    }
}
