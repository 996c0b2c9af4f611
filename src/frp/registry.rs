//! Who is logged in and which ports are live on this node. A plain table: `tunnels.rs` keeps the
//! one instance behind a lock, tells the cluster and wakes those who wait.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use cluster::record::{Tunnel, TunnelKey, TunnelStamp};
use cluster::{NodeId, record::Millis};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::entitlement::Proof;
use super::message::NewProxy;
use super::ports::{Granted, Ports, Refusal, SessionId, Wanted};
use super::session::Input;
use super::work::Users;
use crate::net::Grip;

/// A session as others can reach it.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// frpc's name for itself across reconnects.
    pub(super) run_id: String,
    /// What its login has proved.
    pub(super) proof: Proof,
    /// frpc's end of the connection.
    pub(super) client: SocketAddr,
    /// Our end of it.
    pub(super) server: SocketAddr,
    /// Where the session takes users and work connections.
    pub(super) input: mpsc::Sender<Input>,
    /// Ends the session and what hangs on it.
    pub(super) kill: CancellationToken,
    /// The connection's socket.
    pub(super) grip: Grip,
    /// Who uses its work connections.
    pub(super) users: Users,
}

impl Seat {
    /// The client is elsewhere now: what is left of this connection is reset.
    fn drop_connection(&self) {
        self.grip.reset_on_close();
        self.kill.cancel();
    }
}

/// Where and when a registration is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) node: NodeId,
    pub(super) since: Millis,
    pub(super) stamp: TunnelStamp,
}

/// A live proxy.
#[derive(Debug)]
struct Live {
    session: SessionId,
    record: Tunnel,
    /// The client it was taken over from, if that one is alive after all.
    rival: Option<Rival>,
}

#[derive(Debug)]
struct Rival {
    run_id: String,
    /// When it last wanted its tunnel.
    seen: Millis,
}

/// A client that lost its tunnel to another one and wants it back within this time is alive: its
/// successor is no restart but a second copy. frpc asks again every 30 s.
const RIVALRY: Millis = 60_000;

#[derive(Debug)]
pub(super) struct Registry {
    ports: Ports,
    seats: HashMap<SessionId, Seat>,
    by_run_id: HashMap<String, SessionId>,
    live: HashMap<TunnelKey, Live>,
    next: SessionId,
}

impl Registry {
    pub(super) fn new(ports: Ports) -> Self {
        Self {
            ports,
            seats: HashMap::new(),
            by_run_id: HashMap::new(),
            live: HashMap::new(),
            next: 1,
        }
    }

    /// Seats a new login. The same run id is the same client: its old session is dropped and its
    /// ports are free before this returns.
    pub(super) fn attach(&mut self, seat: Seat) -> SessionId {
        if let Some(old) = self.by_run_id.get(&seat.run_id).copied() {
            self.evict(old);
        }
        let id = self.next;
        self.next += 1;
        self.by_run_id.insert(seat.run_id.clone(), id);
        self.seats.insert(id, seat);
        id
    }

