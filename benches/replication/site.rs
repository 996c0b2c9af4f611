//! Two nodes, a witness, a member with visitors of its own, and one machine that is Nextcloud, ExApp
//! and every other visitor, each in a network namespace of its own. Ends with the value.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cluster::{Admission, Founding, Role};
use tempfile::TempDir;
use tokio::net::TcpListener;
use trigon::lab::namespaces::{Entered, Host, Lan};
use trigon::lab::nextcloud::{App, Directory, Nextcloud, Route, User};
use trigon::secret::Secret;

use crate::crowd::Crowd;
use crate::load::{self, Visitors};
use crate::report::{Sample, Sharing};
use crate::usage;

const KEY: &str = "a-shared-key-for-benches";
const CLUSTER_PORT: u16 = 7443;
const HTTP_PORT: u16 = 8780;
const METRICS_PORT: u16 = 9100;
const NEXTCLOUD_PORT: u16 = 8080;
const EXAPP_PORT: u16 = 9000;

/// Longest wait for a cluster that serves.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest wait for one reading.
const READING: Duration = Duration::from_secs(5);

/// Most visitors that are shown to the other node after a run.
const SHOWN: u64 = 200;

/// Different users among the visitors.
const USERS: u64 = 10_000;

/// The running whole.
pub(crate) struct Site {
    pub(crate) client: Host,
    /// Two nodes and the witness.
    members: [Host; 3],
    processes: Vec<Child>,
    _servers: Entered<()>,
    _elsewhere: Entered<()>,
    directory: TempDir,
}

impl Site {
    /// Starts everything and waits until a visitor is served by both nodes.
    pub(crate) async fn start(
        sharing: Sharing,
        lifetime: Duration,
        visitors: Visitors,
        elsewhere: u32,
    ) -> anyhow::Result<Self> {
        let lan = Lan::new("trigon-bench").context("the network; this needs root")?;
        let host = |name, last| lan.host(name, Ipv4Addr::new(10, 79, 0, last));
        let client = host("client", 50)?;
        let members = [host("one", 11)?, host("two", 12)?, host("witness", 13)?];
        let fourth = host("elsewhere", 14)?;
        let servers = serve(&client, visitors)?;
        let directory = tempfile::Builder::new().prefix("trigon-bench-").tempdir()?;
        let root = directory.path();
        fs::write(root.join("shared.key"), KEY)?;
        prepare(root, &members, &fourth)?;
        let mut processes = Vec::new();
        for (at, host) in members.iter().enumerate() {
            let text =
                config(root, host, client.address(), (at < 2).then_some((sharing, lifetime)));
            let file = |end: &str| root.join(format!("{}.{end}", host.name()));
            fs::write(file("toml"), text)?;
            let mut command = host.command(env!("CARGO_BIN_EXE_trigon"));
            let log = File::create(file("log"))?;
            command.arg("run").arg("--config").arg(file("toml")).stdin(Stdio::null());
            processes.push(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        }
        let crowd = Crowd {
            rate: elsewhere,
            lifetime,
            sharing,
            state: root.join("elsewhere.state"),
            listen: (fourth.address(), CLUSTER_PORT).into(),
        };
        let (_servers, _elsewhere) = (servers, crowd.start(&fourth)?);
        let site = Self { client, members, processes, _servers, _elsewhere, directory };
        site.until_it_serves(visitors).await?;
        Ok(site)
    }

    /// Where visitors reach a node.
    pub(crate) fn http(&self, node: usize) -> SocketAddr {
        (self.members[node].address(), HTTP_PORT).into()
    }

    /// The members now.
    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        let usage = self.members.each_ref().map(|host| usage::of(&host.processes()?));
        let [one, two, three] = usage;
        let metrics = self.metrics(0)?;
        Ok(Sample {
            usage: [one?, two?, three?],
            applied: metric(&metrics, "trigon_raft_last_applied_index")?,
            sessions: metric(&metrics, "trigon_session_cache_entries")?,
            dropped: metric(&metrics, "trigon_cluster_soft_changes_dropped_total")?,
        })
    }

    /// The share of the last visitors of node 1 that node 2 knows without asking Nextcloud. Shows
    /// as many as it can `within` that time: their sessions end.
    pub(crate) async fn known_to_the_other(
        &self,
        came: u64,
        within: Duration,
    ) -> anyhow::Result<f64> {
        let to = self.http(1);
        let lookups = || -> anyhow::Result<f64> {
            let text = self.metrics(1)?;
            metric(&text, "trigon_session_cache_hits_total{source=\"cluster\"}").or(Ok(0.0))
        };
        let before = lookups()?;
        let visits = self.client.enter_thread(move || async move {
            let (mut stream, end) = (load::connect(to).await?, Instant::now() + within);
            let mut shown = 0_u32;
            for number in (came.saturating_sub(SHOWN)..came).rev() {
                if Instant::now() > end {
                    break;
                }
                load::visit(&mut stream, number).await?;
                shown += 1;
            }
            anyhow::Ok(shown)
        })?;
        let shown = visits.result().await.context("the visits broke")??;
        ensure!(shown > 0, "no visitor could be shown to the other node");
        Ok((lookups()? - before) / f64::from(shown))
    }

