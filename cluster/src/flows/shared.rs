//! The flow table as the rooms of a node share it, and the word that something in it cannot wait.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Flow, FlowTable};

/// The one table of a node. Cheap to clone; held for moments only.
#[derive(Clone, Debug)]
pub struct Flows {
    table: Arc<Mutex<FlowTable>>,
    urgent: watch::Sender<()>,
}

impl Flows {
    /// Shares a table.
    pub fn new(table: FlowTable) -> Self {
        Self { table: Arc::new(Mutex::new(table)), urgent: watch::Sender::new(()) }
    }

    /// Enters a connection for as long as the answer lives. The other nodes are told at once, not
    /// with the next regular beat: this is for clients that would wait long, or for ever.
    pub fn record(&self, flow: Flow) -> Recorded {
        if self.lock().add(flow) {
            self.urgent.send_replace(());
        }
        Recorded { flows: self.clone(), server: flow.server, client: flow.client }
    }

    /// Changes when something was entered that cannot wait.
    pub(crate) fn urgent(&self) -> watch::Receiver<()> {
        self.urgent.subscribe()
    }

    /// The table. Never kept across something that waits.
    pub fn lock(&self) -> MutexGuard<'_, FlowTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the table; dropped when it ends.
#[derive(Debug)]
pub struct Recorded {
    flows: Flows,
    server: SocketAddr,
    client: SocketAddr,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.flows.lock().remove(self.server, self.client);
    }
}
