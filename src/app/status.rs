//! Puts together what `trigon status` shows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::flows::FlowCounts;
use cluster::{Passport, RaftState};
use tokio_util::sync::CancellationToken;

use super::drain::Drainer;
use super::guardian::View;
use super::public::Public;
use super::routers;
use super::scrape::{Reading, TunnelPort};
use super::vantage::Vantage;
use super::watchdog::headline;
use crate::admin::Membership;
use crate::admin::backends::Office;
use crate::admin::drain::Drain;
use crate::admin::status::{Alarm, Certificate, Cluster, Flows, PeerPresence, Status, Tunnel};
use crate::admin::vrrp::Router;
use crate::database::Database;
use crate::frp;
use crate::guard::{self, Guard};

/// The VRRP thread; `None` without virtual routers and after it was stopped.
pub(super) type Speaker = Arc<Mutex<Option<vrrp::SpeakerHandle>>>;

/// Everything status is read from. Reading never waits for anything but a short lock.
pub(super) struct Facts {
    name: String,
    passport: Passport,
    started: Instant,
    cluster: cluster::Handle,
    membership: Membership,
    tunnels: Option<frp::Tunnels>,
    speaker: Speaker,
    guardian: Option<View>,
    vantage: Arc<Vantage>,
    ready: CancellationToken,
    drainer: Option<Drainer>,
    public: Option<Public>,
    database: Option<Database>,
    backends: Option<Office>,
}

impl Facts {
    /// The facts of a witness: only the cluster, ready as soon as it runs.
    pub(super) fn witness(
        (name, passport): (String, Passport),
        cluster: cluster::Handle,
        vantage: Arc<Vantage>,
    ) -> Self {
        let ready = CancellationToken::new();
        ready.cancel();
        Self {
            name,
            passport,
            started: Instant::now(),
            membership: Membership::new(cluster.clone()),
            cluster,
            tunnels: None,
            speaker: Speaker::default(),
            guardian: None,
            vantage,
            ready,
            drainer: None,
            public: None,
            database: None,
            backends: None,
        }
    }

    /// The facts of a node; `ready` is cancelled once it can serve.
    pub(super) fn node(
        (name, passport): (String, Passport),
        cluster: cluster::Handle,
        (tunnels, database): (frp::Tunnels, Option<Database>),
        (speaker, guardian): (Speaker, Option<View>),
        vantage: Arc<Vantage>,
        (ready, drainer, backends): (CancellationToken, Drainer, Office),
    ) -> Self {
        Self {
            name,
            passport,
            started: Instant::now(),
            membership: Membership::new(cluster.clone()),
            cluster,
            tunnels: Some(tunnels),
            speaker,
            guardian,
            vantage,
            ready,
            drainer: Some(drainer),
            public: None,
            database,
            backends: Some(backends),
        }
    }

    /// With the public listener, if there is one.
    pub(super) fn with_public(self, public: Option<Public>) -> Self {
        Self { public, ..self }
    }

    /// Time since the process started.
    pub(super) fn up_for(&self) -> Duration {
        self.started.elapsed()
    }

    /// How the cluster stands.
    pub(super) fn cluster_status(&self) -> cluster::ClusterStatus {
        self.cluster.status()
    }

    /// Whom this node hears.
    pub(super) fn heard(&self) -> Arc<cluster::presence::Heard> {
        self.vantage.presence().heard()
    }

    /// Replaces the alarms about the node's own state.
    pub(super) fn raise(&self, now: Instant, current: Vec<crate::failover::alarms::Alarm>) {
        self.vantage.raise(now, current);
    }

    /// What the node waits for before it can serve.
    pub(super) fn waiting_for(&self) -> Vec<String> {
        let certificates = (!self.ready.is_cancelled()).then(|| "the frp certificates".to_owned());
        let admin = self.drain().map(|_| "`trigon undrain`: it is drained".to_owned());
        certificates.into_iter().chain(admin).collect()
    }

    /// How far a drain is, while there is one.
    pub(super) fn drain(&self) -> Option<Drain> {
        self.drainer.as_ref()?.progress()
    }

    /// How it stands in a line.
    pub(super) fn headline(&self) -> String {
        headline(&self.waiting_for(), &self.routers(), &self.cluster.status())
    }

