//! The front of the database before a real Galera cluster, HAProxy beside it under the same
//! faults. Run it with `tests/run --galera`, or `cargo test --test galera -- --nocapture` to see
//! the table.

mod balancer;
mod cluster;
mod haproxy;
mod load;
mod two;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::cluster::record::Writer;
use ::cluster::{Command, Handle, Reply};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use trigon::balance::Admin;
use trigon::balance::roster::Condition;
use trigon::database::{Config, Database, Listeners, NodeConfig};
use trigon::lab::namespaces::Entered;
use trigon::net::listen;
use trigon::secret::Secret;

use cluster::{Galera, MONITOR, PASSWORD};
use haproxy::HaProxy;
use load::{Ledger, Outcome, Truth};

/// Two load balancers, each with a port for writes and one for reads, and HAProxy.
const FRONTS: [(u16, u16); 2] = [(3306, 3307), (4306, 4307)];
const HAPROXY: u16 = 5306;

/// Everything that runs while cases come and go.
struct Scene {
    galera: Galera,
    fronts: [Database; 2],
    cluster: Handle,
    stop: Arc<AtomicBool>,
    trigon: Arc<Ledger>,
    readers: Arc<Ledger>,
    haproxy: Arc<Ledger>,
    rows: Vec<String>,
    _running: Vec<Entered<()>>,
    _process: HaProxy,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let galera = Galera::start();
        galera.nodes[0].sql(
            "CREATE TABLE load_test.trigon (id BIGINT PRIMARY KEY);
             CREATE TABLE load_test.haproxy (id BIGINT PRIMARY KEY)",
        );
        let dir = tempfile::tempdir().unwrap();
        let here = galera.balancer.address();
        let at = move |port| SocketAddr::from((here, port));
        let process = HaProxy::start(&galera, at(HAPROXY), dir.path());
        let cluster = Handle::in_memory_pair([1, 2]);
        let nodes: Vec<_> = galera
            .nodes
            .iter()
            .map(|node| NodeConfig { name: node.name.clone(), address: node.address() })
            .collect();
        let mut running = Vec::new();
        let fronts = [0, 1].map(|index| {
            let mut config = Config::new(MONITOR.to_owned(), Secret::new(PASSWORD), nodes.clone());
            (config.listen, config.reader_listen) =
                (at(FRONTS[index].0), Some(at(FRONTS[index].1)));
            let (writer, reader) = (config.listen, at(FRONTS[index].1));
            let database = Database::new(config);
            let (front, handle) = (database.clone(), cluster[index].clone());
            let serve = move || async move {
                let listeners = Listeners {
                    writer: listen::bind(writer).unwrap(),
                    reader: Some(listen::bind(reader).unwrap()),
                };
                front.serve(listeners, handle, Vec::new(), CancellationToken::new()).await;
            };
            running.push(galera.balancer.enter_thread(serve).unwrap());
            database
        });
        let stop = Arc::new(AtomicBool::new(false));
        let truth = Arc::new(Truth::default());
        let [trigon, readers, haproxy] = std::array::from_fn(|_| Arc::new(Ledger::default()));
        let load = {
            let stop = stop.clone();
            let ledgers = [trigon.clone(), readers.clone(), haproxy.clone()];
            let names = galera.nodes.iter().map(|node| node.name.clone());
            let direct: Vec<_> = names.zip(galera.addresses()).collect();
            move || async move {
                for (name, node) in direct {
                    tokio::spawn(load::watch(truth.clone(), name, node));
                }
                let [trigon, readers, haproxy] = ledgers;
                let write = |port, table, ledger| {
                    load::write(at(port), table, ledger, truth.clone(), (2, stop.clone()))
                };
                tokio::join!(
                    write(FRONTS[0].0, "trigon", trigon),
                    write(HAPROXY, "haproxy", haproxy),
                    load::read(at(FRONTS[1].1), readers, truth.clone(), stop.clone()),
                );
            }
        };
        running.push(galera.balancer.enter_thread(load).unwrap());
        let [cluster, _] = cluster;
        let scene = Self {
            galera,
            fronts,
            cluster,
            stop,
            trigon,
            readers,
            haproxy,
            rows: Vec::new(),
            _running: running,
            _process: process,
            _dir: dir,
        };
        scene.wait_served();
        scene
    }

    /// Both ways to the database confirm what they are asked for, with `db1` as the writer of
    /// both, so that a fault meets both.
    fn settle(&mut self) {
        self.galera.wait_whole();
        let known = self.cluster.read(|state| state.writer().cloned());
        if known.as_ref().is_none_or(|writer| writer.name != "db1") {
            let epoch = known.map_or(1, |writer| writer.epoch + 1);
            let writer = Writer { epoch, name: "db1".to_owned(), by: 1, at: 0 };
            let propose = self.cluster.propose(Command::SetWriter(writer), Duration::from_secs(1));
            assert_eq!(futures_util::FutureExt::now_or_never(propose).unwrap(), Ok(Reply::Done));
        }
        self.wait_served();
        // HAProxy counts two good checks before it goes back.
        std::thread::sleep(Duration::from_secs(2));
        for ledger in [&self.trigon, &self.readers, &self.haproxy] {
            ledger.close();
        }
    }

    /// Every way to the database has confirmed something after now.
    fn wait_served(&self) {
        let now = Instant::now();
        let ledgers = [&self.trigon, &self.readers, &self.haproxy];
        while !ledgers.iter().all(|ledger| ledger.is_served_since(now)) {
            assert!(now.elapsed() < Duration::from_secs(60), "the database serves nobody");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One fault from a good start to a good end, and what it cost each.
    fn case(&mut self, name: &str, fault: impl FnOnce(&mut Galera)) {
        self.settle();
        fault(&mut self.galera);
        self.galera.wait_whole();
        self.wait_served();
        for (way, ledger, table) in [
            ("Trigon", self.trigon.clone(), Some("trigon")),
            ("Trigon, reads", self.readers.clone(), None),
            ("HAProxy", self.haproxy.clone(), Some("haproxy")),
        ] {
            let (outcome, acknowledged) = ledger.close();
            let lost = table.map(|table| self.galera.lost(table, &acknowledged));
            self.tell(name, way, &outcome, lost);
            if way != "HAProxy" {
                assert_eq!(lost.unwrap_or(0), 0, "{name}: {way} lost transactions");
                assert_eq!(outcome.bad, 0, "{name}: {way}: {:?}", outcome.first_bad);
            }
        }
        let [one, other] = self
            .fronts
            .each_ref()
            .map(|front| front.report().writer().map(|writer| writer.name.clone()));
        assert!(one.is_some() && one == other, "{name}: writers {one:?} and {other:?}");
    }

    fn tell(&mut self, name: &str, way: &str, outcome: &Outcome, lost: Option<usize>) {
        let Outcome { acknowledged, gap, failed, bad, late, .. } = outcome;
        let counted = match lost {
            Some(lost) => format!("{acknowledged} | {lost}"),
            None => "| ".to_owned(),
        };
        let gap = gap.as_secs_f64();
        let row = format!("| {name} | {way} | {gap:.2} | {counted} | {failed} | {bad} | {late} |");
        println!("{row}");
        self.rows.push(row);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sessions_go_to_the_node_that_can_serve_them_whatever_fails() {
    let mut scene = Scene::start();
    println!(
        "| case | way | longest gap s | acknowledged | lost | failed | at a bad node | at one just \
         gone bad |\n|---|---|---|---|---|---|---|---|"
    );

    scene.case("nothing", |_| std::thread::sleep(Duration::from_secs(3)));

    scene.case("writer killed, comes back", |galera| {
        galera.nodes[0].kill();
        std::thread::sleep(Duration::from_secs(8));
        galera.nodes[0].start(false);
    });

    scene.case("writer frozen for 12 s", |galera| {
        galera.nodes[0].signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(12));
        galera.nodes[0].signal(Signal::CONT);
        std::thread::sleep(Duration::from_secs(8));
    });

    scene.case("writer cut off from the nodes", |galera| {
        let peers = [galera.nodes[1].host.address(), galera.nodes[2].host.address()];
        galera.nodes[0].cut_off_from(&peers, true);
        std::thread::sleep(Duration::from_secs(12));
        galera.nodes[0].cut_off_from(&peers, false);
    });

    scene.case("writer cut off from all", |galera| {
        galera.nodes[0].host.isolate(true).unwrap();
        std::thread::sleep(Duration::from_secs(12));
        galera.nodes[0].host.isolate(false).unwrap();
    });

    scene.case("both others cut off from all", |galera| {
        for node in &galera.nodes[1..] {
            node.host.isolate(true).unwrap();
        }
        std::thread::sleep(Duration::from_secs(12));
        for node in &galera.nodes[1..] {
            node.host.isolate(false).unwrap();
        }
    });

    scene.case("a reader starts from nothing (SST)", |galera| {
        galera.nodes[2].stop();
        galera.nodes[2].wipe();
        galera.nodes[2].start(false);
    });

    scene.case("the same with mariabackup", |galera| {
        let node = &mut galera.nodes[2];
        node.stop();
        node.wipe();
        node.transfer_by("mariabackup");
        node.start(false);
    });

    scene.case("rolling restart (IST)", |galera| {
        for node in [2, 1, 0] {
            galera.nodes[node].stop();
            std::thread::sleep(Duration::from_millis(500));
            galera.nodes[node].start(false);
            galera.wait_whole();
        }
    });

    let front = scene.fronts[0].clone();
    let at = SocketAddr::from((scene.galera.balancer.address(), FRONTS[0].0));
    scene.case("writer drained, then in maintenance", move |galera| {
        let orders = galera.balancer.enter_thread(move || drained_and_maintained(front, at));
        let told = block_on(orders.unwrap().result());
        assert!(told.is_some(), "the orders were not carried out");
    });

    scene.settle();
    words::are_heard(&scene.galera, &scene.fronts[0]);
    words::ed25519_is_spoken(&scene.galera);

    println!("\n{}", scene.rows.join("\n"));
}

/// A session that is open ends by itself while new ones go elsewhere; then it is cut.
async fn drained_and_maintained(front: Database, at: SocketAddr) {
    let mut held = load::connect(at).await.unwrap();
    assert_eq!(load::node_of(&mut held).await.unwrap(), "db1");
    front.set("galera/db1", Admin::Drain);
    while load::node_of(&mut load::connect(at).await.unwrap()).await.unwrap() == "db1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(load::node_of(&mut held).await.unwrap(), "db1", "it goes on");
    front.set("galera/db1", Admin::Maint);
    while load::node_of(&mut held).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let shown = front.members();
    assert_eq!((shown[0].admin, shown[0].health), (Admin::Maint, Condition::Up));
    assert_ne!(shown[0].note, "writer");
    front.set("galera/db1", Admin::Ready);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
