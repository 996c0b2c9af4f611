//! One run of a seed: a cluster, a minute of virtual time, trouble, peace, and the verdict.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use cluster::sim::{Inspection, digest, with_seed};
use cluster::{RaftState, Role};
use turmoil::{Builder, Sim};

use crate::draw::Draw;
use crate::faults::{Faults, Kind, LATENCY};
use crate::founding;
use crate::history::KEYS;
use crate::host::{self, read_record};
use crate::linearizability::{RecordAnswer, RecordCall};
use crate::oracle::Oracle;
use crate::renewal::Renewal;
use crate::site::{Host, Site, TICK, epoch};

/// A cluster has formed by then, and trouble begins.
const TROUBLE: Duration = Duration::from_secs(3);

/// Trouble ends.
const PEACE: Duration = Duration::from_secs(42);

/// Clients stop.
const QUIET: Duration = Duration::from_secs(52);

/// Everything must be well again.
const END: Duration = Duration::from_secs(60);

/// What a run may differ in besides its seed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Profile {
    /// Kinds of trouble; the seed chooses when there are none.
    pub(crate) kinds: Option<&'static [Kind]>,
    /// Roles of the nodes; the seed chooses when there are none.
    pub(crate) roles: Option<&'static [Role]>,
    /// Longest pause between two troubles; the seed chooses when there is none.
    pub(crate) pause_ms: Option<u64>,
    /// Whether members come and go; the seed chooses when it is not said.
    pub(crate) admits: Option<bool>,
    /// Whether a machine takes the place of another; the seed chooses when it is not said.
    pub(crate) renews: Option<bool>,
}

/// A run that kept every rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The same for equal runs and for no others.
    pub(crate) trace: u64,
    /// Operations of clients that were answered.
    pub(crate) answered: usize,
    /// A machine has taken the place of another.
    pub(crate) renewed: bool,
}

/// A run that broke one.
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) story: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, profile: Profile) -> Result<Passed, Failed> {
    let site = Rc::new(site(seed, profile));
    let outcome = catch_unwind(AssertUnwindSafe(|| with_seed(seed, || play(&site, profile))));
    let story = site.story.borrow();
    let why = match outcome {
        Ok(Ok(())) => {
            let answered = site.history.borrow().answered();
            let renewed = matches!(site.renewal.get(), Renewal::Over(_));
            return Ok(Passed { trace: story.trace(), answered, renewed });
        }
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or("without words"))
        }
    };
    let why = format!("at {:.3} s: {why}", site.now.get().as_secs_f64());
    Err(Failed { why, story: story.lines().to_vec() })
}

fn site(seed: u64, profile: Profile) -> Site {
    let (mut draw, mut pair) = (Draw::new(seed, 2), Draw::new(seed, 3));
    let roles = match profile.roles {
        Some(roles) => roles,
        None if pair.percent(25) => &[Role::Node, Role::Node],
        None => draw.pick::<&[Role]>(&[
            &[Role::Node],
            &[Role::Node, Role::Node, Role::Witness],
            &[Role::Node, Role::Node, Role::Witness],
            &[Role::Node, Role::Witness, Role::Node],
            &[Role::Node, Role::Node, Role::Node],
            &[Role::Node, Role::Node, Role::Node],
            &[Role::Node, Role::Node, Role::Node, Role::Node, Role::Node],
        ]),
    };
    let admits =
        roles.len() > 2 && profile.admits.unwrap_or_else(|| Draw::new(seed, 5).percent(25));
    // Nobody else may get the number that was set aside for it.
    let renews = roles.len() == 3
        && !admits
        && profile.renews.unwrap_or_else(|| Draw::new(seed, 6).percent(25));
    let mut disks = founding::disks(roles);
    let newcomer = disks.pop().filter(|_| renews);
    let hosts = roles.iter().zip(disks).zip(1..);
    let mut hosts: Vec<_> = hosts.map(|((role, disk), id)| Host::new(id, *role, disk)).collect();
    hosts.extend(newcomer.map(|disk| Host::newcomer(roles.len() as u64 + 1, disk)));
    Site {
        seed,
        hosts,
        snapshot_every: draw.pick(&[10, 30, 100]),
        connections: Default::default(),
        history: RefCell::default(),
        pledges: RefCell::default(),
        admits,
        renewal: Cell::default(),
        admissions: RefCell::default(),
        air: RefCell::default(),
        promote_after: Duration::from_secs(pair.pick(&[7, 10, 15])),
        story: RefCell::default(),
        sessions: RefCell::default(),
        now: Cell::default(),
        skew: Cell::default(),
        load: Cell::new(true),
    }
}

