//! The front of a MariaDB Galera cluster: one port where writes go to one node, and one where
//! reads are spread over the others.
//!
//! `monitor` keeps a connection to each node and asks it how it is, `pilot` makes one picture of
//! that (the rules are `balance::galera`'s) and agrees on the writer through the cluster, `front`
//! carries sessions, `gates` counts them and cuts those whose node is no good any more, `report`
//! shows it all. `wire`, `proof` and `connection` speak just enough of the MySQL protocol for that; a
//! session itself is bytes, TLS included.

pub mod connection;
mod front;
mod gates;
mod monitor;
mod pilot;
mod proof;
mod report;
pub mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::Handle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::balance::{Admin, Member};
use crate::net::Sockets;
use crate::secret::Secret;
use front::Teller;
use gates::{Gates, Port};
use pilot::{Picture, Pilot};
pub use report::{NodeReport, Report};

/// What the front of a database needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where sessions that write come in.
    pub listen: SocketAddr,
    /// Where sessions that only read come in, if they have a port of their own.
    pub reader_listen: Option<SocketAddr>,
    /// The nodes, in the order in which they are preferred as writer: the same on every load
    /// balancer.
    pub nodes: Vec<NodeConfig>,
    /// Who asks the nodes how they are; needs no rights.
    pub user: String,
    /// That user's password.
    pub password: Secret,
    /// How often each node is asked.
    pub interval: Duration,
    /// How long an answer may take, and a connection.
    pub timeout: Duration,
    /// Most sessions at a time, of both ports together.
    pub max_sessions: usize,
    /// Most sessions of one node at a time.
    pub max_node_sessions: usize,
    /// How long a session may be silent.
    pub idle: Duration,
    /// How long a session that has just come waits for a node that can take it.
    pub wait: Duration,
    /// How many changes a node may have to apply and still be read from.
    pub most_queued: u32,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name, for people and for the agreement on the writer.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl Config {
    /// The usual values.
    pub fn new(user: String, password: Secret, nodes: Vec<NodeConfig>) -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 3306)),
            reader_listen: None,
            nodes,
            user,
            password,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            max_sessions: 2000,
            max_node_sessions: 1000,
            // MariaDB ends a silent session itself after eight hours, and says so.
            idle: Duration::from_secs(9 * 3600),
            wait: Duration::from_secs(15),
            most_queued: 100,
        }
    }
}

/// The front of one database.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    gates: Gates,
    sockets: Sockets,
    picture: watch::Sender<Arc<Picture>>,
    report: watch::Sender<Arc<Report>>,
    /// What an admin wants of each node.
    orders: watch::Sender<Vec<Admin>>,
    /// One for each node: it is to be asked at once.
    kicks: Vec<Notify>,
    /// When all of them were, because a session came.
    hurried: Mutex<Instant>,
}

/// What the nodes are called together, among the servers behind a load balancer.
pub const POOL: &str = "galera";

/// How old an answer may be when a session comes.
const FRESH: Duration = Duration::from_millis(100);

impl Inner {
    /// A session has come: the nodes are asked now, unless that was done a moment ago. A node that
    /// is stopped in order leaves the cluster a second before it ends its connections.
    fn hurry(&self) {
        let mut hurried = self.hurried.lock().unwrap_or_else(PoisonError::into_inner);
        if hurried.elapsed() >= FRESH {
            *hurried = Instant::now();
            self.kicks.iter().for_each(Notify::notify_one);
        }
    }
}

/// The ports of a front, bound.
#[derive(Debug)]
pub struct Listeners {
    /// For sessions that write.
    pub writer: TcpListener,
    /// For sessions that read.
    pub reader: Option<TcpListener>,
}

impl Database {
    /// A front that knows nothing of its nodes yet.
    pub fn new(config: Config) -> Self {
        let nodes = config.nodes.len();
        Self(Arc::new(Inner {
            gates: Gates::new(nodes, config.max_sessions, config.max_node_sessions),
            sockets: Sockets::default(),
            picture: watch::Sender::new(Arc::new(Picture::unheard(nodes))),
            report: watch::Sender::default(),
            orders: watch::Sender::new(vec![Admin::Ready; nodes]),
            hurried: Mutex::new(Instant::now()),
            kicks: std::iter::repeat_with(Notify::new).take(nodes).collect(),
            config,
        }))
    }

