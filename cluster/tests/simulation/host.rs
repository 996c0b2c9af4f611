//! The software of a simulated host: a real node, someone who looks at it every turn, and a
//! client that uses it.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::disk::Disk;
use cluster::record::{
    AccessLevel, Ban, Millis, NodeId, SealedExApp, SessionKey, Strike, Subnet, Tenant, User,
};
use cluster::{Command, Config, Handle, Node, PairConfig, Reply, Role, Soft, World, sim::inspect};
use tokio::time::{Instant, sleep};
use turmoil::net::TcpListener;

use crate::draw::Draw;
use crate::founding::STATE_DIR;
use crate::history::KEYS;
use crate::linearizability::{RecordAnswer, RecordCall};
use crate::network::{PORT, SimDialler, SimDoor};
use crate::pledges::SUBNETS;
use crate::renewal;
use crate::site::{Host, Order, Site, TICK};

/// Runs a host until its node stops.
pub(crate) async fn run(site: Rc<Site>, id: NodeId) -> turmoil::Result {
    let host = site.host(id);
    while host.state.borrow().absent {
        sleep(TICK).await;
    }
    let starts = {
        let mut state = host.state.borrow_mut();
        state.starts += 1;
        (state.failed, state.stopping, state.stopped) = (None, false, false);
        (state.order, state.started_at) = (None, site.now.get());
        state.starts
    };
    // The clock of this runtime began anew, and what the disk stalled for is over.
    host.disk.borrow().stall_until(Instant::now());
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let started = Node::start_in_world(world(&site, host, listener), config(&site, host)).await;
    let (mut node, handle) = match started {
        Ok(started) => started,
        Err(error) => {
            fail(&site, host, &format!("does not start: {error}"));
            return Ok(());
        }
    };
    host.state.borrow_mut().started = inspect(&handle);
    site.tell(format_args!("node {id} runs"));
    let client = tokio::task::spawn_local(client(Rc::clone(&site), id, starts, handle.clone()));
    tokio::select! {
        biased;
        reason = node.failed() => {
            client.abort();
            fail(&site, host, &reason);
        }
        () = watch(&site, host, &handle) => {
            client.abort();
            node.shutdown().await;
            host.state.borrow_mut().stopped = true;
            site.tell(format_args!("node {id} has stopped"));
        }
    }
    Ok(())
}

fn fail(site: &Site, host: &Host, reason: &str) {
    site.tell(format_args!("node {} failed: {reason}", host.id));
    host.state.borrow_mut().failed = Some(reason.to_owned());
}

fn world(site: &Site, host: &Host, listener: TcpListener) -> World {
    let (me, connections) = (host.id, site.connections.clone());
    let clock = Arc::clone(&host.clock);
    World {
        dialler: Arc::new(SimDialler { net: 0, me, connections: connections.clone() }),
        door: Some(Arc::new(SimDoor { net: 0, me, listener, connections })),
        clock: Arc::new(move || clock.shows(turmoil::sim_elapsed().unwrap_or_default())),
        disk: Disk::Memory(host.disk.borrow().clone()),
    }
}

fn config(site: &Site, host: &Host) -> Config {
    Config {
        listen: Some(SocketAddr::new(host.ip(), PORT)),
        snapshot_every: site.snapshot_every,
        pair: PairConfig { promote_after: site.promote_after, ..PairConfig::default() },
        ..Config::new(STATE_DIR)
    }
}

/// Looks at the node every turn, until it is asked to stop.
async fn watch(site: &Site, host: &Host, handle: &Handle) {
    for turn in 0_u64.. {
        if turn % 20 == 0 {
            check_sessions(site, host, handle);
        }
        {
            let mut state = host.state.borrow_mut();
            state.seen = inspect(handle);
            if state.stopping {
                return;
            }
            if site.is_pair() {
                handle.tell_surroundings(site.air.borrow().seen(host.id, site.now.get()));
            }
            if let Some(order) = state.order.take() {
                tokio::task::spawn_local(obey(order, handle.clone()));
            }
            if let Some(stall) = state.stall.take() {
                host.disk.borrow().stall_until(Instant::now() + stall);
            }
        }
        sleep(TICK).await;
    }
}

/// Does what an operator wants; a refusal is an answer.
async fn obey(order: Order, handle: Handle) {
    match order {
        Order::HandOver => drop(handle.hand_over().await),
        Order::Promote(consent) => drop(handle.promote(consent).await),
    }
}

