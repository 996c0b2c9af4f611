//! The state of a node in one value: the JSON of `GET /status` and the text of `trigon status`.

use std::fmt;

use cluster::pair::PairStatus;
use serde::{Deserialize, Serialize};

use super::nodes::Nodes;
use super::public::Public;
use super::table::span;
use super::vrrp::Router;
use crate::balance::Member;
use crate::database::Report;

/// One node as it sees itself and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running binary.
    pub version: String,
    /// Node name from the configuration.
    pub name: String,
    /// `node` or `witness`.
    pub role: String,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// Whether everything this node needs in order to serve is up.
    pub ready: bool,
    /// Why not, when it is not.
    pub waiting_for: Vec<String>,
    /// Whether it is drained, or about to be.
    #[serde(default)]
    pub draining: bool,
    /// How far that is.
    #[serde(default)]
    pub drain: Option<super::drain::Drain>,
    /// Virtual routers, none on a witness.
    pub vrrp: Vec<Router>,
    /// The process that cleans up after this one; none without virtual routers.
    #[serde(default)]
    pub guardian: Option<Guardian>,
    /// The other members as they are heard on the control links.
    #[serde(default)]
    pub presence: Vec<PeerPresence>,
    /// The listener for the public name, if there is one.
    #[serde(default)]
    pub public: Option<Public>,
    /// What somebody has to look at now.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
    /// The replicated state's engine.
    pub cluster: Cluster,
    /// Tunnels anyone in the cluster has registered.
    pub tunnels: Vec<Tunnel>,
    /// Ids of the ExApps on record.
    pub exapps: Vec<String>,
    /// The front of the database, if there is one.
    #[serde(default)]
    pub galera: Option<Report>,
    /// The servers behind this node, pool by pool.
    #[serde(default)]
    pub backends: Vec<Member>,
}

/// The process that says goodbye and removes the addresses should this one be killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guardian {
    /// Its process id while it watches.
    pub pid: Option<u32>,
    /// How often one that was gone was started again.
    pub restarts: u64,
}

/// Another member as this node hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPresence {
    /// Its id.
    pub node: u64,
    /// `node` or `witness`.
    pub role: String,
    /// Whether there is a presence connection.
    pub connected: bool,
    /// Milliseconds since its last beat; none was heard since this node started when missing.
    pub heard_ms_ago: Option<u64>,
    /// The way there and back in microseconds, once measured.
    pub round_trip_us: Option<u64>,
    /// Beats heard since this node started.
    pub beats: u64,
    /// Whether it says that it can serve.
    pub healthy: bool,
    /// What it says about its virtual routers, a few words each.
    pub says: Vec<String>,
    /// The nodes it says it hears itself.
    pub hears: Vec<u64>,
}

/// Something somebody has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// `vrrp_segment_cut`, `isolated`, `clock_off`, `witness_lost`, `pair_degraded`, `pair_async`,
    /// `certificate_ends`, `drained` or `last_resort`.
    pub name: String,
    /// The virtual router it is about, unless it is about the node.
    pub router: Option<String>,
    /// Seconds since it was raised.
    pub since_seconds: u64,
    /// What is wrong and where to look.
    pub text: String,
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's name.
    #[serde(default)]
    pub name: String,
    /// The cluster's id, for ever.
    #[serde(default)]
    pub id: String,
    /// This node's id.
    pub node_id: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `shutdown`.
    pub state: String,
    /// Raft term.
    pub term: u64,
    /// Leader's id, when one is known.
    pub leader: Option<u64>,
    /// Whether durable changes can be made now.
    pub quorum: bool,
    /// Whether this node takes no changes because its disk is full.
    #[serde(default)]
    pub disk_full: bool,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Ids of the voters.
    pub voters: Vec<u64>,
    /// Whether a change of who votes is under way: until it is over, a quorum of those before is
    /// needed too.
    #[serde(default)]
    pub changing: bool,
    /// Those that do not answer; only the leader can tell.
    pub silent: Vec<u64>,
    /// Every member, with or without a vote.
    #[serde(default)]
    pub members: Nodes,
    /// How many tokens machines may still join with.
    #[serde(default)]
    pub tokens: usize,
    /// The certificates of the control link.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Client connections at virtual addresses.
    #[serde(default)]
    pub flows: Flows,
    /// Counts how often one node went on alone.
    #[serde(default)]
    pub generation: u64,
    /// Tells two generations of one number apart.
    #[serde(default)]
    pub lineage: String,
    /// Entries the learner farthest behind has yet to store; only the leader can tell.
    #[serde(default)]
    pub lag: Option<u64>,
    /// How the pair stands; none: this cluster is no pair.
    #[serde(default)]
    pub pair: Option<PairStatus>,
}

/// A certificate of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// `cluster` (this node's) or `cluster_ca` (the authority's); of the tunnel port `frp_server`,
    /// `frp_client`, `frp_ca` (the authority that signs) and `frp_oldest_ca`.
    pub name: String,
    /// Seconds until it ends; 0 if it has ended.
    pub ends_in_seconds: u64,
}