    /// One look for `/metrics`; `files` are certificates and what they are called there.
    pub(super) fn reading(
        &self,
        guard: Option<&Guard>,
        files: &[(&'static str, PathBuf)],
        state_dir: &Path,
    ) -> Reading {
        let banned = guard.map(|guard| {
            let list = guard.list();
            let count = |by_admin| {
                let of = |entry: &&guard::Entry| {
                    entry.banned && matches!(entry.source, guard::Source::Admin { .. }) == by_admin
                };
                list.iter().filter(of).count()
            };
            vec![("failures", count(false)), ("admin", count(true))]
        });
        Reading {
            status: self.status(),
            cluster: self.cluster.status(),
            sessions: self.cluster.read(cluster::State::session_count),
            banned: banned.unwrap_or_default(),
            tunnel_port: self.tunnels.as_ref().map(|tunnels| {
                let (clients, live) = tunnels.counts();
                TunnelPort { clients, tunnels: live, work_connections: tunnels.connections() }
            }),
            measures: self.cluster.measures(),
            store_bytes: size_of(&state_dir.join("raft")),
            certificates: self.certificates_in_use(files),
            presence_refused: self.vantage.presence().refused(),
        }
    }

    pub(super) fn status(&self) -> Status {
        let (waiting_for, drain) = (self.waiting_for(), self.drain());
        let view = self.cluster.view();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            role: self.passport.role.to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: waiting_for.is_empty(),
            waiting_for,
            draining: drain.is_some(),
            drain,
            vrrp: self.routers(),
            guardian: self.guardian.as_ref().map(View::status),
            presence: self.presence(),
            public: self.public.as_ref().map(|public| public.status(&self.cluster)),
            alarms: self.alarms(),
            cluster: self.cluster(),
            tunnels: self.tunnels.iter().flat_map(tunnels).collect(),
            galera: self.database.as_ref().map(Database::report),
            exapps: view.exapps().map(|(tenant, record)| tenant.label(&record.id)).collect(),
            backends: self.backends.iter().flat_map(|office| (office.list)()).collect(),
        }
    }

    fn routers(&self) -> Vec<Router> {
        let speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        let states = speaker.iter().flat_map(vrrp::SpeakerHandle::states);
        let now = Instant::now();
        let (heard, node) = (self.heard(), self.cluster.node_id());
        let shown = states.map(|status| {
            let holder = routers::holder(&status, node, &heard, now);
            routers::shown(status, holder, now)
        });
        shown.collect()
    }

    fn presence(&self) -> Vec<PeerPresence> {
        let heard = self.vantage.presence().heard();
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let peers = heard.peers.iter().map(|(node, peer)| PeerPresence {
            node: *node,
            role: peer.role.to_string(),
            connected: peer.connected,
            heard_ms_ago: peer.last.as_ref().map(|told| millis(told.at.elapsed())),
            round_trip_us: peer.round_trip.map(micros),
            beats: peer.beats,
            healthy: peer.last.as_ref().is_some_and(|told| told.word.healthy),
            says: peer.last.iter().flat_map(|told| said(&told.word)).collect(),
            hears: peer.hears.iter().map(|(node, _)| *node).collect(),
        });
        peers.collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        let raised = self.vantage.alarms().into_iter().map(|alarm| Alarm {
            name: alarm.kind.name().to_owned(),
            router: alarm.router.map(|name| name.to_string()),
            since_seconds: alarm.since.elapsed().as_secs(),
            text: alarm.text,
        });
        raised.collect()
    }

    fn cluster(&self) -> Cluster {
        let status = self.cluster.status();
        let state = match status.state {
            RaftState::Leader => "leader",
            RaftState::Follower => "follower",
            RaftState::Candidate => "candidate",
            RaftState::Learner => "learner",
            RaftState::Shutdown => "shutdown",
        };
        let all = status.voters.iter().chain(&status.learners);
        let silent = all.filter(|member| member.reachable == Some(false));
        Cluster {
            name: self.passport.cluster_name.clone(),
            id: self.passport.group.cluster.to_string(),
            node_id: status.node_id,
            state: state.to_owned(),
            term: status.term,
            leader: status.leader,
            quorum: status.quorum,
            disk_full: status.disk_full,
            applied: status.last_applied.unwrap_or(0),
            voters: status.voters.iter().map(|voter| voter.id).collect(),
            changing: status.changing,
            silent: silent.map(|voter| voter.id).collect(),
            generation: status.group.generation,
            lineage: status.group.lineage.to_string(),
            lag: status.learners.iter().filter_map(|learner| learner.lag).max(),
            members: self.membership.nodes(),
            tokens: self.membership.tokens().0.len(),
            certificates: self.certificates(),
            flows: flows(self.cluster.flows().lock().counts()),
            pair: status.pair,
        }
    }
}

impl Facts {
    /// The certificates of the control link, and when each ends in seconds since the Unix epoch.
    fn link_certificates(&self) -> Vec<(&'static str, u64)> {
        let Some(link) = self.cluster.certificates() else { return Vec::new() };
        let signer = link.authorities.iter().find(|authority| authority.signs);
        let signer = signer.map(|signer| ("cluster_ca", signer.ends_at));
        [("cluster", link.ends_at)].into_iter().chain(signer).collect()
    }

