//! A small LAN in network namespaces: a bridge and hosts on it, gone when dropped. Also the real
//! keepalived as a host on it.

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Long enough for the slowest machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hosts `10.99.0.1`, `10.99.0.2`, ... with one interface `eth0` each.
#[derive(Debug)]
pub(crate) struct Lan {
    switch: String,
    hosts: Vec<Host>,
}

/// A host on the LAN.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    namespace: String,
    address: Ipv4Addr,
}

impl Lan {
    /// Builds a LAN with `count` hosts.
    pub(crate) fn new(count: u8) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests build network namespaces and raw sockets: run them as root"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vrrp-{}-{number}", std::process::id());
        let switch = format!("{name}-switch");
        let mut lan = Self { switch: switch.clone(), hosts: Vec::new() };
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add br0 type bridge mcast_snooping 0"));
        ip(&format!("-n {switch} link set br0 up"));
        for number in 1..=count {
            let namespace = format!("{name}-{number}");
            let address = Ipv4Addr::new(10, 99, 0, number);
            ip(&format!("netns add {namespace}"));
            lan.hosts.push(Host { namespace: namespace.clone(), address });
            ip(&format!(
                "link add eth0 netns {namespace} type veth peer name port{number} netns {switch}"
            ));
            ip(&format!("-n {switch} link set port{number} master br0 up"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set eth0 up"));
            ip(&format!("-n {namespace} address add {address}/24 dev eth0"));
        }
        lan
    }

    /// The host with the address `10.99.0.{number}`.
    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }

    /// Pulls (false) or plugs in (true) the cable of a host.
    pub(crate) fn set_cable(&self, number: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("-n {} link set port{number} {state}", self.switch));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().map(|host| &host.namespace).chain([&self.switch]) {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

impl Host {
    /// Its own address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The name for `ip netns`.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `work` on a thread inside the namespace of this host.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.namespace);
                work()
            });
            thread.join().expect("the work inside the namespace panicked")
        })
    }

    /// Whether it holds `address` as /32.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        let listing = ip(&format!("-n {} -4 -o address show dev eth0", self.namespace));
        listing.contains(&format!(" {address}/32 "))
    }

    /// Runs `ip` with `arguments` inside the namespace.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.namespace))
    }

    /// The MAC address of its interface.
    pub(crate) fn mac(&self) -> String {
        let listing = self.ip("-o link show dev eth0");
        let mut words = listing.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).expect("an ethernet has a mac address").to_owned()
    }

    /// The MAC address this host believes `address` to have.
    pub(crate) fn neighbour(&self, address: Ipv4Addr) -> Option<String> {
        let listing = self.ip(&format!("neighbour show {address} dev eth0"));
        let mut words = listing.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// Whether some host answers for `address`: a closed port is refused, by whoever has it.
    pub(crate) fn reaches(&self, address: Ipv4Addr) -> bool {
        let target = SocketAddr::from((address, 9));
        let error = self.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).err();
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &str) {
    use std::os::fd::AsFd;
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

/// Waits until `condition` holds; fails with `what` if it never does.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Watches for a while that `condition` holds all the time.
pub(crate) fn throughout(what: &str, duration: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + duration;
    while Instant::now() < deadline {
        assert!(condition(), "did not last: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The real keepalived on a host, VRRPv3 at 100 ms, stopped in order when dropped.
#[derive(Debug)]
pub(crate) struct Keepalived {
    process: Child,
    directory: tempfile::TempDir,
}

impl Keepalived {
    /// Starts it as backup for `address` with the virtual router id `vrid`.
    pub(crate) fn start(host: &Host, vrid: u8, priority: u8, address: Ipv4Addr) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let configuration = format!(
            "global_defs {{\n  vrrp_version 3\n}}\n\
             vrrp_instance test {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {vrid}\n  \
             priority {priority}\n  advert_int 0.1\n  \
             virtual_ipaddress {{\n    {address}/32\n  }}\n}}\n"
        );
        fs::write(path("keepalived.conf"), configuration).expect("a writable directory");
        let log = File::create(path("log")).expect("a writable directory");
        let process = Command::new("ip")
            .args(["netns", "exec", host.namespace(), "keepalived"])
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
            .arg("--use-file")
            .arg(path("keepalived.conf"))
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vrrp_pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("ip can be run");
        let keepalived = Self { process, directory };
        eventually("keepalived starts (is it installed?)", || {
            keepalived.log().contains("Entering BACKUP STATE")
        });
        keepalived
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        let path: PathBuf = self.directory.path().join("log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Stops it in order: it says goodbye with priority 0.
    pub(crate) fn stop(mut self) {
        self.terminate();
    }

    fn terminate(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.terminate();
    }
}

fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("ip can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