    /// Until three members vote and both nodes serve a visitor. The last of those who may come:
    /// the load begins with the first.
    async fn until_it_serves(&self, visitors: Visitors) -> anyhow::Result<()> {
        let end = Instant::now() + LIMIT;
        let last = visitors.0 - 1;
        let votes = || metric(&self.metrics(0).ok()?, "trigon_cluster_voters").ok();
        let serves = async |node| {
            let to = self.http(node);
            let visit = self.client.enter_thread(move || async move {
                load::visit(&mut load::connect(to).await?, last).await
            })?;
            visit.result().await.context("the visit broke")?
        };
        loop {
            let ready = votes() == Some(3.0) && serves(0).await.is_ok() && serves(1).await.is_ok();
            if ready {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the cluster does not serve; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a member tells of itself.
    fn metrics(&self, member: usize) -> anyhow::Result<String> {
        let from = SocketAddr::from((self.members[member].address(), METRICS_PORT));
        let read = move || -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&from, READING)?;
            stream.set_read_timeout(Some(READING))?;
            write!(stream, "GET /metrics HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        Ok(self.client.within(read)??)
    }

    /// The last lines of every log.
    fn logs(&self) -> String {
        let tail = |host: &Host| {
            let file = self.directory.path().join(format!("{}.log", host.name()));
            let text = fs::read_to_string(file).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(8)..];
            last.iter().map(|line| format!("\n  {}: {line}", host.name())).collect::<String>()
        };
        self.members.iter().map(tail).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The value of a series.
fn metric(text: &str, series: &str) -> anyhow::Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no {series} among the metrics"))?;
    Ok(value.trim().parse()?)
}

/// Nextcloud and the ExApp.
fn serve(client: &Host, visitors: Visitors) -> anyhow::Result<Entered<()>> {
    let address = client.address();
    let mut directory = Directory::new(Secret::new(KEY));
    let route = Route { url: ".*".into(), access_level: 1, bruteforce_protection: Vec::new() };
    let app = App {
        exapp_token: "the-apps-own-secret-token".into(),
        exapp_version: "1.2.3".into(),
        host: address.to_string(),
        port: EXAPP_PORT,
        routes: vec![route],
    };
    directory.apps.insert("bench".into(), app);
    directory.sessions = (0..visitors.0)
        .map(|number| {
            let user = User { user_id: format!("user-{}", number % USERS), access_level: 1 };
            (Visitors::passphrase(number), user)
        })
        .collect();
    Ok(client.enter_thread(move || async move {
        let nextcloud = TcpListener::bind((address, NEXTCLOUD_PORT)).await;
        let exapp = TcpListener::bind((address, EXAPP_PORT)).await;
        let (Ok(nextcloud), Ok(exapp)) = (nextcloud, exapp) else { return };
        tokio::join!(Nextcloud::new(directory).serve(nextcloud), load::exapp(exapp));
    })?)
}

/// Makes the four state directories members of one cluster.
fn prepare(root: &Path, members: &[Host; 3], fourth: &Host) -> anyhow::Result<()> {
    let state = |host: &Host| root.join(format!("{}.state", host.name()));
    let at = |host: &Host| SocketAddr::from((host.address(), CLUSTER_PORT));
    let [one, two, witness] = members;
    let founding = Founding {
        cluster_name: "bench".into(),
        node_name: one.name().into(),
        advertise: Some(at(one)),
    };
    cluster::found(&state(one), &founding)?;
    for (host, role) in [(two, Role::Node), (witness, Role::Witness), (fourth, Role::Witness)] {
        let admission = Admission { node_name: host.name().into(), role, advertise: at(host) };
        cluster::admit(&state(one), &state(host), &admission)?;
    }
    Ok(())
}

/// The configuration of a node, or of the witness.
fn config(
    root: &Path,
    host: &Host,
    nextcloud: Ipv4Addr,
    node: Option<(Sharing, Duration)>,
) -> String {
    let (root, name, address) = (root.display(), host.name(), host.address());
    let role = if node.is_some() { "node" } else { "witness" };
    let mut text = format!(
        "[node]\nname = '{name}'\nrole = '{role}'\nstate_dir = '{root}/{name}.state'\n\
         admin_socket = '{root}/{name}.sock'\n[metrics]\nlisten = '{address}:{METRICS_PORT}'\n\
         [cluster]\nlisten = '{address}:{CLUSTER_PORT}'\n"
    );
    if let Some((sharing, lifetime)) = node {
        text += &format!(
            "session_replication = '{}'\n[nextcloud]\nurl = 'http://{nextcloud}:{NEXTCLOUD_PORT}'\n\
             [exapps]\nlisten = '{address}:{HTTP_PORT}'\nshared_key_file = '{root}/shared.key'\n\
             session_lifetime = '{}s'\n[frp]\nlisten = '{address}:8782'\n[docker]\nsocket = 'off'\n",
            sharing.name(),
            lifetime.as_secs()
        );
    }
    text
}