/// A session is believed for its lifetime and two seconds at most, and for as much longer as
/// clocks are off. One that is off by more than its whole lifetime is of no use at all, but to a
/// node that started since: it does not know how long ago it heard of the session.
fn check_sessions(site: &Site, host: &Host, handle: &Handle) {
    let now = site.now.get();
    let (skew, started_at) = (site.skew.get(), host.state.borrow().started_at);
    for (key, ended) in site.sessions.borrow().iter().rev().take(200) {
        let is_older = *ended <= started_at + LONGEST;
        let slack = SLACK + 2 * if is_older { skew } else { skew.min(LONGEST) };
        if now > *ended + slack && handle.session(key).is_some() {
            let late = (now - *ended).as_millis();
            let text = format!("{LIED}: node {} believes a session {late} ms too long", host.id);
            host.state.borrow_mut().failed = Some(text);
        }
    }
}

/// No session holds longer.
const LONGEST: Duration = Duration::from_secs(5);

/// What a session may be believed beyond its lifetime: two seconds, what a part may take to the
/// leader, which is nobody's to count, and a turn to be looked at.
const SLACK: Duration = Duration::from_millis(2_000 + 500 + 10);

/// Uses the node as the product does.
async fn client(site: Rc<Site>, id: NodeId, starts: u64, handle: Handle) {
    let mut draw = Draw::new(site.seed, 1000 * id + starts);
    let clock = || site.host(id).clock.shows(turmoil::sim_elapsed().unwrap_or_default());
    if site.host(id).role == Role::Witness {
        return;
    }
    loop {
        let pause = draw.between(20, 800);
        sleep(Duration::from_millis(pause)).await;
        if !site.load.get() {
            continue;
        }
        match draw.below(10) {
            0..7 => change_record(&site, id, &mut draw, &handle).await,
            7 => share(&site, id, &mut draw, &handle, clock()),
            8 if site.is_pair() => pledge(&site, id, &mut draw, &handle).await,
            8 => {
                let address = Ipv4Addr::from(u32::try_from(draw.below(1 << 20)).unwrap()).into();
                let subnet = Subnet::of(address);
                let until = draw.percent(50).then(|| clock() + draw.between(1_000, 100_000));
                let ban = Ban { subnet, since: clock(), until, node: id, reason: String::new() };
                let _ = handle.propose(Command::SetBan(ban), Duration::from_secs(2)).await;
            }
            _ if site.admits && draw.percent(70) => {
                if let Err(text) = come_and_go(&site, id, &mut draw, &handle, clock()).await {
                    site.host(id).state.borrow_mut().failed = Some(format!("{LIED}: {text}"));
                }
            }
            9 if site.newcomer().is_some() => {
                let step = renewal::go_on(&site, id, &mut draw, &handle, clock()).await;
                if let Err(text) = step {
                    site.host(id).state.borrow_mut().failed = Some(format!("{LIED}: {text}"));
                }
            }
            _ => {
                let address = Ipv4Addr::from(u32::try_from(draw.below(1 << 20)).unwrap()).into();
                let pardon = Command::Pardon { subnet: Subnet::of(address), at: clock() };
                let _ = handle.propose(pardon, Duration::from_secs(2)).await;
            }
        }
    }
}

/// Makes a token, shows one, or removes a member that never came.
async fn come_and_go(
    site: &Site,
    id: NodeId,
    draw: &mut Draw,
    handle: &Handle,
    now: Millis,
) -> Result<(), String> {
    let within = Duration::from_secs(2);
    let role = draw.pick(&[Role::Node, Role::Witness]);
    match draw.below(4) {
        0 => {
            let (at, command) = site.admissions.borrow_mut().offer(id, role, now);
            if handle.propose(command, within).await == Ok(Reply::Done) {
                site.admissions.borrow_mut().offered(at);
            }
        }
        1..3 => {
            let tried = site.admissions.borrow_mut().attempt(draw.below(1 << 16), role, now);
            let Some((whom, command)) = tried else { return Ok(()) };
            if let Ok(Reply::Admitted(number)) = handle.propose(command, within).await {
                site.admissions.borrow_mut().admitted(whom, number)?;
            }
        }
        _ => {
            let gone = site.admissions.borrow().any(draw.below(1 << 16));
            let Some(id) = gone else { return Ok(()) };
            let _ = handle.propose(Command::RemoveMember { id }, within).await;
        }
    }
    Ok(())
}

