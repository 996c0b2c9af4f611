//! Enters client connections that live long into the flow table.
//!
//! Nothing of this is on the path of a request: a connection that is still open when the second
//! round comes by is asked where it ends, and recorded if that is a virtual address. Most are gone
//! by then; those that are still there when the address leaves are told at last. Where the
//! sequence numbers at the start are known, which is so for tunnel clients, they are brought up to
//! date from time to time, once the connection has come to rest.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cluster::flows::{Flow, FlowKind, Flows, Sequence};

use crate::net::{Grip, Numbers, Sockets};

/// Time between two rounds: most requests are answered within one, and whose was not will be told.
pub(super) const ROUND: Duration = Duration::from_millis(100);

/// Rounds between two looks at how far connections have come.
const REFRESH_EVERY: u32 = 5;

/// Looks after the sockets of a node.
pub struct Recorder {
    flows: Flows,
    rooms: Vec<Sockets>,
    addresses: Vec<IpAddr>,
    young: Vec<Grip>,
    recorded: Vec<Entry>,
    rounds: u32,
}

struct Entry {
    grip: Grip,
    server: SocketAddr,
    client: SocketAddr,
    has_start: bool,
    last: Option<Numbers>,
}

impl Recorder {
    /// Records the connections of `rooms` that end at one of the virtual `addresses`.
    pub fn new(flows: Flows, rooms: Vec<Sockets>, addresses: Vec<IpAddr>) -> Self {
        let (young, recorded) = (Vec::new(), Vec::new());
        Self { flows, rooms, addresses, young, recorded, rounds: 0 }
    }

    /// One round.
    pub(super) fn round(&mut self) {
        if self.addresses.is_empty() {
            return;
        }
        self.remove_closed();
        self.add_grown();
        self.add_late();
        self.young.extend(self.rooms.iter().flat_map(Sockets::fresh));
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(REFRESH_EVERY) {
            self.refresh();
        }
    }

    /// Records what is open however young it is, for addresses that have left: its clients wait for
    /// answers that will not come, and the next holder is to tell them. Whatever is accepted from
    /// now on is late: between the two nothing slips through.
    pub(super) fn last_words(&mut self, left: &[IpAddr]) {
        self.rooms.iter().for_each(|room| room.turn_away(left));
        self.young.extend(self.rooms.iter().flat_map(Sockets::fresh));
        self.remove_closed();
        self.add_grown();
    }

    fn remove_closed(&mut self) {
        let closed: Vec<_> = self.recorded.extract_if(.., |entry| !entry.grip.is_open()).collect();
        if closed.is_empty() {
            return;
        }
        let mut table = self.flows.lock();
        for entry in closed {
            table.remove(entry.server, entry.client);
        }
    }

    fn add_grown(&mut self) {
        let mut grown = Vec::new();
        for grip in self.young.drain(..) {
            let Some((server, client)) = grip.ends() else { continue };
            if self.addresses.contains(&server.ip().to_canonical()) {
                let has_start = grip.has_start();
                grown.push(Entry { grip, server, client, has_start, last: None });
            }
        }
        if grown.is_empty() {
            return;
        }
        let mut table = self.flows.lock();
        for Entry { server, client, .. } in &grown {
            let (server, client) = (*server, *client);
            table.add(Flow { server, client, kind: FlowKind::Client, sequence: None });
        }
        drop(table);
        self.recorded.append(&mut grown);
    }

    /// Their clients wait for nothing, like those of [`Self::last_words`].
    fn add_late(&self) {
        let late: Vec<_> = self.rooms.iter().flat_map(Sockets::late).collect();
        if late.is_empty() {
            return;
        }
        tracing::debug!(connections = late.len(), "turned away: their address had left this node");
        let mut table = self.flows.lock();
        for (server, client) in late {
            table.add(Flow { server, client, kind: FlowKind::Client, sequence: None });
            table.leave(&[server.ip().to_canonical()]);
        }
    }