    /// Takes a session off the table; whether it still had a seat.
    pub(super) fn detach(&mut self, id: SessionId) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        self.by_run_id.remove(&seat.run_id);
        for key in self.ports.release_all(id) {
            self.live.remove(&key);
        }
        Some(seat)
    }

    /// Claims the port of a proxy; `Some` when there is a new registration to tell the cluster.
    pub(super) fn claim(
        &mut self,
        id: SessionId,
        proxy: &NewProxy,
        made: Made,
    ) -> Result<Option<Tunnel>, Refusal> {
        let port = u16::try_from(proxy.remote_port).map_err(|_range| Refusal::NotAllowed)?;
        let Made { node, since, stamp } = made;
        // A session that lost its seat a moment ago must not claim what its successor will want.
        let Some(seat) = self.seats.get(&id).cloned() else { return Err(Refusal::PortTaken) };
        let key = TunnelKey { tenant: seat.proof.tenant().clone(), port };
        if let Some(rival) = self.live.get_mut(&key).and_then(|live| live.rival.as_mut())
            && rival.run_id == seat.run_id
            && since.saturating_sub(rival.seen) < RIVALRY
        {
            // Else the two would throw each other out as fast as they can log in.
            rival.seen = since;
            return Err(Refusal::PortTaken);
        }
        if self.outranks_the_key(&seat, proxy, &key) {
            return Err(Refusal::PortTaken);
        }
        let mut rival = None;
        let wanted = Wanted {
            tenant: &key.tenant,
            name: &proxy.proxy_name,
            kind: &proxy.proxy_type,
            port,
            transformed: proxy.use_encryption || proxy.use_compression,
        };
        match self.ports.claim(id, wanted)? {
            Granted::Again => return Ok(None),
            Granted::New => {}
            Granted::From(ghost) => {
                if let Some(old) = self.evict(ghost) {
                    tracing::warn!(
                        port,
                        proxy = proxy.proxy_name,
                        client.addr = %seat.client,
                        client.old_addr = %old.client,
                        "tunnel taken over by a new client of the same name; \
                         if both are alive, one of them must go"
                    );
                    rival = Some(Rival { run_id: old.run_id, seen: since });
                }
            }
        }
        let record = Tunnel {
            tenant: key.tenant.clone(),
            port,
            proxy: proxy.proxy_name.clone(),
            run_id: seat.run_id,
            node,
            client: seat.client,
            server: seat.server,
            since,
            stamp,
        };
        self.live.insert(key, Live { session: id, record: record.clone(), rival });
        Ok(Some(record))
    }

    /// Whether the port is live with the app's own token while `seat` shows the shared key only: a
    /// key that leaked into some container must not take over the tunnel of another one.
    fn outranks_the_key(&self, seat: &Seat, proxy: &NewProxy, key: &TunnelKey) -> bool {
        let holder = self.by_port(key).map(|holder| &holder.proof);
        let same = self.live_at(key).is_some_and(|live| live.proxy == proxy.proxy_name);
        same && matches!((holder, &seat.proof), (Some(Proof::App(_)), Proof::SharedKey(_)))
    }

    /// What the login of a session has proved.
    pub(super) fn proof(&self, id: SessionId) -> Option<&Proof> {
        self.seats.get(&id).map(|seat| &seat.proof)
    }

    /// The client closed a proxy.
    pub(super) fn release(&mut self, id: SessionId, name: &str) -> Option<Tunnel> {
        let key = self.ports.release(id, name)?;
        self.live.remove(&key).map(|live| live.record)
    }

    /// The session that serves a port.
    pub(super) fn by_port(&self, key: &TunnelKey) -> Option<&Seat> {
        self.seats.get(&self.live.get(key)?.session)
    }

    /// Clients that are logged in, and tunnels that are live.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.seats.len(), self.live.len())
    }

    /// Work connections in users' hands, of all sessions.
    pub(super) fn users(&self) -> usize {
        self.seats.values().map(|seat| seat.users.count()).sum()
    }

    /// The session of a run id.
    pub(super) fn by_run_id(&self, run_id: &str) -> Option<&Seat> {
        self.seats.get(self.by_run_id.get(run_id)?)
    }

    /// What is registered for a port that is live here.
    pub(super) fn live_at(&self, key: &TunnelKey) -> Option<&Tunnel> {
        self.live.get(key).map(|live| &live.record)
    }

    pub(super) fn is_live(&self, key: &TunnelKey) -> bool {
        self.live.contains_key(key)
    }

    /// Whether this very registration is the one that is live.
    pub(super) fn is_current(&self, record: &Tunnel) -> bool {
        self.live.get(&record.key()).is_some_and(|live| live.record == *record)
    }

    /// Makes a registration anew under another stamp, if it is still the one that is live.
    pub(super) fn renew(&mut self, record: &Tunnel, stamp: TunnelStamp) -> Option<Tunnel> {
        let live = self.live.get_mut(&record.key())?;
        if live.record != *record {
            return None;
        }
        live.record.stamp = stamp;
        Some(live.record.clone())
    }

    /// Every live registration.
    pub(super) fn live(&self) -> impl Iterator<Item = &Tunnel> {
        self.live.values().map(|live| &live.record)
    }

    /// Takes every session off the table whose connection ends at one of `addresses`.
    pub(super) fn evict_at(&mut self, addresses: &[IpAddr]) -> Vec<Seat> {
        let ends_there = |seat: &Seat| addresses.contains(&seat.server.ip().to_canonical());
        let ids: Vec<_> =
            self.seats.iter().filter(|(_, seat)| ends_there(seat)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.detach(id)).collect()
    }

    fn evict(&mut self, id: SessionId) -> Option<Seat> {
        let seat = self.detach(id)?;
        seat.drop_connection();
        Some(seat)
    }
}
