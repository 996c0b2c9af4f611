//! Two real load balancers and a witness before the real database: what clients of the virtual
//! address lose when the one that holds it dies, and what the pair makes of bad input.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::Role;
use tokio::time::{sleep, timeout};
use trigon::admin::status::Status;
use trigon::lab::namespaces::Entered;

use crate::balancer::{Balancer, MOST, VIP, sections};
use crate::cluster::Galera;
use crate::load::{self, Ledger, Truth};

/// Clients that write. Of those that a power cut meets within a transaction some hear nothing any
/// more, and the others go on.
const WORKERS: usize = 6;

/// Clients with sessions of a tenth of a second.
const VISITORS: usize = 20;

/// Where clients come.
fn front() -> SocketAddr {
    SocketAddr::from((VIP, 3306))
}

struct Pair {
    a: Balancer,
    b: Balancer,
    _witness: Balancer,
    galera: Galera,
}

impl Pair {
    /// Both serve, `a` holds the address.
    async fn start() -> Self {
        let galera = Galera::start();
        galera.nodes[0].sql("CREATE TABLE load_test.two (id BIGINT PRIMARY KEY)");
        let member = |name, last| Balancer::new(galera.host(name, last));
        let (mut a, mut b, mut witness) = (member("a", 2), member("b", 3), member("w", 4));
        a.serve(254, &sections(&galera));
        b.serve(253, &sections(&galera));
        witness.witness();
        a.found().await;
        b.join(&a, Role::Node).await;
        witness.join(&a, Role::Witness).await;
        let pair = Self { a, b, _witness: witness, galera };
        pair.a.until_voters(3).await;
        pair.settle().await;
        pair
    }

    /// Both know the whole database and its writer, and `a` holds the address.
    async fn settle(&self) {
        self.galera.wait_whole();
        let state = |status: &Status| status.vrrp[0].state.clone();
        self.a.until("a is Active", |status| state(status) == "active" && knows(status)).await;
        self.b.until("b is Backup", |status| state(status) == "backup" && knows(status)).await;
    }

    /// Both send writes to this node by the same agreement.
    async fn writer_is(&self, name: &str) -> u64 {
        let writes = |status: &Status| writer(status) == Some(name);
        let epoch = |status: Status| status.galera.unwrap().epoch;
        let first = epoch(self.a.until("a's writer", writes).await);
        assert_eq!(epoch(self.b.until("b's writer", writes).await), first);
        first
    }
}

/// Whether the node may send sessions to all of the database.
fn knows(status: &Status) -> bool {
    let whole = |galera: &trigon::database::Report| {
        galera.writer().is_some() && galera.nodes.iter().all(|node| node.writes && node.reads)
    };
    status.ready && status.cluster.quorum && status.galera.as_ref().is_some_and(whole)
}

fn writer(status: &Status) -> Option<&str> {
    let galera = status.galera.as_ref().filter(|galera| !galera.stand_in)?;
    Some(galera.writer()?.name.as_str())
}

/// Clients that write through the virtual address, until dropped.
struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    _running: Entered<()>,
}

impl Load {
    fn start(galera: &Galera) -> Self {
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let names = galera.nodes.iter().map(|node| node.name.clone());
        let direct: Vec<_> = names.zip(galera.addresses()).collect();
        let (account, stopped) = (ledger.clone(), stop.clone());
        let work = move || async move {
            let truth = Arc::new(Truth::default());
            for (name, node) in direct {
                tokio::spawn(load::watch(truth.clone(), name, node));
            }
            load::write(front(), "two", account, truth, (WORKERS, stopped)).await;
        };
        let load = Self { ledger, stop, _running: galera.balancer.enter_thread(work).unwrap() };
        load.is_served();
        load.ledger.close();
        println!(
            "| fault | longest gap s | acknowledged | lost | failed | of them given up |\n\
             |---|---|---|---|---|---|"
        );
        load
    }

