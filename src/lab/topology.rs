//! Builds the place: switch, machines, processes, stand-ins. Dropping [`Lab`] takes it down.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::configs::{
    A, APP, APP_ID, APP_PORT, B, CLIENT, EXAPPS_PORT, Files, Member, NEXTCLOUD, NEXTCLOUD_PORT,
    VIP, WITNESS,
};
use super::console::Console;
use super::load::{Target, answers};
use super::namespaces::{Entered, Host, Lan, left_behind, wait_until};
use super::nextcloud::{App, Directory, Nextcloud, Route, User};
use super::node::Node;
use super::tunnel::{Choice, TunnelClient};
use super::{Error, Options, exapp, formation};
use crate::admin::nodes::Part;
use crate::admin::{self, Status};
use crate::net::listen;
use crate::secret::Secret;

/// Namespaces and directories of every lab begin like this.
const PREFIX: &str = "trigon-lab";
/// How long the cluster may take to become whole after a start or a repair.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// After how long a wait is explained to the reader, again and again.
const EXPLAIN_EVERY: Duration = Duration::from_secs(5);
/// The passphrase cookie of the only user.
const SESSION: &str = "lab-session";
/// Answers of the ExApp in a row that count as stable.
const IN_A_ROW: u32 = 20;

/// The two nodes by their place in [`Lab::nodes`].
pub(super) type NodeIndex = usize;

/// Everything that runs. Fields are dropped in this order: processes before their hosts' switch,
/// files last.
pub(super) struct Lab {
    app_answers: AnswerWatch,
    tunnel: TunnelClient,
    pub(super) nodes: [Node; 2],
    /// None in a pair.
    pub(super) witness: Option<Node>,
    pub(super) client: Host,
    /// Whether node a takes the address back whenever it can.
    preempts: bool,
    _exapp: Entered<std::io::Result<Infallible>>,
    _nextcloud: Entered<std::io::Result<Infallible>>,
    app_host: Host,
    nextcloud_host: Host,
    _directory: TempDir,
}

impl Lab {
    /// Builds and starts all of it; the tunnel client as soon as a node has its certificates.
    pub(super) async fn build(
        options: &Options,
        tunnel: &Choice,
        console: &Console,
    ) -> Result<Self, Error> {
        let witness = if options.pair { "" } else { "witness, " };
        console.progress(&format!(
            "building the network: switch, client, a, b, {witness}app, nextcloud"
        ));
        // First the network: it ends what a hard killed lab left running on its files.
        let lan = Lan::new(PREFIX).map_err(Error::network("the switch"))?;
        let directory = private_directory()?;
        let files = Files::new(directory.path(), options.advert_every(), options.fault.preempts())?;
        let host = |name: &str, address| {
            lan.host(name, address).map_err(Error::network(format!("host {name}")))
        };
        let client = host("client", CLIENT)?;
        let app_host = host("app", APP)?;
        let nextcloud_host = host("nextcloud", NEXTCLOUD)?;
        // A load of fresh connections must not run out of ports in a long session.
        client
            .sysctl("net.ipv4.ip_local_port_range", "1024 65000")
            .and_then(|()| client.sysctl("net.ipv4.tcp_tw_reuse", "1"))
            .map_err(Error::network("client"))?;

        let nextcloud = start_nextcloud(&nextcloud_host, &files)?;
        files.make_directory("app")?;
        let exapp = start_exapp(&app_host, &files)?;
        let node = |member: Member| {
            let config = files.write_member(member)?;
            let host = host(member.name, member.address)?;
            Ok::<_, Error>(Node::new(host, files.directory(member.name), config))
        };
        let mut nodes = [node(A)?, node(B)?];
        let mut witness = (!options.pair).then(|| node(WITNESS)).transpose()?;
        console.progress("founding the cluster on node a; the others join");
        let [first, second] = &mut nodes;
        formation::begin(first).await?;
        formation::take_in(first, second, B).await?;
        if let Some(witness) = &mut witness {
            formation::take_in(first, witness, WITNESS).await?;
        }
        console.progress("all members have joined; waiting for the FRP certificates");
        let certificates = files.frp_certificates(A);
        let exported = wait_until(SETTLE_LIMIT, || {
            nodes.iter_mut().chain(&mut witness).try_for_each(Node::check_alive)?;
            let names = ["ca.crt", "client.crt", "client.key"];
            Ok::<_, Error>(names.iter().all(|name| certificates.join(name).exists()))
        })
        .await?;
        if !exported {
            let all = nodes.iter().chain(&witness);
            return Err(Error::NotHealthy {
                waited_for: "FRP certificates exported by node a".into(),
                seconds: SETTLE_LIMIT.as_secs(),
                logs: all.map(Node::log_tail).collect(),
            });
        }
        let tunnel = tunnel.start(&app_host, &files)?;
        console.progress("started the tunnel client; waiting until everything is stable");
        Ok(Self {
            app_answers: AnswerWatch::start(&client)?,
            tunnel,
            nodes,
            witness,
            client,
            preempts: options.fault.preempts(),
            _exapp: exapp,
            _nextcloud: nextcloud,
            app_host,
            nextcloud_host,
            _directory: directory,
        })
    }

