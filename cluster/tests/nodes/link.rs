//! Links between nodes that can be cut the way a switch fails: nothing arrives, nobody is told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cluster::record::NodeId;
use cluster::{Boxed, Config, Dialler, Handle, Node, Stream, World};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Site, settled};

/// Every directed link of a site.
pub(crate) struct Links {
    links: BTreeMap<(NodeId, NodeId), Link>,
}

struct Link {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

/// The way out of one node, each peer through its link.
struct Linked {
    through: BTreeMap<NodeId, SocketAddr>,
    dialler: Arc<dyn Dialler>,
}

impl Dialler for Linked {
    fn dial(&self, to: NodeId, address: SocketAddr) -> Boxed<'static, io::Result<Stream>> {
        self.dialler.dial(to, self.through.get(&to).copied().unwrap_or(address))
    }
}

impl Links {
    pub(crate) async fn of(site: &Site) -> Self {
        let mut links = BTreeMap::new();
        for from in &site.members {
            for to in site.members.iter().filter(|to| to.number != from.number) {
                let link = Link::to(site.address(to.number)).await;
                links.insert((from.number, to.number), link);
            }
        }
        Self { links }
    }

    /// A node that reaches each peer through its link.
    async fn start(&self, id: NodeId, config: Config) -> (Node, Handle) {
        let mut world = World::of_machine(&config).await.unwrap();
        let links = self.links.iter().filter(|((from, _), _)| *from == id);
        let through = links.map(|((_, to), link)| (*to, link.address)).collect();
        world.dialler = Arc::new(Linked { through, dialler: world.dialler });
        Node::start_in_world(world, config).await.unwrap()
    }

    pub(crate) async fn start_all(&self, site: &Site) -> Vec<(Node, Handle)> {
        let mut nodes = Vec::new();
        for member in &site.members {
            nodes.push(self.start(member.number, site.config(member.number)).await);
        }
        settled(&nodes).await;
        nodes
    }

    /// Both nodes of a pair, configured as `edit` has it.
    pub(crate) async fn start_pair(
        &self,
        site: &Site,
        edit: impl Fn(Config) -> Config,
    ) -> [(Node, Handle); 2] {
        let first = self.start(1, edit(site.config(1))).await;
        let second = self.start(2, edit(site.config(2))).await;
        [first, second]
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
