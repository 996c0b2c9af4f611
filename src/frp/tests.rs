//! The server and the built-in client against each other over the loopback, and the server
//! against a hand-driven client.

mod relay;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cluster::record::{ExApp, Tenant};
use cluster::{Command, Handle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::{self, ClientConfig, ClientEvent, LocalTarget};
use super::crypto::cfb::Key;
use super::login::privilege_key;
use super::message::{
    CloseProxy, Login, LoginResp, Message, NewProxy, NewProxyResp, NewWorkConn, Ping,
};
use super::wire::Codec;
use super::{Config, Credentials, Pki, TlsMode, Tunnels, pki, serve};
use crate::guard::{self, Guard};
use crate::net::{Dial, Stream, Target, TcpDial};
use crate::secret::Secret;

const PORT: u16 = 23001;
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    tunnels: Tunnels,
    cluster: Handle,
    pki: Pki,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start(config: Config) -> Self {
        Self::start_on(Handle::in_memory(1), config).await
    }

    async fn start_on(cluster: Handle, config: Config) -> Self {
        let shared_key = Secret::new("shared");
        let pki = pki::ensure(&cluster, 5000).await.unwrap();
        let keys = guard::SharedKeys::new(shared_key)
            .with(Tenant::new("second"), Secret::new("second key"));
        let guard = guard::Config {
            keys,
            count: 3,
            window: Duration::from_secs(300),
            never_ban: Vec::new(),
        };
        let guard = Guard::new(guard, cluster.clone());
        let tls = Arc::new(pki.server_config(config.tls == TlsMode::Required).unwrap());
        let fallback = TcpDial { within: Duration::from_secs(5), refuse_loopback: true };
        let tunnels = Tunnels::new(config.clone(), fallback, cluster.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let tls = watch::channel(tls).1;
        tokio::spawn(serve(listener, tls, tunnels.clone(), guard, config, stop.clone()));
        Self { address, tunnels, cluster, pki, stop }
    }

    async fn plain() -> Self {
        Self::start(Config { tls: TlsMode::Optional, ..Config::default() }).await
    }

    fn client(&self, local: SocketAddr) -> ClientConfig {
        let local = LocalTarget::Tcp(local.to_string());
        ClientConfig::new(self.address.to_string(), Secret::new("shared"), "app", PORT, local)
    }

    async fn dial(&self) -> io::Result<Stream> {
        timeout(PATIENCE, self.tunnels.dial(&Target::Tunnel(PORT))).await.unwrap()
    }

    fn is_registered(&self) -> bool {
        self.cluster.view().tunnel(&Tenant::default(), PORT).is_some()
    }

    async fn registered(&self, expected: bool) {
        let mut changes = self.cluster.changes();
        while self.is_registered() != expected {
            timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
        }
    }
}

/// A running built-in client.
struct Client {
    events: mpsc::UnboundedReceiver<ClientEvent>,
    stop: CancellationToken,
}

impl Client {
    fn run(config: ClientConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let report = move |event| drop(sender.send(event));
        tokio::spawn(client::run(config, stop.clone(), report));
        Self { events, stop }
    }

    async fn wait_for(&mut self, expected: impl Fn(&ClientEvent) -> bool) -> ClientEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            if expected(&event) {
                return event;
            }
        }
    }

    async fn started(&mut self) {
        self.wait_for(|event| *event == ClientEvent::Started).await;
    }
}

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tcp.into_split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

/// Sends `size` bytes and expects them back.
async fn echo(stream: Stream, size: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut back = vec![0; size];
    timeout(PATIENCE, reader.read_exact(&mut back)).await.unwrap().unwrap();
    assert!(back == bytes, "bytes changed on the way");
    drop(sending.await.unwrap());
}

/// A client driven by hand.
struct Peer {
    stream: Stream,
    codec: Codec,
}

impl Peer {
    async fn connect(server: &Server) -> Self {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        Self { stream: Stream::new(tcp), codec: Codec::new() }
    }

