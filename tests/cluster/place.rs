//! The place where things break: nodes A and B and a witness as processes on machines of their
//! own, a virtual address, an ExApp behind a stock frpc, a Nextcloud that is also the gateway, and
//! somebody who uses the ExApp all the time.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cluster::pair::{Standing, Sync};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;
use trigon::admin::Status;
use trigon::admin::cluster::Cluster;
use trigon::lab::exapp;
use trigon::lab::namespaces::{Entered, Host, INTERFACE, Lan};
use trigon::lab::nextcloud::{App, Directory, Nextcloud, Route, User};
use trigon::secret::Secret;

use crate::disk::Disk;
use crate::forming;
use crate::machine::{FRP_PORT, HTTP_PORT, Machine};
use crate::support::{eventually, http};
use crate::tunnel::{Tunnel, TunnelClient};
use crate::users::Users;

pub(crate) const KEY: &str = "a-shared-key-for-failures";
/// The ExApp, and the port its tunnel registers.
pub(crate) const APP: &str = "labapp";
pub(crate) const APP_PORT: u16 = 23_000;
/// An ExApp that is on record and has no tunnel: known, and 503.
const NOTED: &str = "noted";
/// Cookie of a user.
pub(crate) const ALICE: &str = "nc_session_id=s1; oc_sessionPassphrase=alice-passphrase";

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 100);
const NEXTCLOUD: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 20);
const NEXTCLOUD_PORT: u16 = 8080;

/// What differs from place to place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) witness: bool,
    /// Whether the node with the higher priority takes the address back.
    pub(crate) preempt: bool,
    /// What the state of each node lies on.
    pub(crate) disk_of_a: Disk,
    pub(crate) disk_of_b: Disk,
    /// Whether a node that is left of a pair goes on only by an operator's word.
    pub(crate) manual: bool,
}

impl Setup {
    /// Two nodes without a witness.
    pub(crate) fn pair() -> Self {
        Self { witness: false, ..Self::default() }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let disk = Disk::Shared;
        Self { witness: true, preempt: false, disk_of_a: disk, disk_of_b: disk, manual: false }
    }
}

/// Fields are dropped in this order: what uses the nodes, the nodes, the rest.
pub(crate) struct Place {
    pub(crate) users: Users,
    _tunnel: TunnelClient,
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    pub(crate) witness: Option<Machine>,
    pub(crate) nextcloud: Nextcloud,
    serving: Option<Entered<std::io::Result<Infallible>>>,
    _exapp: Entered<std::io::Result<Infallible>>,
    /// How often the nodes had become or ceased to be Active when the row began.
    pub(crate) moves: usize,
    /// When the failure began.
    pub(crate) since: Instant,
    /// The generation that goes on.
    pub(crate) generation: u64,
    /// Every record that was pushed and answered with 204.
    pub(crate) pushed: Vec<String>,
    pub(crate) client: Host,
    pub(crate) app: Host,
    nextcloud_host: Host,
    pub(crate) lan: Lan,
    dir: TempDir,
    /// Whose copy of the certificates tunnel clients have: one that lies on the test's own disk.
    certificates: Side,
}

impl Place {
    /// Builds it and waits until everything is well: A holds the address and leads.
    pub(crate) async fn start(setup: Setup) -> Self {
        let lan = Lan::new("trigon-rows").unwrap();
        // Memory: what a busy disk of the test's machine does is nobody's row.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let host = |name: &str, last| lan.host(name, Ipv4Addr::new(10, 66, 0, last)).unwrap();
        let (client, app, nextcloud_host) = (host("client", 50), host("app", 30), host("next", 20));
        std::fs::write(dir.path().join("shared.key"), KEY).unwrap();
        let nextcloud = Nextcloud::new(directory());
        let serving = Some(serve(&nextcloud_host, &nextcloud));
        let socket = exapp_socket(dir.path());
        let exapp = app.enter_thread(move || async move { exapp::serve_unix(&socket).await });
        let node = |name, number: u8, disk| {
            let serving = serving_sections(dir.path(), 255 - number, setup.preempt);
            let place = dir.path().join(name);
            Machine::new(host(name, 10 + number), number.into(), place, disk, Some(serving))
        };
        let mut a = node("a", 1, setup.disk_of_a);
        let mut b = node("b", 2, setup.disk_of_b);
        let mut witness = setup
            .witness
            .then(|| Machine::new(host("w", 13), 3, dir.path().join("w"), Disk::Shared, None));
        let mut members = vec![&mut a, &mut b];
        members.extend(&mut witness);
        let policy = if setup.manual { "manual" } else { "auto" };
        let pair = format!("pair_policy = \"{policy}\"\npair_promote_after = \"5s\"");
        forming::form(&mut members, &pair).await;
        for node in [&a, &b] {
            node.until("ready", |status| status.ready && status.cluster.quorum).await;
        }
        let certificates = if setup.disk_of_b == Disk::Own { Side::A } else { Side::B };
        let first = tunnel(dir.path(), certificates, "first", VIP, APP);
        let place = Self {
            users: Users::start(&client, VIP),
            _tunnel: TunnelClient::start(&app, dir.path(), &first),
            a,
            b,
            witness,
            nextcloud,
            serving,
            _exapp: exapp.unwrap(),
            moves: 0,
            since: Instant::now(),
            generation: 1,
            pushed: Vec::new(),
            client,
            app,
            nextcloud_host,
            lan,
            dir,
            certificates,
        };
        place.settled().await
    }

