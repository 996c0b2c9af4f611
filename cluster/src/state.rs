//! The replicated state and how commands change it. Sans-io: deterministic, no clock; the same
//! log gives the same bytes on every node.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::command::{Command, Reply, SoftBatch};
use crate::record::{
    ExApp, FrpPki, MAX_SESSIONS, MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis, NodeId, Session,
    SessionKey, Strike, Tunnel,
};

/// Everything the nodes share. Cloning is cheap: the tables are persistent maps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    exapps: OrdMap<String, Arc<ExApp>>,
    revisions: OrdMap<String, u64>,
    tunnels: OrdMap<u16, Arc<Tunnel>>,
    pki: Option<Arc<FrpPki>>,
    strikes: OrdMap<(NodeId, IpAddr), Vector<Millis>>,
    /// Left out of snapshots: a replica without them only asks Nextcloud again.
    #[serde(skip)]
    sessions: HashMap<SessionKey, Arc<Session>>,
}

impl State {
    /// Carries out one command.
    pub fn apply(&mut self, command: &Command) -> Reply {
        match command {
            Command::PushExApp(record) => {
                self.bump(&record.id);
                self.exapps.insert(record.id.clone(), Arc::new(record.clone()));
                Reply::Done
            }
            Command::CacheExApp { record, revision } => {
                if self.exapp_revision(&record.id) != *revision {
                    return Reply::Nothing;
                }
                self.exapps.insert(record.id.clone(), Arc::new(record.clone()));
                Reply::Done
            }
            Command::DeleteExApp { id } => {
                self.bump(id);
                done_if(self.exapps.remove(id).is_some())
            }
            Command::TunnelUp(tunnel) => {
                self.tunnels.insert(tunnel.port, Arc::new(tunnel.clone()));
                Reply::Done
            }
            Command::TunnelDown { port, run_id } => {
                let ours = self.tunnels.get(port).is_some_and(|known| known.run_id == *run_id);
                done_if(ours && self.tunnels.remove(port).is_some())
            }
            Command::InitPki(pki) => {
                if self.pki.is_some() {
                    return Reply::Nothing;
                }
                self.pki = Some(Arc::new(pki.clone()));
                Reply::Done
            }
            Command::Soft(batch) => {
                self.apply_soft(batch);
                Reply::Done
            }
        }
    }

    /// The record of an ExApp, by lower-cased id.
    pub fn exapp(&self, id: &str) -> Option<&Arc<ExApp>> {
        self.exapps.get(id)
    }

    /// Every ExApp record, by id.
    pub fn exapps(&self) -> impl Iterator<Item = &Arc<ExApp>> {
        self.exapps.values()
    }

    /// Counts pushes and deletes of an id; read it before a fetch and hand it to
    /// [`Command::CacheExApp`].
    pub fn exapp_revision(&self, id: &str) -> u64 {
        self.revisions.get(id).copied().unwrap_or(0)
    }

    /// The registration of a port.
    pub fn tunnel(&self, port: u16) -> Option<&Arc<Tunnel>> {
        self.tunnels.get(&port)
    }

    /// Every registered tunnel, by port.
    pub fn tunnels(&self) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.tunnels.values()
    }

    /// The FRP certificates, once some node has made them.
    pub fn pki(&self) -> Option<&Arc<FrpPki>> {
        self.pki.as_ref()
    }

    /// A session that is still valid at `now`.
    pub fn session(&self, key: &SessionKey, now: Millis) -> Option<&Arc<Session>> {
        self.sessions.get(key).filter(|session| now < session.expires_at)
    }

    /// How often `address` (through [`ban_key`](crate::record::ban_key)) failed after `since` on
    /// nodes other than `except`, which counts its own at once and more exactly.
    pub fn strikes(&self, address: IpAddr, since: Millis, except: NodeId) -> usize {
        self.strikes
            .iter()
            .filter(|((node, struck), _)| *node != except && *struck == address)
            .map(|(_, times)| times.iter().filter(|at| **at > since).count())
            .sum()
    }

    fn bump(&mut self, id: &str) {
        let next = self.exapp_revision(id) + 1;
        self.revisions.insert(id.to_owned(), next);
    }

    fn apply_soft(&mut self, batch: &SoftBatch) {
        for (key, session) in &batch.sessions {
            self.sessions.insert(*key, Arc::new(session.clone()));
        }
        if self.sessions.len() > MAX_SESSIONS {
            self.sessions.retain(|_, session| batch.now < session.expires_at);
        }
        for strike in &batch.strikes {
            self.strike(strike);
        }
    }

    fn strike(&mut self, strike: &Strike) {
        let key = (strike.node, strike.address);
        if !self.strikes.contains_key(&key) && self.strikes.len() >= MAX_STRIKE_KEYS {
            return;
        }
        let mut times = self.strikes.get(&key).cloned().unwrap_or_default();
        times.push_back(strike.at);
        while times.len() > MAX_STRIKES_PER_KEY {
            times.pop_front();
        }
        self.strikes.insert(key, times);
    }
}

fn done_if(done: bool) -> Reply {
    if done { Reply::Done } else { Reply::Nothing }
}
