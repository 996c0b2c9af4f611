//! Whole presences on loopback: real TLS, real threads, and a third member that misbehaves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::message::{Beat, Content, Hello};
use super::{Presence, RouterState, RouterWord, Word};
use crate::config::{Config, Role};
use crate::flows::{Flow, FlowKind};
use crate::founding::{Admission, Founding, admit, found};
use crate::handle::Handle;
use crate::identity::{Identity, link_files};
use crate::network::connection;
use crate::network::{Answer, Envelope, Request};
use crate::node::Node;
use crate::passport::Passport;
use crate::types::{number_of, raft_id};

const PACE: Duration = Duration::from_millis(10);

/// Directories of members 1, 2 and 3, of which 3 has the last word on itself.
struct Stage {
    dir: TempDir,
    passports: Vec<Passport>,
    third: TcpListener,
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let third = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = [1, 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [one, two] = taken.map(|listener| listener.local_addr().unwrap());
        let at = |id: u64| dir.path().join(id.to_string());
        let founding =
            Founding { cluster_name: "stage".into(), node_name: "n1".into(), advertise: Some(one) };
        let mut passports = vec![found(&at(1), &founding).unwrap()];
        let others = [(2, two, Role::Node), (3, third.local_addr().unwrap(), Role::Witness)];
        for (id, advertise, role) in others {
            let admission = Admission { node_name: format!("n{id}"), role, advertise };
            passports.push(admit(&at(1), &at(id), &admission).unwrap());
        }
        Self { dir, passports, third }
    }

    fn passport(&self, id: u64) -> &Passport {
        self.passports.iter().find(|passport| passport.number == id).unwrap()
    }

    fn address(&self, id: u64) -> SocketAddr {
        self.passport(id).advertise.unwrap()
    }

    fn identity(&self, id: u64) -> Identity {
        let files = link_files(&self.dir.path().join(id.to_string()));
        Identity::load(&files, &self.passport(id).group.cluster.to_string(), id).unwrap()
    }

    async fn start(&self, id: u64, presence: Presence) -> Node {
        self.start_with_handle(id, presence).await.0
    }

    async fn start_with_handle(&self, id: u64, presence: Presence) -> (Node, Handle) {
        let config = Config {
            listen: Some(self.address(id)),
            ..Config::new(self.dir.path().join(id.to_string()))
        };
        Node::start_with(config, presence).await.unwrap()
    }

    /// A presence connection somebody opens to member 3, greeted as asked.
    async fn greeted(&self) -> (u64, TlsStream<TcpStream>) {
        let identity = self.identity(3);
        loop {
            let (stream, _) = self.third.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(identity.server());
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // The engine asks on connections of its own; nobody answers it here.
            let Ok(envelope) = connection::read::<Envelope>(&mut stream).await else { continue };
            if matches!(envelope.request, Request::Presence(_)) {
                let answer = Answer::Presence(Hello::new(None));
                connection::write(&mut stream, &answer).await.unwrap();
                return (number_of(envelope.from), stream);
            }
        }
    }
}

