//! Builds the place: switch, machines, processes, stand-ins. Dropping [`Lab`] takes it down.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::answers::AnswerWatch;
use super::configs::{
    A, APP, APP_ID, APP_PORT, B, CLIENT, EXAPPS_PORT, Files, Member, NEXTCLOUD, NEXTCLOUD_PORT,
    VIP, WITNESS,
};
use super::console::Console;
use super::galera::{Galera, Programs};
use super::load::Target;
use super::namespaces::{Entered, Host, Lan, left_behind, wait_until};
use super::nextcloud::{App, Directory, Nextcloud, Route, User};
use super::node::Node;
use super::transactions::Access;
use super::tunnel::{Choice, TunnelClient};
use super::web::WebNodes;
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

/// The two nodes by their place in [`Lab::nodes`].
pub(super) type NodeIndex = usize;

/// Everything that runs. Fields are dropped in this order: processes before their hosts' switch,
/// files last.
pub(super) struct Lab {
    answers: AnswerWatch,
    tunnel: TunnelClient,
    pub(super) nodes: [Node; 2],
    /// None in a pair.
    pub(super) witness: Option<Node>,
    pub(super) client: Host,
    /// Whether node a takes the address back whenever it can.
    preempts: bool,
    _exapp: Entered<std::io::Result<Infallible>>,
    _nextcloud: Entered<std::io::Result<Infallible>>,
    web: Option<WebNodes>,
    pub(super) galera: Option<Galera>,
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
        let programs = options.galera.then(Programs::find).transpose()?;
        let witness = if options.pair { "" } else { "witness, " };
        console.progress(&format!(
            "building the network: switch, client, a, b, {witness}app, nextcloud"
        ));
        // First the network: it ends what a hard killed lab left running on its files.
        let lan = Lan::new(PREFIX).map_err(Error::network("the switch"))?;
        let directory = private_directory()?;
        let files = Files::new(directory.path(), options)?;
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
        let web = options.web.then(|| WebNodes::start(&lan, files.key())).transpose()?;
        let galera = match &programs {
            Some(programs) => Some(Galera::start(programs, &lan, &files, &client, console).await?),
            None => None,
        };
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
        let mut services = vec![Self::exapp()];
        services.extend(web.is_some().then(Self::web_service));
        let access = galera.as_ref().map(Galera::access);
        Ok(Self {
            answers: AnswerWatch::start(&client, services, access)?,
            tunnel,
            nodes,
            witness,
            client,
            preempts: options.fault.preempts(),
            _exapp: exapp,
            _nextcloud: nextcloud,
            web,
            galera,
            app_host,
            nextcloud_host,
            _directory: directory,
        })
    }

    /// Gives the next round a tunnel client without a past.
    pub(super) fn refresh_tunnel_client(&mut self) -> Result<(), Error> {
        self.tunnel.refresh(&self.app_host)
    }

    /// Where the load of the ExApp goes.
    pub(super) fn exapp() -> Target {
        Target::exapp((VIP, EXAPPS_PORT).into(), &exapp_base(), &cookie())
    }

    /// Where that of the web nodes goes, if there are any.
    pub(super) fn web(&self) -> Option<Target> {
        self.web.is_some().then(Self::web_service)
    }

    fn web_service() -> Target {
        Target::web((VIP, EXAPPS_PORT).into())
    }

    /// The way to the database, if there is one.
    pub(super) fn access(&self) -> Option<Access> {
        self.galera.as_ref().map(Galera::access)
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
    /// node, without preemption) and the other Backup, everything answering steadily through the address.
    pub(super) async fn settle(&mut self, console: &Console) -> Result<(), Error> {
        let end = Instant::now() + SETTLE_LIMIT;
        let mut explain = Instant::now() + EXPLAIN_EVERY;
        self.answers.begin();
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
        self.answers.pause();
        Ok(())
    }

    /// How often virtual routers have changed their state since the start.
    pub(super) fn transitions(&self) -> u64 {
        self.nodes.iter().map(Node::transitions).sum()
    }

    /// Fails if anything that should run has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        self.nodes.iter_mut().chain(&mut self.witness).try_for_each(Node::check_alive)?;
        self.galera.as_mut().map_or(Ok(()), Galera::check_alive)?;
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
        let steady = self.answers.is_steady();
        Ok((!steady).then(|| "everything answering through the virtual IP".into()))
    }

    /// What `--keep` prints: URLs, and how to look around.
    pub(super) fn guide(&self) -> String {
        let address = SocketAddr::from((VIP, EXAPPS_PORT));
        let (base, cookie) = (exapp_base(), cookie());
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
        let web = self.web.iter().flat_map(WebNodes::hosts);
        let databases = self.galera.iter().flat_map(Galera::hosts);
        for host in [&self.app_host, &self.nextcloud_host].into_iter().chain(web).chain(databases) {
            text += &format!("{:<10} ip netns exec {} bash\n", host.name(), host.namespace());
        }
        text
    }
}

fn exapp_base() -> String {
    format!("/exapps/{APP_ID}")
}

fn cookie() -> String {
    format!("nc_session_id=lab; oc_sessionPassphrase={SESSION}")
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
    if status.galera.as_ref().is_some_and(|front| !front.writer().is_some_and(|one| one.writes)) {
        return Some("with a database that takes writes".into());
    }
    let right = status.vrrp.iter().all(|router| router.state == state);
    (!right).then(|| format!("in VRRP state {state}"))
}

/// Makes the directory for all files, and removes those of labs that were killed hard.
fn private_directory() -> Result<TempDir, Error> {
    let place = std::env::temp_dir();
    for name in left_behind(&place, PREFIX) {
        // Another lab may be sweeping the same one.
        let _ = std::fs::remove_dir_all(place.join(name));
    }
    temporary_directory("")
}

/// A directory of this lab alone, its name beginning like all of them and then with `part`.
pub(super) fn temporary_directory(part: &str) -> Result<TempDir, Error> {
    let place = std::env::temp_dir();
    let prefix = format!("{PREFIX}-{}-{part}", std::process::id());
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