    async fn settled(mut self) -> Self {
        eventually("the address is held", || async {
            (self.a.holds(VIP) || self.b.holds(VIP)).then_some(())
        })
        .await;
        if self.b.holds(VIP) {
            // It was the first to be ready.
            self.b.end(Signal::TERM);
            self.b.start();
        }
        self.a.until("active", |status| status.vrrp[0].state == "active").await;
        self.b.until("backup", |status| status.vrrp[0].state == "backup").await;
        self.a_leads().await;
        self.is_one_pair().await;
        self.all_vote().await;
        self.push_to(Side::A, NOTED).await;
        for node in [&self.a, &self.b] {
            node.until("the record", |status| knows(status, NOTED)).await;
        }
        self.users.are_served(self.since).await;
        self.begin();
        self
    }

    /// From here on the users and the virtual routers are watched.
    pub(crate) fn begin(&mut self) {
        self.moves = self.a.moves() + self.b.moves();
        self.since = Instant::now();
    }

    /// Every row begins with A as the leader.
    async fn a_leads(&self) {
        self.a.until("leads", |status| status.cluster.leader == Some(self.a.number())).await;
    }

    /// With a witness, everybody knows of three votes: as long as only A has one, nobody can do
    /// without A.
    async fn all_vote(&self) {
        let Some(witness) = &self.witness else { return };
        for member in [&self.a, &self.b, witness] {
            let votes =
                |status: &Status| status.cluster.voters.len() == 3 && !status.cluster.changing;
            member.until("three votes", votes).await;
        }
    }

    /// Both nodes of a pair follow one generation, and each has everything.
    pub(crate) async fn is_one_pair(&self) {
        if self.witness.is_some() {
            return;
        }
        let is_whole = |cluster: &Cluster| {
            let pair = cluster.pair.as_ref();
            cluster.generation == self.generation
                && pair
                    .is_some_and(|one| one.standing == Standing::Normal && one.sync == Sync::Sync)
        };
        for node in [&self.a, &self.b] {
            node.until_cluster("one of a pair", is_whole).await;
        }
    }