    async fn send(&mut self, message: Message) {
        let mut out = BytesMut::new();
        self.codec.encode(&message, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// `None` at the end.
    async fn receive(&mut self) -> Option<Message> {
        let mut inbox = BytesMut::new();
        loop {
            if let Some(message) = self.codec.next().unwrap() {
                return Some(message);
            }
            inbox.clear();
            match timeout(PATIENCE, self.stream.read_buf(&mut inbox)).await.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(_) => self.codec.push(&inbox),
            }
        }
    }

    async fn try_login(server: &Server, run_id: &str, token: &str) -> (Self, LoginResp) {
        let mut peer = Self::connect(server).await;
        let login = Login {
            privilege_key: privilege_key("", 1),
            timestamp: 1,
            run_id: run_id.into(),
            metas: [("token".to_owned(), token.to_owned())].into(),
            ..Login::default()
        };
        peer.send(Message::Login(login)).await;
        let Some(Message::LoginResp(answer)) = peer.receive().await else {
            panic!("no answer to the login")
        };
        if answer.error.is_empty() {
            let key = Key::derive(b"");
            peer.codec.start_reading_cipher(&key);
            peer.codec.start_writing_cipher(&key, [7; 16]);
        }
        (peer, answer)
    }

    async fn login(server: &Server, run_id: &str) -> (Self, String) {
        let (peer, answer) = Self::try_login(server, run_id, "shared").await;
        assert_eq!(answer.error, "");
        (peer, answer.run_id)
    }

    async fn register(&mut self, name: &str, port: u16) -> String {
        let proxy = NewProxy {
            proxy_name: name.into(),
            proxy_type: "tcp".into(),
            remote_port: port.into(),
            ..NewProxy::default()
        };
        self.send(Message::NewProxy(proxy)).await;
        loop {
            match self.receive().await {
                Some(Message::NewProxyResp(NewProxyResp { error, .. })) => return error,
                Some(_) => {}
                None => panic!("session ended"),
            }
        }
    }

    async fn asked_for_work(&mut self) {
        while !matches!(self.receive().await, Some(Message::ReqWorkConn(_))) {}
    }

    async fn work(server: &Server, run_id: &str) -> Self {
        let mut work = Self::connect(server).await;
        let hello = NewWorkConn { run_id: run_id.into(), ..NewWorkConn::default() };
        work.send(Message::NewWorkConn(hello)).await;
        work
    }
}

/// One mux connection driven by hand, frame by frame.
struct MuxPeer {
    tcp: TcpStream,
    received: HashMap<u32, (Codec, Vec<u8>)>,
}

impl MuxPeer {
    const DATA: u8 = 0;
    const WINDOW_UPDATE: u8 = 1;
    const SYN: u16 = 1;

    async fn connect(server: &Server) -> Self {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        Self { tcp, received: HashMap::new() }
    }

