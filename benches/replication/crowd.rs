//! Visitors of other load balancers: a fourth member of the cluster that tells the others of
//! sessions, as a node does, without anybody who makes requests. Their requests and Nextcloud's
//! answers would need cores that this machine does not have.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use cluster::record::{AccessLevel, SessionKey, User};
use cluster::{Config, Node, SessionReplication, Soft};
use tokio::time::{Instant, sleep_until};
use trigon::lab::namespaces::{Entered, Host};

use crate::report::Sharing;

/// Sessions come in even steps of this.
const STEP: Duration = Duration::from_millis(10);

/// Sessions of elsewhere, and what the cluster is told of them.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    /// New ones a second.
    pub(crate) rate: u32,
    pub(crate) lifetime: Duration,
    pub(crate) sharing: Sharing,
    pub(crate) state: PathBuf,
    pub(crate) listen: SocketAddr,
}

impl Crowd {
    /// Takes part in the cluster from now on, until the answer is dropped.
    pub(crate) fn start(self, on: &Host) -> anyhow::Result<Entered<()>> {
        Ok(on.enter_thread(move || async move {
            let Err(error) = self.run().await;
            eprintln!("no visitors elsewhere: {error:#}");
        })?)
    }

    async fn run(self) -> anyhow::Result<Infallible> {
        let session_replication = match self.sharing {
            Sharing::Batch => SessionReplication::Batch,
            Sharing::Off => SessionReplication::Off,
        };
        let listen = Some(self.listen);
        let config = Config { listen, session_replication, ..Config::new(self.state) };
        let (_node, handle) = Node::start(config).await.context("the crowd takes no part")?;
        let (begin, mut shared) = (Instant::now(), 0);
        loop {
            let due = begin.elapsed().as_millis() * u128::from(self.rate) / 1000;
            for number in shared..due {
                // Far from every hash of a visitor who comes by request.
                let key = SessionKey((u128::MAX - number).to_be_bytes());
                let user = User { id: format!("elsewhere-{number}"), level: AccessLevel::User };
                handle.share(Soft::Session { key, user, lifetime: self.lifetime });
            }
            shared = due;
            sleep_until(Instant::now() + STEP).await;
        }
    }
}
