//! A real MariaDB Galera cluster of three nodes, each a machine of its own on a small network.
//!
//! Needs root and Debian's `mariadb-server`, `galera-4`, `mariadb-backup`, `socat` and `rsync`. From nothing to three nodes
//! that keep up takes some ten seconds and 250 MB; everything ends with the value.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trigon::lab::namespaces::{Host, Lan};

/// The user of the load, and the monitor's, which has no rights.
pub(crate) const APP: &str = "app";
pub(crate) const MONITOR: &str = "trigon";
pub(crate) const PASSWORD: &str = "between db and lb";

/// Longest wait for a node; a whole transfer on a busy machine takes some time.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Galera {
    pub(crate) nodes: Vec<Db>,
    pub(crate) balancer: Host,
    lan: Lan,
    _dir: TempDir,
}

/// One node.
pub(crate) struct Db {
    pub(crate) name: String,
    pub(crate) host: Host,
    dir: PathBuf,
    server: Option<Child>,
}

impl Galera {
    /// Three nodes that keep up, and one more machine, of a load balancer or of clients.
    pub(crate) fn start() -> Self {
        let dir = TempDir::new().unwrap();
        // MariaDB gives up root, and has to get through to its own directory.
        open_to_all(dir.path());
        let lan = Lan::new("galera").unwrap();
        let host = |name: &str, last| lan.host(name, Ipv4Addr::new(10, 99, 0, last)).unwrap();
        let balancer = host("lb", 1);
        let mut nodes: Vec<_> = (1..=3)
            .map(|number: u8| {
                let name = format!("db{number}");
                Db {
                    host: host(&name, 10 + number),
                    dir: dir.path().join(&name),
                    name,
                    server: None,
                }
            })
            .collect();
        let all: Vec<_> = nodes.iter().map(|node| node.host.address().to_string()).collect();
        for node in &nodes {
            node.write_config(&all.join(","));
        }
        nodes[0].install();
        nodes[0].start(true);
        nodes[0].wait_synced();
        nodes[0].sql(&format!(
            "CREATE DATABASE load_test;
             CREATE USER '{APP}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}');
             GRANT ALL ON load_test.* TO '{APP}'@'%';
             CREATE USER '{MONITOR}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}');
             CREATE USER haproxy@'%'"
        ));
        for node in &mut nodes[1..] {
            node.start(false);
            node.wait_synced();
        }
        Self { nodes, balancer, lan, _dir: dir }
    }

    /// One more machine on their network.
    pub(crate) fn host(&self, name: &str, last: u8) -> Host {
        self.lan.host(name, Ipv4Addr::new(10, 99, 0, last)).unwrap()
    }

    /// How many of the transactions that were confirmed are not in a table of the load.
    pub(crate) fn lost(&self, table: &str, acknowledged: &BTreeSet<u64>) -> usize {
        let ids = self.nodes[1]
            .sql(&format!("SET wsrep_sync_wait = 1; SELECT id FROM load_test.{table}"));
        let stored: BTreeSet<u64> = ids.lines().filter_map(|line| line.parse().ok()).collect();
        acknowledged.difference(&stored).count()
    }

    /// Waits until all three keep up with each other.
    pub(crate) fn wait_whole(&self) {
        for node in &self.nodes {
            node.wait(|node| node.status("wsrep_cluster_size").as_deref() == Some("3"));
            node.wait_synced();
        }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Db::address).collect()
    }
}

impl Db {
    pub(crate) fn address(&self) -> SocketAddr {
        (self.host.address(), 3306).into()
    }

