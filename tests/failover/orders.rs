//! What an admin tells a running cluster: drain, undrain, failover and drill, by the commands
//! themselves, with a stock frpc and visitors at the address.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use trigon::lab::exapp;
use trigon::lab::namespaces::{INTERFACE, Lan};

use super::vips::{self, Member};

const VIP: Ipv4Addr = vips::VIPS[0];
const PORT: u16 = vips::APPS[0].1;

/// Each has one request in flight at a time.
const VISITORS: usize = 4;

/// Larger than what buffers between client and ExApp can hold.
const DOWNLOAD: usize = 40_000_000;

/// One address on both nodes, the first with the higher priority.
fn config(index: usize, dir: &Path) -> String {
    let member = vips::member_config(index, dir);
    if index == 2 {
        return member;
    }
    format!(
        "{member}metrics.listen = '127.0.0.1:9100'\n[[vrrp]]\ninterface = '{INTERFACE}'\n\
         vrid = 69\npriority = {}\naddresses = ['{VIP}']\n",
        254 - index
    )
}

/// A command on a member's machine: its exit code, and what it printed if that is JSON, else what it
/// complained of.
async fn trigon(member: &Member, arguments: &[&str]) -> (i32, Value) {
    let mut command = member.host.command(env!("CARGO_BIN_EXE_trigon"));
    command.args(arguments).arg("--socket").arg(member.socket());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let complaint = || String::from_utf8_lossy(&output.stderr).into_owned().into();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| complaint());
    (output.status.code().unwrap(), json)
}

fn ask(path: &str) -> TcpStream {
    let to = SocketAddr::from((VIP, 8780));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET /exapps/one{path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Asks again and again, each time on a new connection, until told to end.
struct Visitors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<[usize; 3]>>,
}

impl Visitors {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let visit = || -> std::io::Result<String> {
            let to = SocketAddr::from((VIP, 8780));
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream
                .write_all(b"GET /exapps/one/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let threads = (0..VISITORS).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut counts = [0; 3];
                while !stop.load(Ordering::Relaxed) {
                    let outcome = match visit() {
                        Ok(answer) if answer.ends_with(exapp::PAGE) => 0,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => 2,
                        _ => 1,
                    };
                    counts[outcome] += 1;
                    thread::sleep(Duration::from_millis(2));
                }
                counts
            })
        });
        Self { threads: threads.collect(), stop }
    }

    /// Requests that were answered, that failed, and whose visitor waited until the end.
    fn end(self) -> [usize; 3] {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold([0; 3], |sum, count| std::array::from_fn(|at| sum[at] + count[at]))
    }
}