    /// Everything this node uses, and when each ends; `files` are certificates and what they are
    /// called.
    pub(super) fn certificates_in_use(
        &self,
        files: &[(&'static str, PathBuf)],
    ) -> Vec<(&'static str, u64)> {
        let of_file = |path: &PathBuf| cluster::identity::ends_at(&std::fs::read(path).ok()?);
        let on_disk = files.iter().filter_map(|(name, path)| Some((*name, of_file(path)?)));
        let mut certificates = self.link_certificates();
        certificates.extend(on_disk);
        let public = self.public.as_ref().and_then(Public::ends_at);
        certificates.extend(public.map(|ends| ("public", ends)));
        certificates.extend(self.tunnel_certificates());
        certificates
    }

    /// The certificates of the tunnel port.
    fn tunnel_certificates(&self) -> Vec<(&'static str, u64)> {
        let view = self.cluster.view();
        let (Some(pki), Some(_)) = (view.pki(), &self.tunnels) else { return Vec::new() };
        let authority = pki.newest().map(|newest| ("frp_ca", newest.own.until));
        // The oldest ends first, and with it every client that knows no other.
        let older = pki.authorities.first().map(|oldest| ("frp_oldest_ca", oldest.own.until));
        let leaves = [("frp_server", pki.server.until), ("frp_client", pki.client.until)];
        let all = authority.into_iter().chain(older).chain(leaves);
        all.map(|(name, until)| (name, until / 1000)).collect()
    }

    fn certificates(&self) -> Vec<Certificate> {
        let now = cluster::clock::now() / 1000;
        let listed = self.link_certificates().into_iter().chain(self.tunnel_certificates());
        let shown = listed.map(|(name, ends)| Certificate {
            name: name.to_owned(),
            ends_in_seconds: ends.saturating_sub(now),
        });
        shown.collect()
    }
}

fn flows(counts: FlowCounts) -> Flows {
    let FlowCounts { controls, clients, heard, turned_away } = counts;
    Flows { tunnels: controls, clients, elsewhere: heard, turned_away }
}

/// What a peer says about its virtual routers, a few words each.
fn said(word: &cluster::presence::Word) -> impl Iterator<Item = String> {
    word.routers.iter().map(|router| {
        let state = match router.state {
            cluster::presence::RouterState::Initialize => "initialize",
            cluster::presence::RouterState::Backup => "backup",
            cluster::presence::RouterState::Active if router.advertising => "active",
            cluster::presence::RouterState::Active => "active without advertisements",
        };
        let yielding = if router.yielding { ", yielding" } else { "" };
        format!("{} {state}, priority {}{yielding}", router.name, router.priority)
    })
}

fn tunnels(tunnels: &frp::Tunnels) -> Vec<Tunnel> {
    let shown = tunnels.status().into_iter().map(|tunnel| Tunnel {
        port: tunnel.port,
        proxy: tunnel.tenant.label(&tunnel.proxy),
        node: tunnel.node,
        client: tunnel.client.to_string(),
        live_here: tunnel.live_here,
    });
    shown.collect()
}

/// Bytes of the files below a folder; what vanishes meanwhile does not count.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