    fn write_config(&self, all: &str) {
        fs::create_dir_all(self.dir.join("tmp")).unwrap();
        fs::create_dir_all(self.dir.join("data")).unwrap();
        let (dir, ip, name) = (self.dir.display(), self.host.address(), &self.name);
        let text = format!(
            "[mariadbd]\nuser=mysql\ndatadir={dir}/data\ntmpdir={dir}/tmp\nsocket={dir}/socket\n\
             pid-file={dir}/pid\nlog-error={dir}/log\nbind-address={ip}\nport=3306\n\
             skip-name-resolve\nperformance_schema=OFF\nmax_connections=60\n\
             table_open_cache=200\nkey_buffer_size=1M\naria_pagecache_buffer_size=1M\n\
             innodb_buffer_pool_size=32M\ninnodb_log_file_size=16M\n\
             innodb_flush_log_at_trx_commit=2\ninnodb_autoinc_lock_mode=2\nbinlog_format=ROW\n\
             default_storage_engine=InnoDB\ntransaction_isolation=READ-COMMITTED\nwsrep_on=ON\n\
             wsrep_provider=/usr/lib/galera/libgalera_smm.so\nwsrep_cluster_name=trigon_test\n\
             wsrep_cluster_address=gcomm://{all}\nwsrep_node_name={name}\nwsrep_node_address={ip}\n\
             wsrep_node_incoming_address={ip}:3306\nwsrep_slave_threads=2\nwsrep_sst_method=rsync\nwsrep_sst_auth=root:\n\
             wsrep_sst_receive_address={ip}:4444\nwsrep_provider_options=\"gmcast.listen_addr=\
             tcp://{ip}:4567;ist.recv_addr={ip}:4568;ist.recv_bind={ip}:4568;gcache.size=16M;\
             gcache.page_size=16M\"\n"
        );
        fs::write(self.dir.join("my.cnf"), text).unwrap();
        run(Command::new("chown").args(["-R", "mysql:"]).arg(&self.dir));
    }

    fn defaults(&self) -> String {
        format!("--defaults-file={}", self.dir.join("my.cnf").display())
    }

    fn install(&self) {
        run(Command::new("mariadb-install-db").arg(self.defaults()).args([
            "--user=mysql",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]));
    }

    /// Starts the server; the first of a cluster `bootstraps` it.
    pub(crate) fn start(&mut self, bootstraps: bool) {
        let mut command = self.host.command("mariadbd");
        command.arg(self.defaults());
        if bootstraps {
            command.arg("--wsrep-new-cluster");
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(quiet.spawn().unwrap());
    }

    /// Ends it as a power cut of the process would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        let pid = Pid::from_raw(server.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Throws its data away: it has to get everything from another node.
    pub(crate) fn wipe(&self) {
        fs::remove_dir_all(self.dir.join("data")).unwrap();
        fs::create_dir(self.dir.join("data")).unwrap();
        run(Command::new("chown").arg("mysql:").arg(self.dir.join("data")));
    }

    /// How it gets everything from another node from its next start on.
    pub(crate) fn transfer_by(&self, method: &str) {
        let config = self.dir.join("my.cnf");
        let text = fs::read_to_string(&config).unwrap();
        let (before, rest) = text.split_once("wsrep_sst_method=").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        fs::write(config, format!("{before}wsrep_sst_method={method}\n{after}")).unwrap();
    }

    /// Cuts it off from `peers` or heals that; the load balancer still reaches it.
    pub(crate) fn cut_off_from(&self, peers: &[Ipv4Addr], cut: bool) {
        for peer in peers {
            let verb = if cut { "add" } else { "del" };
            let to = format!("{peer}/32");
            run(self.host.command("ip").args(["route", verb, "blackhole", &to]));
        }
    }

    /// Runs statements as root through its socket and tells what they print.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let output = self.mariadb(statements);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {statements}: {told}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    fn mariadb(&self, statements: &str) -> std::process::Output {
        let mut command = Command::new("timeout");
        command.args(["10", "mariadb", "--no-defaults", "-u", "root", "-N", "-B", "-S"]);
        command.arg(self.dir.join("socket")).args(["-e", statements]).output().unwrap()
    }

    fn status(&self, name: &str) -> Option<String> {
        let output = self.mariadb(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(1).map(str::to_owned)
    }

    pub(crate) fn wait_synced(&self) {
        self.wait(|node| {
            node.status("wsrep_local_state").as_deref() == Some("4")
                && node.status("wsrep_cluster_status").as_deref() == Some("Primary")
                && node.status("wsrep_ready").as_deref() == Some("ON")
        });
    }

    fn wait(&self, is_so: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > limit {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                panic!("{} did not come up:\n{}", self.name, tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}
