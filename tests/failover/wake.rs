//! Clients whose server dies hear of it from the next holder of the address: over IPv4 and IPv6,
//! behind NAT, by the thousand, and without any registration in the log. And the old holder keeps
//! its mouth shut. Machines are namespaces, the dying one is unplugged.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::Handle;
use cluster::flows::{Flow, FlowKind, FlowTable, Mark};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use trigon::failover::{Effects, Recorder, Told, Watch};
use trigon::lab::namespaces::{Host, Lan};
use trigon::net::{Socket as Tracked, Sockets};
use vrrp::{Reason, Report, State};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x100);
const PORT: u16 = 443;

/// Longest anybody waits; what is measured is printed.
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(host: &Host, arguments: &str) {
    run(Command::new("ip").args(["-n", host.namespace()]).args(arguments.split(' ')));
}

fn exec(host: &Host, line: &str) {
    let mut words = line.split(' ');
    run(host.command(words.next().unwrap()).args(words));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A client, the node that dies and the one that takes over.
struct Stage {
    client: Host,
    old: Host,
    new: Host,
}

impl Stage {
    fn new() -> Self {
        let lan = Lan::new("trigon-wake").unwrap();
        let host = |name, last| lan.host(name, Ipv4Addr::new(10, 77, 0, last)).unwrap();
        let (client, old, new) = (host("client", 1), host("old", 2), host("new", 3));
        for (host, last) in [(&client, 1), (&old, 2), (&new, 3)] {
            ip(host, &format!("-6 address add fd00:77::{last}/64 dev eth0 nodad"));
        }
        let stage = Self { client, old, new };
        stage.move_to(&stage.old);
        stage
    }

    /// Both virtual addresses, with their announcement.
    fn move_to(&self, host: &Host) {
        ip(host, &format!("address add {VIP}/32 dev eth0"));
        ip(host, &format!("-6 address add {VIP6}/128 dev eth0 nodad"));
        let [a, b, c, d] = host.address().octets();
        for address in [IpAddr::from(VIP), IpAddr::from(VIP6)] {
            let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
            ip(&self.client, &format!("neighbour replace {address} lladdr {mac} dev eth0"));
        }
    }

    fn listen(host: &Host, address: IpAddr) -> TcpListener {
        let listen = || {
            let socket = Socket::new(
                Domain::for_address((address, PORT).into()),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            match address {
                IpAddr::V4(_) => socket.set_freebind_v4(true)?,
                IpAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&SocketAddr::from((address, PORT)).into())?;
            socket.listen(4096)?;
            Ok::<_, std::io::Error>(TcpListener::from(socket))
        };
        host.within(listen).unwrap().unwrap()
    }

    /// Connections from `client` to the node that will die: both ends of each.
    fn connect(
        &self,
        client: &Host,
        address: IpAddr,
        count: usize,
    ) -> (Vec<TcpStream>, Vec<TcpStream>) {
        let listener = Self::listen(&self.old, address);
        let mut ends = (Vec::new(), Vec::new());
        client
            .within(|| {
                for _ in 0..count {
                    ends.0.push(TcpStream::connect((address, PORT)).unwrap());
                    ends.1.push(listener.accept().unwrap().0);
                }
            })
            .unwrap();
        ends
    }

    /// The power cut and the takeover, by a node that knows of `flows` from the dead one only.
    fn take_over(&self, flows: &[Flow]) -> Successor {
        let handle = Handle::in_memory(2);
        let mut table = FlowTable::new(1, usize::MAX);
        for flow in flows {
            assert!(table.add(*flow));
        }
        let mut known = Mark::default();
        while let Some(delta) = table.delta_since(known) {
            handle.flows().lock().apply(1, &delta).unwrap();
            known = delta.end();
        }
        let effects = Effects {
            is_live: Box::new(|_tunnel| false),
            adopt: Box::new(|_addresses| {}),
            abandon: Box::new(|_addresses| {}),
        };
        let recorder = Recorder::new(handle.flows().clone(), Vec::new(), Vec::new());
        let watch = self.new.within(|| Watch::new(handle, effects, recorder)).unwrap();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || watch.run(&told));
        let listeners = [VIP.into(), VIP6.into()].map(|address| Self::listen(&self.new, address));

        self.old.link(false).unwrap();
        self.move_to(&self.new);
        let start = Instant::now();
        let report = Report {
            name: "wake".into(),
            vrid: 1,
            from: State::Backup,
            to: State::Active,
            reason: Reason::ActiveSilent,
            at: start,
            addresses: vec![VIP.into(), VIP6.into()],
        };
        tell.send(Told::Report(report)).unwrap();
        Successor { tell, thread: Some(thread), start, _listeners: listeners }
    }
}

struct Successor {
    tell: Sender<Told>,
    thread: Option<JoinHandle<()>>,
    start: Instant,
    _listeners: [TcpListener; 2],
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.tell.send(Told::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// As a recorder would: by the dying node's end, with nothing known of its numbers.
fn flows(servers: &[TcpStream], kind: FlowKind) -> Vec<Flow> {
    let flow = |stream: &TcpStream| {
        let (server, client) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        Flow { server, client, kind, sequence: None }
    };
    servers.iter().map(flow).collect()
}

/// Waits until every client was told that its connection is over.
#[expect(clippy::print_stderr, reason = "how long it took, for whoever runs it by hand")]
fn all_reset(clients: &mut [TcpStream], successor: &Successor, what: &str) {
    let mut first = None;
    for client in &mut *clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{what}");
        first.get_or_insert_with(|| successor.start.elapsed());
    }
    let all = successor.start.elapsed();
    eprintln!("{what}: {} reset, first after {first:?}, all after {all:?}", clients.len());
}

#[test]
fn an_idle_client_is_told_over_ipv4_and_ipv6_also_without_a_registration() {
    let stage = Stage::new();
    // The second one is a tunnel client of which the log has never heard: there was no quorum.
    let (mut clients, servers) = stage.connect(&stage.client, VIP.into(), 2);
    let (mut clients6, servers6) = stage.connect(&stage.client, VIP6.into(), 1);
    let mut known = flows(&servers[1..], FlowKind::Control);
    known.extend(flows(&servers[..1], FlowKind::Client));
    known.extend(flows(&servers6, FlowKind::Client));
    let successor = stage.take_over(&known);
    all_reset(&mut clients, &successor, "IPv4 client and tunnel client");
    all_reset(&mut clients6, &successor, "IPv6 client");
}

#[test]
fn clients_behind_nat_are_told_like_others() {
    let stage = Stage::new();
    let elsewhere = Lan::new("trigon-wake-in").unwrap();
    let inner = elsewhere.host("inner", Ipv4Addr::new(10, 99, 1, 2)).unwrap();
    let gate = &stage.client;
    ip(gate, &format!("link add nat0 type veth peer name nat1 netns {}", inner.namespace()));
    ip(gate, "address add 10.88.0.1/24 dev nat0");
    ip(gate, "link set nat0 up");
    ip(&inner, "address add 10.88.0.2/24 dev nat1");
    ip(&inner, "link set nat1 up");
    ip(&inner, "route add default via 10.88.0.1");
    gate.sysctl("net.ipv4.ip_forward", "1").unwrap();
    exec(gate, "nft add table ip nat");
    exec(gate, "nft add chain ip nat out { type nat hook postrouting priority 100 ; }");
    exec(gate, "nft add rule ip nat out oifname eth0 masquerade");

    let (mut clients, servers) = stage.connect(&inner, VIP.into(), 20);
    assert_eq!(servers[0].peer_addr().unwrap().ip(), IpAddr::V4(gate.address()), "masqueraded");
    let successor = stage.take_over(&flows(&servers, FlowKind::Client));
    all_reset(&mut clients, &successor, "clients behind NAT");
}

#[test]
fn thousands_of_clients_are_all_told() {
    // Another number by hand: TRIGON_WAKE_FLOWS=20000.
    let count = std::env::var("TRIGON_WAKE_FLOWS").map_or(2000, |text| text.parse().unwrap());
    let wanted = 2 * count as u64 + 1000;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
    let stage = Stage::new();
    stage.client.sysctl("net.ipv4.ip_local_port_range", "10000 60000").unwrap();
    let (mut clients, servers) = stage.connect(&stage.client, VIP.into(), count);
    let successor = stage.take_over(&flows(&servers, FlowKind::Client));
    all_reset(&mut clients, &successor, "many clients");
}

#[test]
fn a_node_that_lost_the_address_drops_its_connections_without_a_packet() {
    let stage = Stage::new();
    let (mut clients, servers) = stage.connect(&stage.client, VIP.into(), 3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sockets = Sockets::default();
    let track = |stream: TcpStream| {
        let _inside = runtime.enter();
        stream.set_nonblocking(true).unwrap();
        let peer = stream.peer_addr().unwrap();
        let tracked = Tracked::new(tokio::net::TcpStream::from_std(stream).unwrap(), peer);
        assert!(sockets.track(&tracked));
        tracked
    };
    let mut servers = servers.into_iter();
    // Something in each that would be sent when the address comes back.
    let unsent = |tracked: &Tracked| {
        runtime.block_on(tracked.tcp().writable()).unwrap();
        tracked.tcp().try_write(b"late news").unwrap();
    };
    let resets = stage.client.within(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
        raw.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        raw
    });
    let resets = Resets(resets.unwrap());

    let first = track(servers.next().unwrap());
    assert_eq!(sockets.abandon(&[VIP.into()]), 1);
    assert_eq!(resets.count(), 1, "the capture works: the address is still here");
    drop(first);
    let end = clients[0].read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));

    sockets.regain(&[VIP.into()]);
    let rest: Vec<_> = servers.map(track).collect();
    ip(&stage.old, &format!("address del {VIP}/32 dev eth0"));
    rest.iter().for_each(unsent);
    assert_eq!(sockets.abandon(&[VIP.into()]), 2);
    drop(rest);
    assert_eq!(resets.count(), 0, "nothing leaves a node that has not the address any more");
    ip(&stage.old, &format!("address add {VIP}/32 dev eth0"));
    assert_eq!(resets.count(), 0, "and nothing comes back to life with the address");
    for client in &mut clients[1..] {
        client.set_nonblocking(true).unwrap();
        let nothing = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(ErrorKind::WouldBlock));
    }
}

/// Segments that reach the client's machine.
struct Resets(Socket);

impl Resets {
    /// Segments from the virtual address's port until it is quiet.
    fn count(&self) -> usize {
        let mut packet = [0; 1500];
        let mut count = 0;
        while (&self.0).read(&mut packet).is_ok() {
            let header = usize::from(packet[0] & 15) * 4;
            let port = u16::from_be_bytes([packet[header], packet[header + 1]]);
            count += usize::from(packet[12..16] == VIP.octets() && port == PORT);
        }
        count
    }
}
