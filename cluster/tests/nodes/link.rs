//! Links between nodes that can be cut the way a switch fails: nothing arrives, nobody is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cluster::record::NodeId;
use cluster::{Config, Handle, Node};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Site, until};

/// Every directed link of a site.
pub(crate) struct Links {
    links: BTreeMap<(NodeId, NodeId), Link>,
}

struct Link {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Links {
    pub(crate) async fn of(site: &Site) -> Self {
        let mut links = BTreeMap::new();
        for from in &site.members {
            for to in site.members.iter().filter(|to| to.id != from.id) {
                links.insert((from.id, to.id), Link::to(to.address).await);
            }
        }
        Self { links }
    }

    /// The configuration of a node that reaches each peer through its link.
    pub(crate) fn config(&self, site: &Site, id: NodeId) -> Config {
        let mut config = site.config(id);
        for member in &mut config.members {
            if let Some(link) = self.links.get(&(id, member.id)) {
                member.address = link.address;
            }
        }
        config
    }

    pub(crate) async fn start_all(&self, site: &Site) -> Vec<(Node, Handle)> {
        let mut nodes = Vec::new();
        for member in &site.members {
            nodes.push(Node::start(self.config(site, member.id)).await.unwrap());
        }
        for (_, handle) in &nodes {
            until(handle, "leader with a quorum", |status| status.quorum).await;
        }
        nodes
    }

    /// Cuts or heals what goes out of a node, what comes in, or both.
    pub(crate) fn set(&self, id: NodeId, outgoing: bool, incoming: bool) {
        for ((from, to), link) in &self.links {
            if *from == id {
                link.open.send_replace(outgoing);
            } else if *to == id {
                link.open.send_replace(incoming);
            }
        }
    }
}

impl Link {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, target, state.clone()));
            }
        });
        Self { address, open }
    }
}

/// Copies until the link is cut, then holds both ends silently until it is healed.
async fn carry(mut near: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    if *open.borrow() {
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = open.wait_for(|open| !open) => {}
        }
        let _ = open.wait_for(|open| *open).await;
        drop(far);
    } else {
        let _ = open.wait_for(|open| *open).await;
    }
}