    /// Waits until something was confirmed after now.
    fn is_served(&self) {
        let now = Instant::now();
        while !self.ledger.is_served_since(now) {
            assert!(now.elapsed() < Duration::from_secs(60), "the database serves nobody");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the fault cost: nothing that was confirmed. Where sessions were.
    fn account(&self, galera: &Galera, name: &str) -> Vec<String> {
        self.is_served();
        let (outcome, acknowledged) = self.ledger.close();
        let lost = galera.lost("two", &acknowledged);
        println!(
            "| {name} | {:.2} | {} | {lost} | {} | {} |",
            outcome.gap.as_secs_f64(),
            outcome.acknowledged,
            outcome.failed,
            outcome.gave_up
        );
        assert_eq!(lost, 0, "{name}: lost transactions");
        assert_eq!(outcome.bad, 0, "{name}: {:?}", outcome.first_bad);
        outcome.places.into_iter().collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Clients as PHP's are: a session of its own for each request, in which the database has to think.
/// They begin when it is made.
struct Visits {
    silent: Arc<AtomicUsize>,
    _running: Entered<()>,
}

impl Visits {
    fn start(galera: &Galera) -> Self {
        let silent = Arc::new(AtomicUsize::new(0));
        let count = silent.clone();
        let work = move || async move {
            let visitors = (0..VISITORS).map(|_| visit_again_and_again(&count));
            futures_util::future::join_all(visitors).await;
        };
        Self { silent, _running: galera.balancer.enter_thread(work).unwrap() }
    }
}

/// For ever. One who heard nothing is counted and stays away.
async fn visit_again_and_again(silent: &AtomicUsize) {
    let visit = async || {
        let mut open = load::connect(front()).await?;
        open.query("DO SLEEP(0.1)").await
    };
    while let Ok(answered) = timeout(load::PATIENCE, visit()).await {
        // Refused and broken sessions are tried again, like those that are answered.
        if answered.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
    silent.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test]
async fn who_dies_of_the_pair_takes_no_transaction_along_and_both_write_to_the_same_node() {
    let mut pair = Pair::start().await;
    let first = pair.writer_is("db1").await;
    let load = Load::start(&pair.galera);

    pair.a.kill();
    pair.b.until("b took over", |status| status.vrrp[0].state == "active").await;
    assert_eq!(load.account(&pair.galera, "the holder's process is killed"), ["db1"]);
    pair.a.start();
    pair.settle().await;
    assert_eq!(load.account(&pair.galera, "it comes back and takes the address"), ["db1"]);

    let visits = Visits::start(&pair.galera);
    sleep(Duration::from_secs(2)).await;
    pair.a.cut_power();
    pair.b.until("b took over", |status| status.vrrp[0].state == "active").await;
    // Until those have given up who will never hear anything.
    sleep(load::PATIENCE + Duration::from_secs(1)).await;
    let silent = visits.silent.load(Ordering::Relaxed);
    println!("of {VISITORS} sessions of 0.1 s, {silent} heard nothing when the power was cut");
    assert!(silent < VISITORS / 4, "{silent} heard nothing");
    drop(visits);
    assert_eq!(load.account(&pair.galera, "the holder's power is cut"), ["db1"]);
    // With the witness there is a quorum for the next agreement.
    pair.galera.nodes[0].kill();
    pair.b.until("b's writer", |status| writer(status) == Some("db2")).await;
    assert_eq!(load.account(&pair.galera, "and the writer is killed"), ["db1", "db2"]);

    pair.a.restore_power();
    pair.galera.nodes[0].start(false);
    pair.settle().await;
    // Whoever gave db1 its state may have lost that part meanwhile; db1 does not get it back.
    let status = pair.b.until("b's writer", |status| writer(status).is_some()).await;
    let writes = writer(&status).unwrap();
    assert_ne!(writes, "db1");
    assert!(pair.writer_is(writes).await > first);
    load.account(&pair.galera, "both come back");
}

#[tokio::test]
async fn what_clients_and_servers_send_that_is_no_database_is_named_and_survived() {
    let mut pair = Pair::start().await;
    let writer_is = pair.writer_is("db1").await;
    let on_client = |work: &(dyn Fn() + Sync)| pair.galera.balancer.within(work).unwrap();

    on_client(&|| {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], &[0; 3]] {
            let mut stream = greeted().unwrap();
            // It may hang up while we still talk.
            let _ = stream.write_all(garbage);
            drop(stream);
        }
        // Whoever says nothing keeps a place, and nobody gets more than there are.
        let mut silent = Vec::new();
        let refused = loop {
            match greeted() {
                Ok(stream) => silent.push(stream),
                Err(refused) => break refused,
            }
            assert!(silent.len() <= MOST, "nobody is refused");
        };
        assert!(refused.contains("Too many connections"), "{refused}");
    });
    let is_calm = |status: &Status| {
        let galera = status.galera.as_ref().unwrap();
        galera.clients == 0 && galera.refused > 0 && knows(status)
    };
    pair.a.until("the flood is over", is_calm).await;
    let load = Load::start(&pair.galera);
    assert_eq!(load.account(&pair.galera, "after the flood"), ["db1"]);

    // A load balancer with a wrong password, and one server that is none.
    let junk = pair.galera.balancer.within(|| TcpListener::bind("0.0.0.0:9999").unwrap()).unwrap();
    std::thread::spawn(move || {
        // Ends with the listener's namespace, or the process.
        while let Ok((mut stream, _)) = junk.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let junk = format!(
        "[[galera.nodes]]\nname = 'junk'\naddress = '{}:9999'\npriority = 90\n",
        pair.galera.balancer.address()
    );
    pair.b.kill();
    pair.b.serve(253, &(sections(&pair.galera) + &junk));
    pair.b.set_password("not this one");
    pair.b.start();
    let is_named = |status: &Status| {
        let nodes = &status.galera.as_ref().unwrap().nodes;
        let says = |name: &str, text: &str| {
            let node = nodes.iter().find(|node| node.name == name);
            let why = node.and_then(|node| node.reason.as_ref());
            why.is_some_and(|(word, why)| word == "stranger" && why.contains(text))
        };
        status.ready
            && says("db1", "Access denied")
            && says("db3", "Access denied")
            && says("junk", "")
    };
    pair.b.until("what is wrong is named", is_named).await;
    let (code, told) = pair.b.ask(&["status", "--check"]);
    assert!(code == Some(2) && told.contains("Access denied"), "{code:?} {told}");
    let (_, told) = pair.b.ask(&["backend", "list"]);
    assert!(told.contains("galera/junk") && told.contains("down"), "{told}");
    assert!(pair.b.log().contains("database node takes no writes"), "{}", pair.b.log());
    assert!(!pair.b.log().contains("not this one"), "a secret is in the log");
    // It moves nothing: the database is well, only this one cannot see it.
    assert_eq!(pair.writer_is("db1").await, writer_is);
    assert_eq!(load.account(&pair.galera, "while the other one is blind"), ["db1"]);

    pair.b.kill();
    pair.b.serve(253, &sections(&pair.galera));
    pair.b.start();
    pair.settle().await;
}

fn connected() -> TcpStream {
    let stream = TcpStream::connect(front()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A client that has got a server's greeting and says nothing, or why there is none.
fn greeted() -> Result<TcpStream, String> {
    let mut stream = connected();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    if head[4] == 10 {
        return Ok(stream);
    }
    let mut why = Vec::new();
    stream.read_to_end(&mut why).unwrap();
    Err(String::from_utf8_lossy(&why).into_owned())
}