    fn refresh(&mut self) {
        let known = self.recorded.iter_mut().filter(|entry| entry.has_start);
        let mut news = Vec::new();
        for entry in known {
            let now = entry.grip.numbers();
            // Twice the same: it stands still, and what is told of it will stay true for a while.
            if let (Some(now), true) = (now, now == entry.last) {
                let Numbers { send, receive } = now;
                news.push((entry.server, entry.client, Sequence { send, receive }));
            }
            entry.last = now;
        }
        if news.is_empty() {
            return;
        }
        let mut table = self.flows.lock();
        for (server, client, sequence) in news {
            table.refresh(server, client, sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::flows::{FlowCounts, FlowTable};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::Socket;

    async fn accepted() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        (client, Socket::new(tcp, peer))
    }

    fn recorder(addresses: &[&str]) -> (Recorder, Sockets, Flows) {
        let flows = Flows::new(FlowTable::new(1, 100));
        let sockets = Sockets::default();
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        (Recorder::new(flows.clone(), vec![sockets.clone()], addresses), sockets, flows)
    }

    #[tokio::test]
    async fn what_outlives_a_round_is_recorded_until_it_closes() {
        let (mut recorder, sockets, flows) = recorder(&["127.0.0.1"]);
        let (client, socket) = accepted().await;
        assert!(sockets.track(&socket));
        recorder.round();
        assert_eq!(flows.lock().counts(), FlowCounts::default(), "too young");
        let (_short, lived) = accepted().await;
        assert!(sockets.track(&lived));
        drop(lived);
        recorder.round();
        recorder.round();
        let recorded: Vec<_> = flows.lock().own().collect();
        assert_eq!(recorded.len(), 1);
        assert_eq!(recorded[0].client, client.local_addr().unwrap());
        assert_eq!(recorded[0].server, client.peer_addr().unwrap());
        drop(socket);
        recorder.round();
        assert_eq!(flows.lock().counts(), FlowCounts::default());
    }

    #[tokio::test]
    async fn last_words_are_of_connections_however_young() {
        let (mut recorder, sockets, flows) = recorder(&["127.0.0.1"]);
        let (_client, seen) = accepted().await;
        assert!(sockets.track(&seen));
        recorder.round();
        let (_other, new) = accepted().await;
        assert!(sockets.track(&new));
        let (_short, ended) = accepted().await;
        assert!(sockets.track(&ended));
        drop(ended);
        recorder.last_words(&["127.0.0.1".parse().unwrap()]);
        assert_eq!(flows.lock().own().count(), 2);
    }

    #[tokio::test]
    async fn connections_to_the_nodes_own_address_are_nobodys_orphans() {
        let (mut recorder, sockets, flows) = recorder(&["192.0.2.1"]);
        let (_client, socket) = accepted().await;
        assert!(sockets.track(&socket));
        recorder.round();
        recorder.round();
        assert_eq!(flows.lock().counts(), FlowCounts::default());
    }

    #[tokio::test]
    async fn numbers_are_told_once_a_connection_has_come_to_rest() {
        let (mut recorder, sockets, flows) = recorder(&["127.0.0.1"]);
        let (mut client, mut socket) = accepted().await;
        socket.remember_start();
        assert!(sockets.track(&socket));
        let sequence = || flows.lock().own().next().unwrap().sequence;
        let mut look = || (0..REFRESH_EVERY).for_each(|_| recorder.round());
        look();
        assert_eq!(sequence(), None, "seen for the first time");
        look();
        let first = sequence().unwrap();
        client.write_all(b"four").await.unwrap();
        socket.read_exact(&mut [0; 4]).await.unwrap();
        look();
        assert_eq!(sequence(), Some(first), "it moves");
        look();
        assert_eq!(sequence(), Some(Sequence { receive: first.receive + 4, ..first }));
    }
}