    /// Gives the next round a tunnel client without a past.
    pub(super) fn refresh_tunnel_client(&mut self) -> Result<(), Error> {
        self.tunnel.refresh(&self.app_host)
    }

    /// Where the load goes.
    pub(super) fn target() -> Target {
        Target {
            address: SocketAddr::from((VIP, EXAPPS_PORT)),
            base: format!("/exapps/{APP_ID}"),
            cookie: format!("nc_session_id=lab; oc_sessionPassphrase={SESSION}"),
        }
    }

    /// The node whose kernel owns the virtual IP, if exactly one does.
    pub(super) fn holder(&self) -> Result<Option<NodeIndex>, Error> {
        match self.holders()?[..] {
            [one] => Ok(Some(one)),
            _ => Ok(None),
        }
    }

    /// All nodes whose kernels own the virtual IP.
    pub(super) fn holders(&self) -> Result<Vec<NodeIndex>, Error> {
        let mut holders = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.holds(VIP)? {
                holders.push(index);
            }
        }
        Ok(holders)
    }

    /// Waits for the state a round starts from: everything ready, a quorum, node a Active (or any
    /// node, without preemption) and the other Backup, the ExApp answering steadily through the address.
    pub(super) async fn settle(&mut self, console: &Console) -> Result<(), Error> {
        let end = Instant::now() + SETTLE_LIMIT;
        let mut explain = Instant::now() + EXPLAIN_EVERY;
        self.app_answers.begin();
        loop {
            self.check_alive()?;
            let Some(missing) = self.missing().await? else { break };
            if Instant::now() >= end {
                let nodes = self.nodes.iter().chain(&self.witness);
                let logs: String = nodes.map(Node::log_tail).collect();
                return Err(Error::NotHealthy {
                    waited_for: missing,
                    seconds: SETTLE_LIMIT.as_secs(),
                    logs: logs + &self.tunnel.log_tail(),
                });
            }
            if Instant::now() >= explain {
                explain += EXPLAIN_EVERY;
                console.progress(&format!("still waiting for {missing}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.app_answers.pause();
        Ok(())
    }

    /// How often virtual routers have changed their state since the start.
    pub(super) fn transitions(&self) -> u64 {
        self.nodes.iter().map(Node::transitions).sum()
    }

    /// Fails if anything that should run has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        self.nodes.iter_mut().chain(&mut self.witness).try_for_each(Node::check_alive)?;
        self.tunnel.check_alive()
    }

    /// What is not yet as a round needs it.
    async fn missing(&self) -> Result<Option<String>, Error> {
        let active = if self.preempts { Some(0) } else { self.holder()? };
        for (index, node) in self.nodes.iter().enumerate() {
            let state = if active == Some(index) { "active" } else { "backup" };
            let name = node.host().name();
            let Some(status) = node.status().await else {
                return Ok(Some(format!("node {name} answering on its admin socket")));
            };
            let members = 2 + usize::from(self.witness.is_some());
            if let Some(reason) = shortcoming(&status, state, members) {
                return Ok(Some(format!("node {name} {reason}")));
            }
        }
        if active.is_none() || self.holder()? != active {
            let who = if self.preempts { "node a" } else { "one node" };
            return Ok(Some(format!("the virtual IP held by {who} alone")));
        }
        let steady = self.app_answers.is_steady();
        Ok((!steady).then(|| "the ExApp answering through the virtual IP".into()))
    }

    /// What `--keep` prints: URLs, and how to look around.
    pub(super) fn guide(&self) -> String {
        let Target { address, base, cookie } = Self::target();
        let client = self.client.namespace();
        let mut text = format!(
            "page       ip netns exec {client} curl http://{address}{base}/public/\n\
             as a user  ip netns exec {client} curl -b '{cookie}' http://{address}{base}/user/headers\n\
             events     ip netns exec {client} curl -N http://{address}{base}/public/events\n"
        );
        for node in self.nodes.iter().chain(&self.witness) {
            let (name, directory) = (node.host().name(), node.directory().display());
            text += &format!(
                "{name:<10} ip netns exec {} bash; log {directory}/log; trigon status --socket {directory}/admin.sock\n",
                node.host().namespace(),
            );
        }
        for host in [&self.app_host, &self.nextcloud_host] {
            text += &format!("{:<10} ip netns exec {} bash\n", host.name(), host.namespace());
        }
        text
    }
}

fn shortcoming(status: &Status, state: &str, members: usize) -> Option<String> {
    if !status.ready {
        return Some(format!("ready (it waits for {})", status.waiting_for.join(", ")));
    }
    if !status.cluster.quorum {
        return Some("in a cluster with a quorum".into());
    }
    // A pair has one voter, and a learner that knows everything.
    let voters = if members == 2 { 1 } else { members };
    let takes_part = |member: &&admin::nodes::Node| member.part != Part::Joining;
    let taking_part = status.cluster.members.0.iter().filter(takes_part).count();
    if taking_part < members || status.cluster.voters.len() != voters {
        return Some(format!("in a cluster of {members} members"));
    }
    let right = status.vrrp.iter().all(|router| router.state == state);
    (!right).then(|| format!("in VRRP state {state}"))
}

/// Asks the ExApp again and again from the client's host, without a load.
struct AnswerWatch {
    shared: Arc<WatchState>,
    _thread: Entered<()>,
}

#[derive(Default)]
struct WatchState {
    asking: AtomicBool,
    in_a_row: std::sync::atomic::AtomicU32,
}

impl AnswerWatch {
    fn start(client: &Host) -> Result<Self, Error> {
        let shared = Arc::new(WatchState::default());
        let state = Arc::clone(&shared);
        let thread = client
            .enter_thread(move || async move {
                let target = Lab::target();
                loop {
                    if state.asking.load(Ordering::Relaxed) {
                        if answers(&target).await {
                            state.in_a_row.fetch_add(1, Ordering::Relaxed);
                        } else {
                            state.in_a_row.store(0, Ordering::Relaxed);
                        }
                    }
                    sleep(Duration::from_millis(25)).await;
                }
            })
            .map_err(Error::network("client"))?;
        Ok(Self { shared, _thread: thread })
    }

    fn begin(&self) {
        self.shared.in_a_row.store(0, Ordering::Relaxed);
        self.shared.asking.store(true, Ordering::Relaxed);
    }

    fn pause(&self) {
        self.shared.asking.store(false, Ordering::Relaxed);
    }

    fn is_steady(&self) -> bool {
        self.shared.in_a_row.load(Ordering::Relaxed) >= IN_A_ROW
    }
}

/// Makes the directory for all files, and removes those of labs that were killed hard.
fn private_directory() -> Result<TempDir, Error> {
    let place = std::env::temp_dir();
    for name in left_behind(&place, PREFIX) {
        // Another lab may be sweeping the same one.
        let _ = std::fs::remove_dir_all(place.join(name));
    }
    let prefix = format!("{PREFIX}-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&place).map_err(|reason| Error::File {
        path: place,
        what: "no directory could be made in it",
        reason,
    })
}

fn start_nextcloud(
    host: &Host,
    files: &Files,
) -> Result<Entered<std::io::Result<Infallible>>, Error> {
    let mut directory = Directory::new(Secret::new(files.key()));
    let routes = ["/public", "/user", "/admin"].into_iter().zip(0..).map(|(path, level)| Route {
        url: format!("^{path}"),
        access_level: level,
        bruteforce_protection: Vec::new(),
    });
    directory.apps.insert(
        APP_ID.into(),
        App {
            exapp_token: "lab-exapp-token".into(),
            exapp_version: "1.0.0".into(),
            host: "127.0.0.1".into(),
            port: APP_PORT,
            routes: routes.collect(),
        },
    );
    let alice = User { user_id: "alice".into(), access_level: 1 };
    directory.sessions.insert(SESSION.into(), alice);
    let nextcloud = Nextcloud::new(directory);
    host.enter_thread(move || async move {
        let listener = bind((NEXTCLOUD, NEXTCLOUD_PORT).into())?;
        Ok(nextcloud.serve(listener).await)
    })
    .map_err(Error::network("the stand-in Nextcloud could not be started"))
}

fn start_exapp(host: &Host, files: &Files) -> Result<Entered<std::io::Result<Infallible>>, Error> {
    let socket = files.exapp_socket();
    host.enter_thread(move || async move { exapp::serve_unix(&socket).await })
        .map_err(Error::network("the ExApp could not be started"))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    listen::bind(address)
}