/// Client connections at virtual addresses that are known, for the next holder to wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Of tunnel clients, to this node.
    pub tunnels: usize,
    /// Of others, to this node.
    pub clients: usize,
    /// To other nodes.
    pub elsewhere: usize,
    /// Not recorded because there were too many, since the start.
    pub turned_away: u64,
}

/// One registered tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Registered port.
    pub port: u16,
    /// Proxy name.
    pub proxy: String,
    /// Node that holds it.
    pub node: u64,
    /// frpc's address.
    pub client: String,
    /// Whether it is connected to this node now.
    pub live_here: bool,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, name, role, .. } = self;
        writeln!(f, "trigon {version}  {role} {name}  up {}", span(self.uptime_seconds))?;
        if self.ready {
            writeln!(f, "ready")?;
        } else {
            writeln!(f, "not ready: waiting for {}", self.waiting_for.join(", "))?;
        }
        if let Some(drain) = &self.drain {
            writeln!(f, "{drain}")?;
        }
        for router in &self.vrrp {
            writeln!(f, "{}", router.summary())?;
            for (reason, count) in &router.refused {
                writeln!(f, "         refused {count} packets: {reason}")?;
            }
        }
        if let Some(Guardian { pid: None, .. }) = self.guardian {
            writeln!(f, "NO GUARDIAN: if this process is killed, its addresses stay for a lease")?;
        }
        for alarm in &self.alarms {
            let Alarm { name, router, since_seconds, text } = alarm;
            let router = router.as_ref().map(|router| format!(" {router}")).unwrap_or_default();
            writeln!(f, "ALARM    {name}{router} for {}: {text}", span(*since_seconds))?;
        }
        if let Some(public) = &self.public {
            public.fmt(f)?;
        }
        for peer in &self.presence {
            let heard = peer.heard_ms_ago.map(|ago| format!("heard {ago} ms ago"));
            let heard = heard.unwrap_or_else(|| "never heard".to_owned());
            let says = peer.says.join("; ");
            writeln!(f, "presence node {} ({}) {heard}  {says}", peer.node, peer.role)?;
        }
        let cluster = &self.cluster;
        let leader = cluster.leader.map_or("none".to_owned(), |id| format!("node {id}"));
        let quorum = if cluster.quorum { "quorum" } else { "NO QUORUM" };
        writeln!(
            f,
            "cluster  {} node {} is {}, leader {leader}, term {}, {quorum}, applied {}",
            cluster.name, cluster.node_id, cluster.state, cluster.term, cluster.applied
        )?;
        if let Some(pair) = &cluster.pair {
            for line in super::cluster::pair_lines(pair, cluster.generation, cluster.lag) {
                writeln!(f, "pair     {line}")?;
            }
        }
        if cluster.disk_full {
            writeln!(f, "DISK FULL: the node takes no changes until there is room in state_dir")?;
        }
        for member in &cluster.members.0 {
            writeln!(f, "{}", member.summary())?;
        }
        if cluster.tokens > 0 {
            writeln!(f, "tokens   {} good for joining", cluster.tokens)?;
        }
        for Certificate { name, ends_in_seconds } in &cluster.certificates {
            match ends_in_seconds {
                0 => writeln!(f, "HAS ENDED: certificate {name}")?,
                left => writeln!(f, "expiry   certificate {name} in {}", span(*left))?,
            }
        }
        let Flows { tunnels, clients, elsewhere, turned_away } = cluster.flows;
        if tunnels + clients + elsewhere > 0 {
            writeln!(
                f,
                "flows    {tunnels} of tunnel clients and {clients} of others here, \
                 {elsewhere} elsewhere"
            )?;
        }
        if turned_away > 0 {
            writeln!(f, "         {turned_away} not recorded: too many at once")?;
        }
        for tunnel in &self.tunnels {
            let place = if tunnel.live_here { "live here" } else { "not connected here" };
            writeln!(
                f,
                "tunnel   {:<5} {:<24} node {} from {}  {place}",
                tunnel.port, tunnel.proxy, tunnel.node, tunnel.client
            )?;
        }
        for member in &self.backends {
            writeln!(f, "{}", super::backends::line(member))?;
        }
        if !self.exapps.is_empty() {
            writeln!(f, "exapps   {}", self.exapps.join(" "))?;
        }
        if let Some(galera) = &self.galera {
            write!(f, "{galera}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_waits_says_for_what() {
        let status = Status {
            waiting_for: vec!["frp certificates".into()],
            guardian: Some(Guardian::default()),
            ..Status::default()
        };
        let text = status.to_string();
        assert!(text.contains("not ready: waiting for frp certificates"), "{text}");
        assert!(text.contains("NO QUORUM"), "{text}");
        assert!(text.contains("NO GUARDIAN"), "{text}");
    }
}