    /// The clients' sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.0.sockets
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        let mut report = Report::clone(&self.0.report.borrow());
        report.count(&self.0.gates);
        for (node, order) in report.nodes.iter_mut().zip(self.0.orders.borrow().iter()) {
            node.admin = *order;
        }
        report
    }

    /// The nodes as servers behind this load balancer, like those of every other pool.
    pub fn members(&self) -> Vec<Member> {
        let report = self.report();
        let orders = self.0.orders.borrow();
        let nodes = self.0.config.nodes.iter().zip(orders.iter()).enumerate();
        let shown = nodes.map(|(index, (node, order))| match report.nodes.get(index) {
            Some(known) => known.member(POOL),
            // Nobody has looked yet.
            None => NodeReport {
                name: node.name.clone(),
                address: node.address.to_string(),
                admin: *order,
                ..NodeReport::default()
            }
            .member(POOL),
        });
        shown.collect()
    }

    /// Gives the node an order: one of [`Self::members`], by its full name. Other names are not
    /// its business.
    pub fn set(&self, name: &str, order: Admin) {
        let nodes = &self.0.config.nodes;
        let is_meant = |node: &NodeConfig| {
            name.strip_prefix(POOL).and_then(|rest| rest.strip_prefix('/')) == Some(&node.name)
        };
        if let Some(at) = nodes.iter().position(is_meant) {
            tracing::info!(pool = POOL, backend = nodes[at].name, admin = %order, "backend was told");
            self.0.orders.send_modify(|orders| orders[at] = order);
        }
    }

    /// Asks the nodes and carries sessions until `stop`; those that are open then are cut. The
    /// other load balancers are told of sessions at the virtual `addresses`.
    pub async fn serve(
        self,
        listeners: Listeners,
        cluster: Handle,
        addresses: Vec<IpAddr>,
        stop: CancellationToken,
    ) {
        let (words, heard) = mpsc::channel(64);
        let monitors = (0..self.0.config.nodes.len()).map(|node| {
            tokio::spawn(monitor::watch(self.0.clone(), node, words.clone(), stop.clone()))
        });
        let monitors: Vec<_> = monitors.collect();
        drop(words);
        let teller = Teller { flows: cluster.flows().clone(), addresses: addresses.into() };
        let pilot = Pilot::new(self.0.clone(), cluster, Instant::now());
        let piloting = tokio::spawn(pilot.run(heard, stop.clone()));
        let serve = |listener, port| {
            front::serve(self.0.clone(), listener, port, teller.clone(), stop.clone())
        };
        let writers = serve(listeners.writer, Port::Writer);
        let readers = async {
            match listeners.reader {
                Some(listener) => serve(listener, Port::Reader).await,
                None => stop.cancelled().await,
            }
        };
        tokio::join!(writers, readers);
        for task in monitors.into_iter().chain([piloting]) {
            // One that broke has said so in the log.
            let _ = task.await;
        }
        self.0.gates.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::roster::Condition;

    #[test]
    fn nodes_are_listed_and_told_before_anybody_has_asked_them() {
        let node = |name: &str| NodeConfig {
            name: name.to_owned(),
            address: SocketAddr::from(([192, 0, 2, 1], 3306)),
        };
        let nodes = vec![node("db1"), node("db2")];
        let database = Database::new(Config::new("trigon".to_owned(), Secret::new("x"), nodes));
        // The last three mean nobody here.
        for name in ["galera/db2", "web/db1", "db1", "galera/db3"] {
            database.set(name, Admin::Drain);
        }
        let shown = database.members();
        let names: Vec<_> = shown.iter().map(Member::full_name).collect();
        assert_eq!(names, ["galera/db1", "galera/db2"]);
        let orders: Vec<_> = shown.iter().map(|member| member.admin).collect();
        assert_eq!(orders, [Admin::Ready, Admin::Drain]);
        assert!(shown.iter().all(|member| member.health == Condition::Checking));
    }
}