    async fn frame(&mut self, kind: u8, flags: u16, stream: u32, length: u32, data: &[u8]) {
        let mut frame = vec![0, kind];
        frame.extend(flags.to_be_bytes());
        frame.extend(stream.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend(data);
        self.tcp.write_all(&frame).await.unwrap();
    }

    async fn open(&mut self, stream: u32) {
        self.frame(Self::WINDOW_UPDATE, Self::SYN, stream, 0, &[]).await;
        self.received.insert(stream, Default::default());
    }

    async fn send(&mut self, stream: u32, message: Message) {
        let mut out = BytesMut::new();
        self.received.get_mut(&stream).unwrap().0.encode(&message, &mut out);
        self.data(stream, &out).await;
    }

    async fn data(&mut self, stream: u32, bytes: &[u8]) {
        let length = bytes.len().try_into().unwrap();
        self.frame(Self::DATA, 0, stream, length, bytes).await;
    }

    /// Reads one frame into its stream.
    async fn pump(&mut self) {
        let mut header = [0; 12];
        timeout(PATIENCE, self.tcp.read_exact(&mut header)).await.unwrap().unwrap();
        if header[1] == Self::DATA {
            let stream = u32::from_be_bytes(header[4..8].try_into().unwrap());
            let length = u32::from_be_bytes(header[8..].try_into().unwrap());
            let mut data = vec![0; length.try_into().unwrap()];
            self.tcp.read_exact(&mut data).await.unwrap();
            self.received.get_mut(&stream).unwrap().1.extend(data);
        }
    }

    async fn receive(&mut self, stream: u32) -> Message {
        loop {
            let (codec, bytes) = self.received.get_mut(&stream).unwrap();
            codec.push(&std::mem::take(bytes));
            if let Some(message) = codec.next().unwrap() {
                return message;
            }
            self.pump().await;
        }
    }
}

#[tokio::test]
async fn a_mux_session_logs_in_on_its_first_stream_and_works_on_the_others() {
    let server = Server::plain().await;
    let mut peer = MuxPeer::connect(&server).await;
    peer.open(1).await;
    let login = Login {
        privilege_key: privilege_key("", 1),
        timestamp: 1,
        metas: [("token".to_owned(), "shared".to_owned())].into(),
        ..Login::default()
    };
    peer.send(1, Message::Login(login)).await;
    let Message::LoginResp(answer) = peer.receive(1).await else { panic!("no answer") };
    assert_eq!(answer.error, "");
    let control = &mut peer.received.get_mut(&1).unwrap().0;
    let key = Key::derive(b"");
    control.start_reading_cipher(&key);
    control.start_writing_cipher(&key, [7; 16]);
    let proxy =
        NewProxy { proxy_name: "app".into(), remote_port: PORT.into(), ..NewProxy::default() };
    peer.send(1, Message::NewProxy(proxy)).await;
    let Message::NewProxyResp(answer) = peer.receive(1).await else { panic!("no answer") };
    assert_eq!((answer.remote_addr.as_str(), answer.error.as_str()), (":23001", ""));

    let tunnels = server.tunnels.clone();
    let user = tokio::spawn(async move {
        let mut stream = tunnels.dial(&Target::Tunnel(PORT)).await.unwrap();
        stream.write_all(b"question").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    });
    assert!(matches!(peer.receive(1).await, Message::ReqWorkConn(_)));
    peer.open(3).await;
    let hello =
        NewWorkConn { run_id: server.tunnels.status()[0].run_id.clone(), ..Default::default() };
    peer.send(3, Message::NewWorkConn(hello)).await;
    let Message::StartWorkConn(start) = peer.receive(3).await else { panic!("no start") };
    assert_eq!(start.proxy_name, "app");
    let (codec, mut bytes) = peer.received.remove(&3).unwrap();
    bytes.splice(0..0, codec.into_rest());
    peer.received.insert(3, (Codec::new(), bytes));
    while peer.received[&3].1.len() < 8 {
        peer.pump().await;
    }
    assert_eq!(peer.received[&3].1, b"question");
    peer.data(3, b"answer").await;
    assert_eq!(&timeout(PATIENCE, user).await.unwrap().unwrap(), b"answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_come_back_whole_over_mutual_tls() {
    let server = Server::start(Config::default()).await;
    let mut config = server.client(echo_server().await);
    config.tls = Some(Arc::new(server.pki.client_config().unwrap()));
    let mut client = Client::run(config);
    client.started().await;
    let (first, second) = tokio::join!(server.dial(), server.dial());
    tokio::join!(echo(first.unwrap(), 5 << 20), echo(second.unwrap(), 1 << 20));
    client.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_users_at_once_are_served_without_tls_too() {
    let server = Server::plain().await;
    let mut client = Client::run(server.client(echo_server().await));
    client.started().await;
    let users: Vec<_> = (0..40)
        .map(|_| {
            let tunnels = server.tunnels.clone();
            tokio::spawn(async move {
                let stream = tunnels.dial(&Target::Tunnel(PORT)).await.unwrap();
                echo(stream, 20_000).await;
            })
        })
        .collect();
    for user in users {
        timeout(PATIENCE, user).await.unwrap().unwrap();
    }
    client.stop.cancel();
}

#[tokio::test]
async fn users_are_led_to_a_unix_socket_and_see_its_absence_at_once() {
    let server = Server::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exapp.sock");
    let mut config = server.client(server.address);
    config.local = LocalTarget::Unix(path.clone());
    let mut client = Client::run(config);
    client.started().await;

    let mut stream = server.dial().await.unwrap();
    let mut nothing = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert!(nothing.is_empty());

    let listener = UnixListener::bind(&path).unwrap();
    let exapp = async {
        let (mut exapp, _) = listener.accept().await.unwrap();
        exapp.write_all(b"hello").await.unwrap();
    };
    let (stream, ()) = tokio::join!(server.dial(), exapp);
    let mut hello = String::new();
    timeout(PATIENCE, stream.unwrap().read_to_string(&mut hello)).await.unwrap().unwrap();
    assert_eq!(hello, "hello");
    client.stop.cancel();
}

#[tokio::test]
async fn a_tunnel_opens_and_works_while_the_cluster_never_answers() {
    let server = Server::plain().await;
    server.cluster.fall_silent();
    let mut client = Client::run(server.client(echo_server().await));
    client.started().await;
    echo(server.dial().await.unwrap(), 1000).await;
    assert!(server.cluster.view().tunnels().next().is_none(), "the cluster has said nothing");
    client.stop.cancel();
}

#[tokio::test]
async fn a_client_that_loses_its_server_finds_it_again() {
    let server = Server::plain().await;
    let mut client = Client::run(server.client(echo_server().await));
    client.started().await;
    let before = server.tunnels.status()[0].clone();
    server.tunnels.abandon(&[std::net::IpAddr::from([127, 0, 0, 1])]);
    client.wait_for(|event| matches!(event, ClientEvent::Lost(_))).await;
    client.started().await;
    let after = server.tunnels.status()[0].clone();
    assert_eq!(before.run_id, after.run_id);
    assert_ne!(before.client, after.client);
    echo(server.dial().await.unwrap(), 1000).await;
    client.stop.cancel();
}

#[tokio::test]
async fn a_client_without_tls_or_certificate_is_not_let_in_when_tls_is_required() {
    let server = Server::start(Config::default()).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(Message::Login(Login::default())).await;
    assert_eq!(peer.receive().await, None);
}

#[tokio::test]
async fn a_request_waits_for_a_known_tunnel_and_fails_at_once_for_an_unknown_one() {
    let server = Server::plain().await;
    let error = server.dial().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let local = echo_server().await;
    let mut client = Client::run(server.client(local));
    client.started().await;
    server.registered(true).await;
    client.stop.cancel();
    let mut changed = server.tunnels.status();
    while changed[0].live_here {
        tokio::time::sleep(Duration::from_millis(5)).await;
        changed = server.tunnels.status();
    }
    assert!(server.tunnels.is_known(PORT), "a lost client keeps its registration");

    let tunnels = server.tunnels.clone();
    let waiting = tokio::spawn(async move { tunnels.dial(&Target::Tunnel(PORT)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    let mut client = Client::run(server.client(local));
    client.started().await;
    let stream = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    echo(stream, 1000).await;
    client.stop.cancel();
}

#[tokio::test]
async fn everybody_who_waits_is_served_when_the_tunnel_comes_back() {
    let config = Config {
        tls: TlsMode::Optional,
        tunnel_wait: PATIENCE,
        work_connection_wait: PATIENCE,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let (mut peer, _) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    drop(peer);
    while server.tunnels.is_live(PORT) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let users: Vec<_> = (0..1000)
        .map(|_| {
            let tunnels = server.tunnels.clone();
            tokio::spawn(async move {
                let stream = tunnels.dial(&Target::Tunnel(PORT)).await.unwrap();
                echo(stream, 100).await;
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let client = Client::run(server.client(echo_server().await));
    for user in users {
        timeout(PATIENCE, user).await.unwrap().unwrap();
    }
    client.stop.cancel();
}

#[tokio::test]
async fn time_spent_with_a_dying_session_is_not_time_spent_waiting_for_the_next() {
    let config = Config {
        tls: TlsMode::Optional,
        tunnel_wait: Duration::from_millis(500),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let (mut peer, run_id) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    let tunnels = server.tunnels.clone();
    let waiting = tokio::spawn(async move { tunnels.dial(&Target::Tunnel(PORT)).await });
    // The client is silent for longer than a tunnel is waited for, then logs in again.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (mut peer, _) = Peer::login(&server, &run_id).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(peer.register("app", PORT).await, "");
    let _work = Peer::work(&server, &run_id).await;
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_registration_made_while_its_predecessor_is_forgotten_survives() {
    let server = Server::plain().await;
    let (mut peer, _) = Peer::login(&server, "").await;
    let close = || Message::CloseProxy(CloseProxy { proxy_name: "app".into() });
    for _ in 0..20 {
        assert_eq!(peer.register("app", PORT).await, "");
        peer.send(close()).await;
    }
    assert_eq!(peer.register("app", PORT).await, "");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.is_registered());
}

#[tokio::test]
async fn a_known_tunnel_that_does_not_come_back_times_out() {
    let config = Config {
        tls: TlsMode::Optional,
        tunnel_wait: Duration::from_millis(50),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let (mut peer, _) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    drop(peer);
    while server.tunnels.status()[0].live_here {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.dial().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn the_same_run_id_replaces_its_old_session_at_once() {
    let server = Server::plain().await;
    let (mut old, run_id) = Peer::login(&server, "").await;
    assert_eq!(run_id.len(), 16);
    assert_eq!(old.register("app", PORT).await, "");
    // Another name: without the replacement this would be "port already used".
    let (mut new, echoed) = Peer::login(&server, &run_id).await;
    assert_eq!(echoed, run_id);
    assert_eq!(new.register("renamed", PORT).await, "");
    assert_eq!(old.receive().await, None, "the old session is gone");
    new.send(Message::Ping(Ping::default())).await;
    assert!(matches!(new.receive().await, Some(Message::Pong(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_client_takes_over_and_a_stranger_does_not() {
    let server = Server::plain().await;
    let (mut old, _) = Peer::login(&server, "").await;
    assert_eq!(old.register("app", PORT).await, "");
    let (mut stranger, _) = Peer::login(&server, "").await;
    assert_eq!(stranger.register("other", PORT).await, "port already used");
    assert_eq!(stranger.register("app", PORT + 1).await, "proxy [app] already exists");
    let (mut new, run_id) = Peer::login(&server, "").await;
    assert_eq!(new.register("app", PORT).await, "");
    assert_eq!(old.receive().await, None);
    assert_eq!(server.tunnels.status()[0].run_id, run_id);
}

#[tokio::test]
async fn two_living_clients_do_not_throw_each_other_out_in_turns() {
    let server = Server::plain().await;
    let (mut first, run_id) = Peer::login(&server, "").await;
    assert_eq!(first.register("app", PORT).await, "");
    let (mut second, _) = Peer::login(&server, "").await;
    assert_eq!(second.register("app", PORT).await, "", "may be the first one, restarted");
    assert_eq!(first.receive().await, None);
    let (mut first, _) = Peer::login(&server, &run_id).await;
    assert_eq!(first.register("app", PORT).await, "port already used");
    drop(second);
    while server.tunnels.is_live(PORT) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(first.register("app", PORT).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_work_connection_costs_the_user_nothing() {
    let server = Server::plain().await;
    let (mut peer, run_id) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    drop(Peer::work(&server, &run_id).await);
    drop(Peer::work(&server, &run_id).await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let tunnels = server.tunnels.clone();
    let user = tokio::spawn(async move { tunnels.dial(&Target::Tunnel(PORT)).await });
    peer.asked_for_work().await;
    let mut work = Peer::work(&server, &run_id).await;
    let Some(Message::StartWorkConn(start)) = work.receive().await else { panic!("no start") };
    assert_eq!((start.proxy_name.as_str(), start.dst_port), ("app", PORT));
    let mut stream = timeout(PATIENCE, user).await.unwrap().unwrap().unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    work.stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn a_work_connection_of_nobody_is_told_so() {
    let server = Server::plain().await;
    let mut work = Peer::work(&server, "0123456789abcdef").await;
    let Some(Message::StartWorkConn(start)) = work.receive().await else { panic!("no answer") };
    assert_eq!(start.error, "no session has that run id");
    assert_eq!(work.receive().await, None);
}

#[tokio::test]
async fn wrong_keys_are_refused_in_harps_words_and_end_in_a_ban() {
    let server = Server::plain().await;
    for _ in 0..3 {
        let (mut peer, answer) = Peer::try_login(&server, "", "wrong").await;
        assert_eq!(answer.error, "send Login request to plugin error");
        assert_eq!(peer.receive().await, None);
    }
    let (_, answer) = Peer::try_login(&server, "", "wrong").await;
    assert_eq!(answer.error, "banned");
    let (_, answer) = Peer::try_login(&server, "", "shared").await;
    assert_eq!(answer.error, "", "others behind the same address must not lock a client out");
}

#[tokio::test]
async fn a_closed_proxy_is_forgotten_at_once_and_a_lost_one_after_a_while() {
    let config = Config {
        tls: TlsMode::Optional,
        forget_after: Duration::from_millis(200),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let (mut peer, _) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    peer.send(Message::CloseProxy(CloseProxy { proxy_name: "app".into() })).await;
    server.registered(false).await;

    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    drop(peer);
    server.registered(false).await;
}

#[tokio::test]
async fn abandoned_tunnels_end_here_and_stay_registered() {
    let server = Server::plain().await;
    let (mut peer, run_id) = Peer::login(&server, "").await;
    assert_eq!(peer.register("app", PORT).await, "");
    server.registered(true).await;
    let work = Peer::work(&server, &run_id).await;
    let mut user = server.dial().await.unwrap();
    server.tunnels.abandon(&[std::net::IpAddr::from([127, 0, 0, 1])]);
    assert!(!server.tunnels.status()[0].live_here);
    assert!(server.tunnels.is_known(PORT));
    // Also the user of a work connection that is a socket of its own.
    let mut end = Vec::new();
    let _ = timeout(PATIENCE, user.read_to_end(&mut end)).await.unwrap();
    assert!(end.is_empty());
    drop(work);
}

#[tokio::test]
async fn more_garbage_than_a_first_message_may_be_is_not_read() {
    let server = Server::plain().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"o\xff\xff\xff\xff\xff\xff\xff\xff", b"\x17"] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() < 64, "{rest:?}");
    }
}

fn token(app: &str, port: u16) -> String {
    let keys = guard::SharedKeys::new(Secret::new("shared"));
    Credentials::new(&keys).issue(&Tenant::default(), app, port).unwrap()
}

#[tokio::test]
async fn w18_a_client_with_a_token_gets_its_own_tunnel_and_nothing_else() {
    let server = Server::plain().await;
    let (mut peer, answer) = Peer::try_login(&server, "", &token("app", PORT)).await;
    assert_eq!(answer.error, "");
    for (name, port) in [("other", PORT), ("app", PORT + 1), ("engine", 24000)] {
        let refused = peer.register(name, port).await;
        assert!(refused.contains("token is for proxy [app] on port 23001 only"), "{refused}");
    }
    assert_eq!(peer.register("app", PORT).await, "");
    let (_, answer) = Peer::try_login(&server, "", &format!("{}x", token("app", PORT))).await;
    assert_eq!(answer.error, "send Login request to plugin error");
}

#[tokio::test]
async fn w18_a_leaked_key_takes_no_tunnel_from_the_app_that_shows_its_token() {
    let server = Server::plain().await;
    let (mut app, _) = Peer::try_login(&server, "", &token("app", PORT)).await;
    assert_eq!(app.register("app", PORT).await, "");
    let (mut thief, _) = Peer::login(&server, "").await;
    assert_eq!(thief.register("app", PORT).await, "port already used");
    // The app itself, restarted, does get it.
    let (mut again, _) = Peer::try_login(&server, "", &token("app", PORT)).await;
    assert_eq!(again.register("app", PORT).await, "");
}

#[tokio::test]
async fn w18_the_key_opens_no_port_nextcloud_gave_to_another_app_unless_told_so() {
    let record = ExApp {
        id: "victim".into(),
        token: "secret".into(),
        version: "1".into(),
        host: "127.0.0.1".into(),
        port: PORT,
        routes: Vec::new(),
    };
    for (app_credentials, expected) in
        [(true, "port already used: Nextcloud has given port 23001 to app [victim]"), (false, "")]
    {
        let server =
            Server::start(Config { tls: TlsMode::Optional, app_credentials, ..Config::default() })
                .await;
        let record = server.cluster.seal_exapp(&Tenant::default(), &record);
        let push = Command::PushExApp { tenant: Tenant::default(), record };
        server.cluster.propose(push, PATIENCE).await.unwrap();
        let (mut peer, _) = Peer::login(&server, "").await;
        assert_eq!(peer.register("thief", PORT).await, expected);
        let (mut engine, _) = Peer::login(&server, "").await;
        assert_eq!(engine.register("engine", 24000).await, "");
    }
}

#[tokio::test]
async fn w18_a_run_id_belongs_to_whoever_proved_the_same() {
    let server = Server::plain().await;
    let (mut app, answer) = Peer::try_login(&server, "", &token("app", PORT)).await;
    assert_eq!(app.register("app", PORT).await, "");
    let (_other, other) = Peer::try_login(&server, &answer.run_id, &token("other", 23002)).await;
    assert_ne!(other.run_id, answer.run_id);
    let refused = app.register("app", PORT).await;
    assert_eq!(refused, "", "the session goes on");
}

/// Says who it is to everyone who connects.
async fn greeter(name: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.write_all(name).await;
        }
    });
    address
}

#[tokio::test]
async fn tenants_tunnels_of_the_same_name_and_port_do_not_cross() {
    let server = Server::plain().await;
    let second = server.tunnels.of(&Tenant::new("second"));
    let third = server.tunnels.of(&Tenant::new("third"));
    let mut ours = Client::run(server.client(greeter(b"first").await));
    ours.started().await;
    let refused = second.dial(&Target::Tunnel(PORT)).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound, "another tenant's tunnel is none");
    let local = LocalTarget::Tcp(greeter(b"second").await.to_string());
    let address = server.address.to_string();
    let theirs = ClientConfig::new(address, Secret::new("second key"), "app", PORT, local);
    let mut theirs = Client::run(theirs);
    theirs.started().await;
    for (tunnels, expected) in [(&server.tunnels, "first"), (&second, "second")] {
        let mut stream =
            timeout(PATIENCE, tunnels.dial(&Target::Tunnel(PORT))).await.unwrap().unwrap();
        let mut said = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
        assert_eq!(said, expected);
    }
    assert!(third.dial(&Target::Tunnel(PORT)).await.is_err());
    let tenants: Vec<_> = server.tunnels.status().into_iter().map(|one| one.tenant).collect();
    assert_eq!(tenants, [Tenant::default(), Tenant::new("second")]);
    theirs.stop.cancel();
    timeout(PATIENCE, async {
        while second.is_live(PORT) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(server.tunnels.is_live(PORT), "one tenant's goodbye is not the other's");
}