    pub(crate) fn node(&self, side: Side) -> &Machine {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    pub(crate) fn witness(&mut self) -> &mut Machine {
        self.witness.as_mut().expect("a place with a witness")
    }

    /// Pushes a record as AppAPI does. 204 when a majority has it; 503 without a quorum: it is used
    /// on that node and recorded as soon as there is one.
    pub(crate) async fn push_to(&mut self, side: Side, id: &str) {
        self.push(side, id).await;
        self.pushed.push(id.to_owned());
    }

    /// The same for whoever notes the record himself.
    pub(crate) async fn push(&self, side: Side, id: &str) {
        let path = format!("/exapps/app_api/exapp_storage/{id}");
        let request = || http::request("POST", &path, &[("harp-shared-key", KEY)], RECORD);
        let answer = self.node(side).ask(request()).await;
        let status = answer.map(|answer| answer.status().as_u16());
        assert!(matches!(status, Some(204 | 503)), "{side:?}: {status:?}");
    }

    /// Whether the node routes by what it knows: the ExApp is known, and its tunnel is not there.
    pub(crate) async fn routes(&self, side: Side, id: &str) -> bool {
        let answer = self.node(side).ask(http::get(&format!("/exapps/{id}/"), &[])).await;
        answer.is_some_and(|answer| answer.status() == 503)
    }

    /// The same for the record every place begins with; Nextcloud is not asked.
    pub(crate) async fn reads(&self, side: Side) -> bool {
        let asked = self.nextcloud.calls().exapp_meta;
        self.routes(side, NOTED).await && self.nextcloud.calls().exapp_meta == asked
    }

    /// What a further tunnel client needs, on the machine of the ExApp.
    pub(crate) fn tunnel(&self, name: &str, to: Ipv4Addr, app: &str) -> Tunnel {
        tunnel(self.dir.path(), self.certificates, name, to, app)
    }

    /// Where files of the place lie.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Every Nextcloud is down: its machine runs, nobody listens.
    pub(crate) fn stop_nextcloud(&mut self) {
        drop(self.serving.take());
    }

    pub(crate) fn start_nextcloud(&mut self) {
        self.serving = Some(serve(&self.nextcloud_host, &self.nextcloud));
    }

    /// This host believes that the address is where that node is, whatever anybody announces: its
    /// side of a split.
    pub(crate) fn pin(&self, host: &Host, side: Side) {
        let [a, b, c, d] = self.node(side).address().octets();
        let hardware = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let vip = VIP.to_string();
        let arguments = ["neigh", "replace", &vip, "lladdr", &hardware, "dev", INTERFACE];
        let done = host.command("ip").args(arguments).args(["nud", "permanent"]).status();
        assert!(done.unwrap().success());
    }

    /// Everything is well again: one holder, a quorum on both nodes, nothing lost that was
    /// answered with 204, changes confirmed on either, the ExApp answering.
    pub(crate) async fn is_whole(&mut self) {
        for node in [&self.a, &self.b] {
            node.until("well again", |status| status.ready && status.cluster.quorum).await;
        }
        eventually("one node holds the address", || async {
            (self.a.holds(VIP) != self.b.holds(VIP)).then_some(())
        })
        .await;
        for node in [&self.a, &self.b] {
            for id in &self.pushed {
                node.until(id, |status| knows(status, id)).await;
            }
        }
        for side in [Side::A, Side::B] {
            self.confirms(side, "healed").await;
        }
        self.is_one_pair().await;
        self.users.are_served(Instant::now()).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let machines = [&self.a, &self.b].into_iter().chain(&self.witness);
        for machine in machines {
            if std::thread::panicking() {
                eprintln!("{}", machine.log_tail());
            } else {
                assert!(!machine.log().contains("panicked"), "{}", machine.log_tail());
            }
        }
    }
}

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Whether the node has a record of that ExApp.
pub(crate) fn knows(status: &Status, id: &str) -> bool {
    status.exapps.iter().any(|known| known == id)
}

const RECORD: &str = r#"{"exapp_token":"t0ken-of-the-app","exapp_version":"1.0.0",
    "host":"127.0.0.1","port":23999,
    "routes":[{"url":"^/","access_level":0,"bruteforce_protection":[]}]}"#;

fn directory() -> Directory {
    let mut directory = Directory::new(Secret::new(KEY));
    let route = |url: &str, access_level| Route {
        url: url.into(),
        access_level,
        bruteforce_protection: Vec::new(),
    };
    let app = App {
        exapp_token: "the-apps-own-token".into(),
        exapp_version: "1.0.0".into(),
        host: "127.0.0.1".into(),
        port: APP_PORT,
        routes: vec![route("^/public", 0), route("^/user", 1)],
    };
    directory.apps.insert(APP.into(), app);
    let alice = User { user_id: "alice".into(), access_level: 1 };
    directory.sessions.insert("alice-passphrase".into(), alice);
    directory
}

fn serve(host: &Host, nextcloud: &Nextcloud) -> Entered<std::io::Result<Infallible>> {
    let nextcloud = nextcloud.clone();
    let serve = move || async move {
        let listener = TcpListener::bind(SocketAddr::from((NEXTCLOUD, NEXTCLOUD_PORT))).await?;
        Ok(nextcloud.serve(listener).await)
    };
    host.enter_thread(serve).unwrap()
}

fn exapp_socket(dir: &Path) -> PathBuf {
    dir.join("exapp.sock")
}

fn tunnel(dir: &Path, certificates: Side, name: &str, to: Ipv4Addr, app: &str) -> Tunnel {
    let port = if app == APP { APP_PORT } else { APP_PORT + 1 };
    Tunnel {
        name: name.to_owned(),
        server: SocketAddr::from((to, FRP_PORT)),
        proxy: app.to_owned(),
        port,
        key: KEY.to_owned(),
        certificates: dir.join(match certificates {
            Side::A => "a/state/frp",
            Side::B => "b/state/frp",
        }),
        socket: exapp_socket(dir),
    }
}

fn serving_sections(dir: &Path, priority: u8, preempt: bool) -> String {
    format!(
        "[nextcloud]\nurl = \"http://{NEXTCLOUD}:{NEXTCLOUD_PORT}\"\n\
         [exapps]\nlisten = \"0.0.0.0:{HTTP_PORT}\"\nshared_key_file = \"{}/shared.key\"\n\
         [frp]\nlisten = \"0.0.0.0:{FRP_PORT}\"\ntls = true\n\
         [failover]\nisolation_gateway = \"{NEXTCLOUD}\"\n\
         [[vrrp]]\ninterface = \"{INTERFACE}\"\nvrid = 66\npriority = {priority}\n\
         preempt = {preempt}\naddresses = [\"{VIP}\"]\n",
        dir.display(),
    )
}