/// Status of `/readyz` on a member's machine.
fn readyz(member: &Member) -> String {
    let asked = member.host.within(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:9100")?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    asked.unwrap().unwrap().lines().next().unwrap().to_owned()
}

/// Drains the Active under load: what is in flight ends, the address moves, nothing else fails.
async fn drained_under_load(a: &Member, b: &Member) {
    // Nextcloud and the ExApp are on this thread: what waits for them must not.
    let begun = tokio::task::spawn_blocking(|| {
        let mut download = ask(&format!("/source?bytes={DOWNLOAD}"));
        download.read_exact(&mut [0; 1000]).unwrap();
        download
    });
    let mut download = begun.await.unwrap();
    let visitors = Visitors::start();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let slow = async {
        a.until("the drain waits for a request", |status| {
            let waits =
                |drain: &trigon::admin::drain::Drain| drain.phase == "ending" && drain.requests > 0;
            status.drain.as_ref().is_some_and(waits) && !status.ready
        })
        .await;
        assert!(readyz(a).contains("503"));
        let reading = move || {
            // The connection ends with the answer, as everybody is told to come back on another.
            let mut rest = Vec::new();
            download.read_to_end(&mut rest).unwrap();
            rest.len() + 1000
        };
        tokio::task::spawn_blocking(reading).await.unwrap()
    };
    let (length, (code, drain)) =
        tokio::join!(slow, trigon(a, &["drain", "--wait", "30s", "--json"]));
    assert!(length >= DOWNLOAD, "the request in flight ended whole: {length}");
    assert_eq!((code, &drain["phase"], &drain["cut"]), (0, &"drained".into(), &0.into()));
    b.holds(&[true]).await;
    b.tunnel_ends_at(PORT, 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let counts = tokio::task::spawn_blocking(|| visitors.end()).await;
    let [done, failed, hung] = counts.unwrap();
    // What is in flight when the address moves is cut, and perhaps what comes in between.
    assert!(done > 10 && failed <= 2 * VISITORS, "{done} answered, {failed} failed: {drain}");
    assert_eq!(hung, 0, "nobody told their clients that they were cut");
    a.until("it says so", |status| {
        let alarms = status.alarms.iter().map(|alarm| alarm.name.as_str());
        status.draining && alarms.into_iter().any(|name| name == "drained")
    })
    .await;
    a.until("another node leads", |status| !status.cluster.state.contains("leader")).await;
}

async fn orders(lan: Lan) {
    vips::nextcloud().await;
    let [mut a, mut b, mut witness] = vips::members(&lan, config);
    a.start();
    witness.start();
    a.holds(&[true]).await;
    for alone in [&["drain"][..], &["failover"], &["drill"]] {
        assert_eq!(trigon(&a, alone).await.0, 4, "{alone:?} with nobody else");
    }
    a.holds(&[true]).await;
    b.start();
    b.holds(&[false]).await;
    let dir = tempfile::tempdir().unwrap();
    let _client = vips::publish(dir.path(), &a.dir.path().join("state/frp"), 0).await;
    a.tunnel_ends_at(PORT, 1).await;
    a.until("both are fit", |status| {
        status.presence.iter().all(|peer| peer.healthy) && status.cluster.quorum
    })
    .await;

    drained_under_load(&a, &b).await;
    let (code, _) = trigon(&b, &["drain"]).await;
    assert_eq!(code, 4, "the only other node is drained");
    assert_eq!(trigon(&a, &["undrain"]).await.0, 0);
    assert_eq!(trigon(&a, &["undrain"]).await.0, 0);
    // It has the higher priority and preempts.
    a.holds(&[true]).await;
    assert!(readyz(&a).contains("200"));
    a.tunnel_ends_at(PORT, 1).await;

    // From the node that is to get it, by way of the one that holds it.
    let (code, moved) = trigon(&b, &["failover", "--to", "b", "--json"]).await;
    assert_eq!((code, &moved["moves"][0]["to"]), (0, &"b".into()), "{moved}");
    b.holds(&[true]).await;
    let says = |part: &'static str| {
        move |status: &trigon::admin::status::Status| {
            status.vrrp.iter().any(|router| {
                router.adjustments.iter().any(|adjustment| adjustment.reason.contains(part))
            })
        }
    };
    a.until("it stays below", says("an admin's failover")).await;
    // What a said while it held the address for a moment may still be on its way.
    for member in [&a, &b] {
        member.until("changes are confirmed", |status| status.cluster.quorum).await;
    }
    a.tunnel_ends_at(PORT, 2).await;
    let (code, report) =
        trigon(&a, &["drill", "--json", "--probe", &format!("http://{VIP}:8780/exapps/one/")])
            .await;
    let passed = (code, &report["passed"], &report["restored"]);
    assert_eq!(passed, (0, &true.into(), &true.into()), "{report}");
    let [there, back] = [&report["rounds"][0][0], &report["rounds"][0][1]];
    assert_eq!((&there["from"], &there["to"]), (&"b".into(), &"a".into()), "{report}");
    assert_eq!((&back["from"], &back["to"]), (&"a".into(), &"b".into()), "{report}");
    let tunnels = [&there["tunnels_before"], &back["tunnels_after"]];
    assert_eq!(tunnels, [1, 1], "{report}");
    b.holds(&[true]).await;

    // Nobody else is left: b is drained, then a dies.
    assert_eq!(trigon(&b, &["drain"]).await.0, 0);
    a.holds(&[true]).await;
    a.power_cut();
    b.until("a last resort", |status| {
        status.alarms.iter().any(|alarm| alarm.name == "last_resort") && status.draining
    })
    .await;
    b.until("it holds the address", |status| status.vrrp[0].state == "active").await;
    for alone in [&["failover"][..], &["drill"]] {
        assert_eq!(trigon(&b, alone).await.0, 4, "{alone:?} with a dead peer");
    }
    assert_eq!(trigon(&b, &["status", "--check"]).await.0, 2, "a last resort is critical");
}

#[tokio::test]
async fn an_admin_moves_the_address_and_it_is_refused_when_nobody_could_take_it() {
    let lan = Lan::new("trigon-orders").unwrap();
    let cloud = lan.host("cloud", vips::CLOUD).unwrap();
    let test = cloud.enter_thread(move || orders(lan)).unwrap();
    assert!(test.result().await.is_some(), "the test on the machine panicked, see above");
}