fn play(site: &Rc<Site>, profile: Profile) -> Result<(), String> {
    let mut builder = Builder::new();
    builder
        .rng_seed(site.seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(epoch()))
        .tick_duration(TICK)
        .simulation_duration(END * 2)
        .min_message_latency(LATENCY)
        .max_message_latency(LATENCY)
        .repair_rate(0.5)
        .tcp_capacity(1024)
        .enable_random_order();
    let mut sim = builder.build();
    for host in &site.hosts {
        let (site, id) = (Rc::clone(site), host.id);
        sim.host(host.ip(), move || host::run(Rc::clone(&site), id));
    }
    let mut faults = Faults::new(site, profile);
    let mut oracle = Oracle::default();
    site.tell(format_args!(
        "{} nodes, a snapshot every {} entries, {:?}",
        site.hosts.len(),
        site.snapshot_every,
        faults.kinds()
    ));
    let mut peace = false;
    cluster::sim::step();
    while site.now.get() < END {
        let now = sim.elapsed();
        site.now.set(now);
        if now >= PEACE && !peace {
            peace = true;
            faults.heal(&mut sim, site, &mut oracle);
        }
        site.load.set(now < QUIET);
        if peace {
            faults.bring_back(site);
        }
        faults.step(&mut sim, site, &mut oracle, now >= TROUBLE && !peace);
        sim.step().map_err(|error| error.to_string())?;
        if let Some(what) = cluster::sim::step() {
            return Err(what);
        }
        oracle.check(site, faults.excused())?;
    }
    conclude(&mut sim, site, &faults)
}

/// After peace everybody agrees, and what was confirmed is there.
fn conclude(sim: &mut Sim<'_>, site: &Site, faults: &Faults) -> Result<(), String> {
    let mut agreed: Option<(u64, Inspection)> = None;
    let lost = |host: &&Host| {
        faults.is_wiped(host.id) || faults.is_dead(host.id) || site.is_removed(host.id)
    };
    for host in site.members().filter(|host| !lost(host)) {
        let (seen, quorum_at) = {
            let state = host.state.borrow();
            (state.last.clone(), state.quorum_at)
        };
        let id = host.id;
        if !sim.is_host_running(host.ip()) {
            return Err(format!("node {id} is still down after peace"));
        }
        let Some(seen) = seen else { return Err(format!("node {id} was never seen")) };
        if quorum_at < QUIET {
            return Err(format!("node {id} has no quorum long after peace: {:?}", seen.status));
        }
        if seen.status.state == RaftState::Leader && host.role == Role::Witness {
            return Err(format!("witness {id} still leads long after peace"));
        }
        if !matches!(seen.voters.as_slice(), [voters] if voters.len() % 2 == 1) {
            return Err(format!("the voters are {:?} long after peace", seen.voters));
        }
        let (state, count) = &seen.view;
        let found = digest(state);
        if let Some((first, other)) = &agreed
            && (*first, other.view.1, other.status.group) != (found, *count, seen.status.group)
        {
            return Err(format!(
                "nodes {} and {id} do not agree long after peace: {} and {count} entries",
                other.status.node_id, other.view.1
            ));
        }
        agreed.get_or_insert((found, seen.clone()));
    }
    let one_died = site.hosts.iter().any(|host| faults.is_dead(host.id));
    if let Some((_, seen)) = agreed {
        site.pledges.borrow().check(&seen.view.0, one_died)?;
        if seen.status.group.generation > 1 {
            // Two branches have no common order; what survives of them was just looked at.
            return Ok(());
        }
        for key in 0..KEYS {
            let value = read_record(&seen.view.0, key).map(|(_, value)| value);
            let mut history = site.history.borrow_mut();
            let ticket = history.call(key, RecordCall::Read);
            history.answer(ticket, RecordAnswer::Value(value));
        }
    }
    site.history.borrow().check()
}