fn word(priority: u8) -> Word {
    let router = RouterWord {
        name: "web".into(),
        vrid: 51,
        addresses: vec![[192, 0, 2, 10].into()],
        state: RouterState::Active,
        priority,
        source: Some([192, 0, 2, 1].into()),
        yielding: false,
        advertising: true,
    };
    Word { healthy: true, routers: vec![router], ..Word::default() }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether `by` has a beat of `of` that is younger than this moment.
async fn hears_anew(by: &Presence, of: u64) {
    let now = Instant::now();
    let heard = || by.heard().peers[&of].last.as_ref().is_some_and(|told| told.at > now);
    eventually("a fresh beat", heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_hear_what_the_other_says_and_how_far_away_it_is() {
    let stage = Stage::new().await;
    let [one, two] = [Presence::new(Some(PACE)), Presence::new(None)];
    one.speak(|| word(254));
    let nodes = [stage.start(1, one.clone()).await, stage.start(2, two.clone()).await];
    eventually("node 2 hears node 1", || {
        two.heard().about(1).any(|told| told.word.routers == word(254).routers)
    })
    .await;
    eventually("the round trip", || one.heard().peers[&2].round_trip.is_some()).await;
    assert!(!one.heard().peers[&2].last.as_ref().unwrap().word.healthy, "it has said nothing yet");
    two.speak(|| word(253));
    eventually("what it says later", || {
        one.heard().about(2).any(|told| told.word.routers[..] == word(253).routers[..])
    })
    .await;

    let [first, second] = nodes;
    second.shutdown().await;
    eventually("the connection is gone", || !one.heard().peers[&2].connected).await;
    let again = stage.start(2, Presence::new(None)).await;
    hears_anew(&one, 2).await;
    again.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_travel_with_the_beats_piece_by_piece() {
    let stage = Stage::new().await;
    let [one, two] = [Presence::new(Some(PACE)), Presence::new(None)];
    let (first, here) = stage.start_with_handle(1, one).await;
    let (second, there) = stage.start_with_handle(2, two).await;
    let server: SocketAddr = "192.0.2.10:8780".parse().unwrap();
    let client = |port| SocketAddr::from(([198, 51, 100, 7], port));
    // Three deltas' worth.
    for port in 1..=1200 {
        let kind = FlowKind::Client;
        here.flows().lock().add(Flow { server, client: client(port), kind, sequence: None });
    }
    let heard = || there.flows().lock().of_node(1).count();
    eventually("all flows are known there", || heard() == 1200).await;
    here.flows().lock().remove(server, client(7));
    eventually("one is known to have ended", || heard() == 1199).await;
    assert!(there.flows().lock().of_node(1).all(|flow| flow.client != client(7)));
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_cannot_wait_does_not_wait_for_the_rhythm() {
    let stage = Stage::new().await;
    let (first, here) = stage.start_with_handle(1, Presence::new(None)).await;
    let (second, there) = stage.start_with_handle(2, Presence::new(None)).await;
    // A witness is told no flows, so what it gets is the rhythm.
    let mut witness = loop {
        if let (1, stream) = stage.greeted().await {
            break stream;
        }
    };
    let (beats, mut counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while connection::read::<Beat>(&mut witness).await.is_ok() {
            beats.send_modify(|beats| *beats += 1);
        }
    });
    let server: SocketAddr = "192.0.2.10:3306".parse().unwrap();
    let mut open = Vec::new();
    let mut before = 0;
    for port in 1..=20 {
        let client = SocketAddr::from(([198, 51, 100, 7], port));
        let flow = Flow { server, client, kind: FlowKind::Client, sequence: None };
        open.push(here.flows().record(flow));
        let heard = || there.flows().lock().of_node(1).any(|flow| flow.client == client);
        eventually("the flow is known there", heard).await;
        if port == 1 {
            // Now they are connected.
            before = *counted.borrow_and_update();
        }
    }
    let passed = *counted.borrow() - before;
    assert!(passed < 10, "{passed} beats for 19 flows, one after the other");
    drop(open);
    eventually("they have ended", || there.flows().lock().of_node(1).count() == 0).await;
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_counted_and_the_others_are_heard_all_the_while() {
    let stage = Stage::new().await;
    let [one, two] = [Presence::new(Some(PACE)), Presence::new(Some(PACE))];
    let nodes = [stage.start(1, one.clone()).await, stage.start(2, two.clone()).await];
    let beat = |sequence, word| Beat::new(sequence, None, Content { word, ..Content::default() });
    let framed = |beat: &Beat| {
        let mut bytes = postcard::to_extend(beat, vec![0; 5]).unwrap();
        let header = crate::network::frame::header(bytes.len() - 5).unwrap();
        bytes.splice(..5, header);
        bytes
    };
    let mut routers = word(1).routers;
    routers[0].name = "x".repeat(100);
    let table = [
        ("no frame at all", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a frame of another version", vec![99, 0, 0, 0, 1, 0]),
        ("a huge frame", vec![crate::codec::VERSION, 0, 127, 255, 255]),
        ("a frame that is no beat", vec![crate::codec::VERSION, 0, 0, 0, 3, 255, 255, 255]),
        ("more than a beat", {
            let mut bytes = framed(&beat(1, word(1)));
            bytes[4] += 1;
            bytes.push(0);
            bytes
        }),
        ("an endless name", framed(&beat(1, Word { healthy: true, routers, ..Word::default() }))),
        ("the same beat twice", [framed(&beat(1, word(1))), framed(&beat(1, word(1)))].concat()),
    ];
    for (name, bytes) in table {
        let before = one.refused() + two.refused();
        let (_, mut stream) = stage.greeted().await;
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        eventually(name, || one.refused() + two.refused() > before).await;
        hears_anew(&one, 2).await;
        hears_anew(&two, 1).await;
    }
    // An honest third member is still welcome, and is heard.
    let mut waiting = std::collections::BTreeSet::from([1, 2]);
    let mut open = Vec::new();
    while !waiting.is_empty() {
        let (from, mut stream) = stage.greeted().await;
        stream.write_all(&framed(&beat(1, word(7)))).await.unwrap();
        stream.flush().await.unwrap();
        waiting.remove(&from);
        open.push(stream);
    }
    for presence in [&one, &two] {
        eventually("the third is heard", || {
            presence.heard().about(3).any(|told| told.word.routers == word(7).routers)
        })
        .await;
    }
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_neither_speaks_nor_reads_is_given_up_and_dialled_again() {
    let stage = Stage::new().await;
    let [one, two] = [Presence::new(Some(PACE)), Presence::new(Some(PACE))];
    let nodes = [stage.start(1, one.clone()).await, stage.start(2, two.clone()).await];
    let (from, silent) = stage.greeted().await;
    let (presence, other) = if from == 1 { (&one, 2) } else { (&two, 1) };
    hears_anew(presence, other).await;
    loop {
        let (again, mut stream) = stage.greeted().await;
        if again == from {
            // Half of a frame, and then nothing.
            stream.write_all(&[crate::codec::VERSION, 0]).await.unwrap();
            let mut rest = Vec::new();
            let limit = Duration::from_secs(20);
            let ended = tokio::time::timeout(limit, stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "still connected");
            break;
        }
    }
    hears_anew(presence, other).await;
    assert!(presence.heard().peers[&3].last.is_none());
    drop(silent);
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_with_another_layout_is_told_so() {
    let stage = Stage::new().await;
    let node = stage.start(1, Presence::new(None)).await;
    let identity = stage.identity(3);
    let connector = tokio_rustls::TlsConnector::from(identity.client());
    let stream = TcpStream::connect(stage.address(1)).await.unwrap();
    let mut stream = connector.connect(identity.name_of(1).unwrap(), stream).await.unwrap();
    let mut hello = Hello::new(None);
    hello.layout = 99;
    let group = stage.passport(3).group;
    let request = Request::Presence(hello);
    let envelope = Envelope { group, from: raft_id(3, 0), to: raft_id(1, 0), request };
    connection::write(&mut stream, &envelope).await.unwrap();
    match connection::read::<Answer>(&mut stream).await.unwrap() {
        Answer::Refused(text) => assert!(text.contains("layout 99"), "{text}"),
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}
