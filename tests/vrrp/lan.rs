//! A small LAN in network namespaces: a bridge and hosts on it, gone when dropped.

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Long enough for the slowest machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hosts with one interface `eth0` each. The first has the addresses `10.99.0.1/24`,
/// `fe80::1/64` and `2001:db8:99::1/64`, the second `10.99.0.2/24` and so on.
#[derive(Debug)]
pub(crate) struct Lan {
    switch: String,
    hosts: Vec<Host>,
}

/// A host on the LAN.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    namespace: String,
    number: u8,
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
            ip(&format!("netns add {namespace}"));
            lan.hosts.push(Host { namespace: namespace.clone(), number });
            ip(&format!("-n {namespace} link set lo up"));
            lan.plug(number.into());
        }
        lan
    }

    /// The first host has the number 1.
    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }

    /// Gives a host its interface, or a new one after it was deleted.
    pub(crate) fn plug(&self, number: usize) {
        let (host, switch) = (self.host(number), &self.switch);
        ip(&format!(
            "link add eth0 netns {} type veth peer name port{number} netns {switch}",
            host.namespace
        ));
        ip(&format!("-n {switch} link set port{number} master br0 up"));
        host.set_up();
    }

    /// Pulls (false) or plugs in (true) the cable of a host.
    pub(crate) fn set_cable(&self, number: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("-n {} link set port{number} {state}", self.switch));
    }

    /// Keeps two hosts from hearing each other (true), while everybody else hears both.
    pub(crate) fn part(&self, numbers: [usize; 2], parted: bool) {
        let state = if parted { "on" } else { "off" };
        for number in numbers {
            let port = format!("port{number}");
            ip(&format!("-n {} link set {port} type bridge_slave isolated {state}", self.switch));
        }
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
    fn set_up(&self) {
        // The link-local addresses are known ones and usable at once.
        self.ip("link set eth0 addrgenmode none");
        self.ip("link set eth0 up");
        self.ip(&format!("address add {}/24 dev eth0", self.address()));
        for address in [self.link_local(), self.global()] {
            self.ip(&format!("address add {address}/64 dev eth0 nodad"));
        }
    }

    /// Its own IPv4 address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.number)
    }

    /// Its link-local address.
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its other IPv6 address.
    pub(crate) fn global(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, self.number.into())
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

    /// Whether it holds `address` as /32 or /128.
    pub(crate) fn holds(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        self.ip("-o address show dev eth0").contains(&format!(" {address}/{prefix} "))
    }

    /// Writes a file below `/proc/sys/net`.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
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
    pub(crate) fn neighbour(&self, address: impl Into<IpAddr>) -> Option<String> {
        let address = address.into();
        let listing = self.ip(&format!("neighbour show {address} dev eth0"));
        let mut words = listing.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// Whether some host answers for `address`: a closed port is refused, by whoever has it.
    pub(crate) fn reaches(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        let error = self.run(|| {
            let target = match address {
                IpAddr::V6(address) => SocketAddrV6::new(address, 9, 0, interface_index()).into(),
                IpAddr::V4(_) => SocketAddr::from((address, 9)),
            };
            TcpStream::connect_timeout(&target, Duration::from_secs(1)).err()
        });
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }
}

/// The index of `eth0` in the namespace of the calling thread.
pub(crate) fn interface_index() -> u32 {
    let listing = Command::new("ip").args(["-o", "link", "show", "dev", "eth0"]).output();
    let listing = listing.expect("ip can be run").stdout;
    let listing = String::from_utf8_lossy(&listing);
    listing.split(':').next().and_then(|index| index.parse().ok()).expect("eth0 exists")
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

fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("ip can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