/// Bans what everybody bans, for longer than anybody before.
async fn pledge(site: &Site, id: NodeId, draw: &mut Draw, handle: &Handle) {
    let clock = site.host(id).clock.shows(turmoil::sim_elapsed().unwrap_or_default());
    let (ticket, ban) = {
        let mut pledges = site.pledges.borrow_mut();
        let ticket = pledges.make(draw.below(SUBNETS), site.now.get());
        (ticket, pledges.ban(ticket, id, clock))
    };
    let outcome = handle.propose(Command::SetBan(ban), Duration::from_secs(2)).await;
    let confirmed = matches!(outcome, Ok(Reply::Done));
    site.pledges.borrow_mut().answer(ticket, site.now.get(), confirmed);
}

fn share(site: &Site, id: NodeId, draw: &mut Draw, handle: &Handle, now: u64) {
    for _ in 0..draw.between(1, 20) {
        if draw.percent(50) {
            let address = Ipv4Addr::new(10, 9, 9, u8::try_from(draw.below(20)).unwrap()).into();
            handle.share(Soft::Strike(Strike { node: id, address, at: now }));
        } else {
            let key = SessionKey(u128::from(draw.next()).to_be_bytes());
            let user = User { id: "user".into(), level: AccessLevel::User };
            let lifetime = Duration::from_millis(draw.between(100, 5_000));
            site.sessions.borrow_mut().push((key, site.now.get() + lifetime));
            handle.share(Soft::Session { key, user, lifetime });
        }
    }
}

/// A write, a refresh or a delete of one of the records everybody fights for.
async fn change_record(site: &Site, id: NodeId, draw: &mut Draw, handle: &Handle) {
    let key = draw.below(KEYS);
    let tenant = Tenant::default();
    let within = Duration::from_millis(draw.pick(&[300, 1_000, 5_000]));
    let (shown, revision) = handle.read(|state| {
        let name = record_name(key);
        (read_record(state, key), state.exapp_revision(&tenant, &name))
    });
    let value = site.history.borrow_mut().value();
    let (call, command) = match (draw.below(10), shown) {
        (0..2, _) => (
            RecordCall::Delete,
            Command::DeleteExApp { tenant: tenant.clone(), id: record_name(key) },
        ),
        (2..5, Some((written, _))) => (
            RecordCall::Refresh { written, value },
            Command::CacheExApp {
                tenant: tenant.clone(),
                record: record(key, written, value),
                revision,
            },
        ),
        _ => (
            RecordCall::Write(value),
            Command::PushExApp { tenant: tenant.clone(), record: record(key, value, value) },
        ),
    };
    let ticket = site.history.borrow_mut().call(key, call);
    let (called, group) = (Instant::now(), handle.group());
    let outcome = handle.propose(command, within).await;
    site.story.borrow_mut().count(value);
    match outcome {
        Ok(reply) => {
            let answer = match reply {
                Reply::Nothing => RecordAnswer::Nothing,
                _ => RecordAnswer::Done,
            };
            site.history.borrow_mut().answer(ticket, answer);
            let shows = handle.read(|state| read_record(state, key)).map(|(_, value)| value);
            if called.elapsed() < within
                && handle.group() == group
                && call == RecordCall::Write(value)
                && shows != Some(value)
                && site.history.borrow().was_alone(ticket)
            {
                let text = format!(
                    "node {id} confirmed value {value} of record {key} and shows {shows:?}"
                );
                site.host(id).state.borrow_mut().failed = Some(format!("{LIED}: {text}"));
            }
        }
        // It may still happen.
        Err(error) => site.story.borrow_mut().count(error.to_string().len() as u64),
    }
}

/// Begins the reason of a failure that is never excused.
pub(crate) const LIED: &str = "broken promise";

fn record_name(key: u64) -> String {
    format!("k{key}")
}

/// A record that tells which write put it in force and what its value is.
fn record(key: u64, written: u64, value: u64) -> SealedExApp {
    SealedExApp {
        id: record_name(key),
        token: "secret".into(),
        version: value.to_string(),
        host: written.to_string(),
        port: 23000,
        routes: Vec::new(),
    }
}

/// The last write and the value of a record, as a state shows it.
pub(crate) fn read_record(state: &cluster::State, key: u64) -> Option<(u64, u64)> {
    let record = state.exapp(&Tenant::default(), &record_name(key))?;
    Some((record.host.parse().unwrap(), record.version.parse().unwrap()))
}
