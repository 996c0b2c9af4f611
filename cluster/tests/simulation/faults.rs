//! What goes wrong in a run: every seed chooses its kinds of trouble, how thick they come, and
//! when each of them is over.

use std::path::Path;
use std::time::Duration;

use cluster::disk::{Fault, Loss};
use cluster::pair::Consent;
use cluster::record::NodeId;
use cluster::sim::copy;
use turmoil::Sim;

use crate::draw::Draw;
use crate::founding::STATE_DIR;
use crate::oracle::Oracle;
use crate::run::Profile;
use crate::site::{Host, Order, Site};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The power of a host goes off, now or at one of its next syncs.
    Crash,
    /// A process is stopped in order and started again.
    Restart,
    /// The hosts fall into two halves that do not hear each other.
    Split,
    /// One host hears nobody and nobody hears it.
    Isolate,
    /// What one host sends another is lost.
    OneWay,
    /// Two halves that only one host hears both of.
    Bridge,
    /// One link, or all of one host, is slow.
    Slow,
    /// Messages are lost, and what travels with them.
    Lossy,
    /// Connections break.
    Tear,
    /// A disk answers late.
    Stall,
    /// A disk fails or is full.
    BadDisk,
    /// A wall clock jumps or runs at another pace.
    Clock,
    /// A host loses its log, but not who it is.
    Wipe,
}

pub(crate) const KINDS: [Kind; 13] = [
    Kind::Crash,
    Kind::Restart,
    Kind::Split,
    Kind::Isolate,
    Kind::OneWay,
    Kind::Bridge,
    Kind::Slow,
    Kind::Lossy,
    Kind::Tear,
    Kind::Stall,
    Kind::BadDisk,
    Kind::Clock,
    Kind::Wipe,
];

/// The trouble of one run.
pub(crate) struct Faults {
    draw: Draw,
    kinds: Vec<Kind>,
    /// Longest pause between two of them, in milliseconds.
    pause_ms: u64,
    next: Duration,
    /// What is cut, from where to where, until when.
    cuts: Vec<(NodeId, NodeId, Duration)>,
    /// Links that are slow or lossy until then.
    weak: Vec<(NodeId, NodeId, Duration)>,
    /// Hosts that are off until then.
    down: Vec<(NodeId, Duration)>,
    /// Hosts whose disks were made to fail.
    excused: Vec<NodeId>,
    wiped: Vec<NodeId>,
    /// The segment of a pair is cut until then.
    apart: Duration,
    /// A node of a pair that reaches nothing beyond itself until then.
    inside: Option<(NodeId, Duration)>,
    /// Whether a node of a pair may die in this run.
    may_die: bool,
    /// The one that did: it never comes back.
    dead: Option<NodeId>,
    /// One that was removed from its cluster, and knows.
    gone: Option<NodeId>,
}

impl Faults {
    pub(crate) fn new(site: &Site, profile: Profile) -> Self {
        let mut draw = Draw::new(site.seed, 1);
        let kinds = match profile.kinds {
            Some(kinds) => kinds.to_vec(),
            None => KINDS.into_iter().filter(|_| draw.percent(40)).collect::<Vec<_>>(),
        };
        let pause_ms = draw.pick(&[600, 1_500, 4_000]);
        let pause_ms = if site.is_pair() { 3 * pause_ms } else { pause_ms };
        let pause_ms = profile.pause_ms.unwrap_or(pause_ms);
        Self {
            draw,
            kinds,
            pause_ms,
            next: Duration::ZERO,
            cuts: Vec::new(),
            weak: Vec::new(),
            down: Vec::new(),
            excused: Vec::new(),
            wiped: Vec::new(),
            apart: Duration::ZERO,
            inside: None,
            may_die: site.is_pair() && Draw::new(site.seed, 4).percent(30),
            dead: None,
            gone: None,
        }
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    pub(crate) fn excused(&self) -> &[NodeId] {
        &self.excused
    }

    pub(crate) fn is_dead(&self, id: NodeId) -> bool {
        self.dead == Some(id)
    }

    pub(crate) fn is_wiped(&self, id: NodeId) -> bool {
        self.wiped.contains(&id)
    }

    /// Before a step: ends what is over, starts what is due if `active`.
    pub(crate) fn step(
        &mut self,
        sim: &mut Sim<'_>,
        site: &Site,
        oracle: &mut Oracle,
        active: bool,
    ) {
        let now = site.now.get();
        self.bury(sim, site);
        let over: Vec<_> = self.down.extract_if(.., |(_, until)| *until <= now).collect();
        for (id, _) in over {
            self.boot(sim, site.host(id), site);
        }
        let before = self.cuts.len();
        self.cuts.retain(|(_, _, until)| *until > now);
        if self.cuts.len() < before {
            self.apply_cuts(sim, site, oracle);
        }
        let over: Vec<_> = self.weak.extract_if(.., |(_, _, until)| *until <= now).collect();
        for (a, b, _) in over {
            strengthen(sim, site, a, b);
        }
        self.step_air(site);
        if !active || self.kinds.is_empty() || now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(self.draw.between(50, self.pause_ms));
        let kind = self.draw.pick(&self.kinds);
        self.begin(kind, sim, site, oracle);
    }

    /// Ends everything: all hosts run, all links and disks are sound, clocks keep their pace.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, site: &Site, oracle: &mut Oracle) {
        site.tell("peace");
        self.cuts.clear();
        self.apply_cuts(sim, site, oracle);
        for (a, b, _) in std::mem::take(&mut self.weak) {
            strengthen(sim, site, a, b);
        }
        for (id, until) in &mut self.down {
            if self.dead != Some(*id) && self.gone != Some(*id) {
                *until = Duration::ZERO;
            }
        }
        (self.apart, self.inside) = (Duration::ZERO, None);
    }

    /// In peace an operator lets the survivor of a pair go on where its rules forbid it.
    pub(crate) fn bring_back(&mut self, site: &Site) {
        let Some(dead) = self.dead else { return };
        let alone = site.hosts.iter().find(|host| host.id != dead).expect("one is left");
        let mut state = alone.state.borrow_mut();
        let waited = site.now.get() >= state.quorum_at + Duration::from_secs(2);
        if waited && site.now.get() >= self.next {
            self.next = site.now.get() + Duration::from_secs(1);
            state.order = Some(Order::Promote(Consent::Force));
        }
    }

    /// What a pair sees beside itself.
    fn step_air(&mut self, site: &Site) {
        if !site.is_pair() {
            return;
        }
        let now = site.now.get();
        let mut air = site.air.borrow_mut();
        air.cut = now < self.apart;
        air.link_cut = !self.cuts.is_empty() || !self.weak.is_empty();
        self.inside = self.inside.filter(|(_, until)| now < *until);
        for id in [1, 2] {
            air.set_outside(id, self.inside.is_none_or(|(inside, _)| inside != id));
        }
        air.step(now, [1, 2].map(|id| !self.is_down(id)));
    }

    /// What only happens to pairs, now and then.
    fn begin_of_pair(&mut self, site: &Site, id: NodeId) {
        match self.draw.below(10) {
            0..5 => {
                site.tell(format_args!("node {id} shall hand over"));
                site.host(id).state.borrow_mut().order = Some(Order::HandOver);
            }
            _ => {
                site.tell(format_args!("node {id} shall be promoted"));
                let order = Order::Promote(Consent::Promote);
                site.host(id).state.borrow_mut().order = Some(order);
            }
        }
        for host in &site.hosts {
            let disk = host.disk.borrow();
            // One that is off is not seen to be until the next step.
            if !disk.is_off() {
                disk.power_on();
            }
        }
    }

    /// Takes note of hosts that stopped running by themselves or lost their power at a sync.
    fn bury(&mut self, sim: &mut Sim<'_>, site: &Site) {
        for host in &site.hosts {
            if self.is_down(host.id)
                || (self.is_wiped(host.id) && host.state.borrow().failed.is_some())
            {
                continue;
            }
            let (failed, stopped) = {
                let state = host.state.borrow();
                (state.failed.is_some(), state.stopped)
            };
            if failed && site.renewal.get().leaves() == Some(host.id) && site.is_removed(host.id) {
                site.tell(format_args!("node {} is gone", host.id));
                self.kill(sim, host, site, Loss::Nothing);
                self.down.retain(|(down, _)| *down != host.id);
                self.down.push((host.id, Duration::MAX));
                self.gone = Some(host.id);
                continue;
            }
            if host.disk.borrow().is_off() {
                site.tell(format_args!("node {} lost its power in the middle of a sync", host.id));
                self.kill(sim, host, site, Loss::All);
            } else if failed || stopped {
                // The process is gone, the machine is not.
                self.kill(sim, host, site, Loss::Nothing);
            }
        }
    }

    fn is_down(&self, id: NodeId) -> bool {
        self.down.iter().any(|(down, _)| *down == id)
    }

    fn kill(&mut self, sim: &mut Sim<'_>, host: &Host, site: &Site, loss: Loss) {
        host.disk.borrow().power_off(loss);
        sim.crash(host.ip());
        let longest = if site.is_pair() { 25_000 } else { 8_000 };
        let millis = self.draw.pick(&[50, 500, 2_000, longest]);
        let until = site.now.get() + Duration::from_millis(self.draw.between(10, millis));
        self.down.push((host.id, until));
    }

    fn boot(&mut self, sim: &mut Sim<'_>, host: &Host, site: &Site) {
        site.tell(format_args!("node {} boots", host.id));
        {
            let mut state = host.state.borrow_mut();
            (state.failed, state.stopping, state.stopped) = (None, false, false);
            (state.seen, state.stall) = (None, None);
        }
        host.disk.borrow().power_on();
        self.excused.retain(|excused| *excused != host.id);
        sim.bounce(host.ip());
    }

    fn loss(&mut self) -> Loss {
        let seed = self.draw.next();
        self.draw.pick(&[Loss::All, Loss::Nothing, Loss::Torn { seed }, Loss::Scattered { seed }])
    }

    fn begin(&mut self, kind: Kind, sim: &mut Sim<'_>, site: &Site, oracle: &mut Oracle) {
        let ids: Vec<NodeId> = site.members().map(|host| host.id).collect();
        let id = self.draw.pick(&ids);
        let host = site.host(id);
        let longest = if site.is_pair() { 20_000 } else { 8_000 };
        let until = site.now.get() + Duration::from_millis(self.draw.between(200, longest));
        if site.is_pair() && self.draw.percent(10) {
            return self.begin_of_pair(site, id);
        }
        match kind {
            Kind::Crash | Kind::Restart | Kind::Stall | Kind::BadDisk | Kind::Wipe
                if self.is_down(id) => {}
            Kind::Crash if self.may_die && self.dead.is_none() && self.draw.percent(30) => {
                site.tell(format_args!("node {id} dies"));
                self.kill(sim, host, site, Loss::All);
                self.down.retain(|(down, _)| *down != id);
                self.down.push((id, Duration::MAX));
                self.dead = Some(id);
            }
            Kind::Crash => {
                let loss = self.loss();
                if self.draw.percent(50) {
                    site.tell(format_args!("node {id} loses its power: {loss:?}"));
                    self.kill(sim, host, site, loss);
                } else {
                    let disk = host.disk.borrow();
                    let point = disk.points() + self.draw.between(1, 30);
                    disk.plan(point, Fault::PowerOff(loss));
                }
            }
            Kind::Restart => host.state.borrow_mut().stopping = true,
            Kind::Split | Kind::Isolate | Kind::OneWay | Kind::Bridge => {
                self.cut(kind, &ids, id, until);
                let cuts: Vec<_> = self.cuts.iter().map(|(a, b, _)| format!("{a}>{b}")).collect();
                site.tell(format_args!("cut: {}", cuts.join(" ")));
                if site.is_pair() && !cuts.is_empty() {
                    self.cut_air(kind, site, id, until);
                }
                self.apply_cuts(sim, site, oracle);
            }
            Kind::Slow => {
                let latency = Duration::from_millis(self.draw.between(20, 500));
                site.tell(format_args!("node {id} is slow: {latency:?}"));
                for other in self.others(&ids, id) {
                    sim.set_link_latency(host.ip(), site.host(other).ip(), latency);
                    self.weak.push((id, other, until));
                }
            }
            Kind::Lossy => {
                let percent = self.draw.between(1, 10);
                site.tell(format_args!("node {id} loses {percent} % of its messages"));
                for other in self.others(&ids, id) {
                    if self.is_cut(id, other) || self.is_cut(other, id) {
                        continue;
                    }
                    let rate = f64::from(u32::try_from(percent).unwrap()) / 100.0;
                    sim.set_link_fail_rate(host.ip(), site.host(other).ip(), rate);
                    self.weak.push((id, other, until));
                }
            }
            Kind::Tear => {
                site.tell(format_args!("connections of node {id} break"));
                for other in self.others(&ids, id) {
                    site.connections.tear(host.ip(), site.host(other).ip());
                }
            }
            Kind::Stall => {
                let stall = Duration::from_millis(self.draw.between(100, 5_000));
                site.tell(format_args!("the disk of node {id} stalls for {stall:?}"));
                host.state.borrow_mut().stall = Some(stall);
                oracle.stalled(id, site.now.get() + stall);
            }
            Kind::BadDisk => {
                let fault = self.draw.pick(&[Fault::SyncFails, Fault::Full, Fault::ReadsFail]);
                site.tell(format_args!("the disk of node {id} will fail: {fault:?}"));
                let disk = host.disk.borrow();
                disk.plan(disk.points() + self.draw.between(1, 10), fault);
                self.excused.push(id);
            }
            Kind::Clock => {
                if self.draw.percent(50) {
                    let jump = self.draw.pick(&[-3_600_000, -5_000, -300, 300, 5_000, 3_600_000]);
                    site.tell(format_args!("the clock of node {id} jumps by {jump} ms"));
                    host.clock.jump(jump);
                    site.skew.set(site.skew.get().max(host.clock.off_by(site.now.get())));
                } else {
                    let rate = self.draw.pick(&[-10_000, 0, 10_000]);
                    site.tell(format_args!("the clock of node {id} runs at {rate} ppm"));
                    host.clock.set_rate(rate);
                    site.skew.set(site.skew.get() + RATE_SKEW);
                }
            }
            Kind::Wipe if self.wiped.is_empty() && ids.len() > 2 => {
                site.tell(format_args!("node {id} loses its log"));
                self.kill(sim, host, site, Loss::All);
                let old = host.disk.take();
                old.power_on();
                host.disk.replace(copy(&old, Path::new(STATE_DIR), "raft").unwrap());
                self.wiped.push(id);
                host.state.borrow_mut().lost = true;
                oracle.wiped(id);
            }
            Kind::Wipe => {}
        }
    }

    fn others(&mut self, ids: &[NodeId], id: NodeId) -> Vec<NodeId> {
        let others: Vec<_> = ids.iter().copied().filter(|other| *other != id).collect();
        if others.is_empty() || self.draw.percent(60) {
            return others;
        }
        vec![self.draw.pick(&others)]
    }

    fn cut(&mut self, kind: Kind, ids: &[NodeId], id: NodeId, until: Duration) {
        let sides: Vec<(NodeId, bool)> =
            ids.iter().map(|id| (*id, self.draw.percent(50))).collect();
        let side = |of: NodeId| sides.iter().any(|(id, left)| *id == of && *left);
        let target = self.draw.pick(ids);
        for &from in ids {
            for &to in ids {
                let cut = from != to
                    && match kind {
                        Kind::Isolate => from == id || to == id,
                        Kind::OneWay => from == id && (to == target || target == id),
                        Kind::Bridge => side(from) != side(to) && from != id && to != id,
                        _ => side(from) != side(to),
                    };
                if cut {
                    self.cuts.push((from, to, until));
                }
            }
        }
    }

    /// A cut between the nodes of a pair is one of the control link, or of everything between them,
    /// or around one of them.
    fn cut_air(&mut self, kind: Kind, site: &Site, id: NodeId, until: Duration) {
        match kind {
            Kind::Isolate => {
                site.tell(format_args!("node {id} reaches nothing"));
                (self.apart, self.inside) = (self.apart.max(until), Some((id, until)));
            }
            Kind::Split if self.draw.percent(50) => {
                site.tell("the segment is cut");
                self.apart = self.apart.max(until);
            }
            _ => {}
        }
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cuts.iter().any(|(from, to, _)| (*from, *to) == (a, b))
    }

    fn apply_cuts(&mut self, sim: &mut Sim<'_>, site: &Site, oracle: &mut Oracle) {
        for a in &site.hosts {
            for b in site.hosts.iter().filter(|b| b.id != a.id) {
                if self.is_cut(a.id, b.id) {
                    // What is lost at random comes back at random, and lifts cuts as it does.
                    sim.set_link_fail_rate(a.ip(), b.ip(), 0.0);
                    sim.partition_oneway(a.ip(), b.ip());
                } else {
                    sim.repair_oneway(a.ip(), b.ip());
                }
            }
        }
        for a in site.members() {
            let mut others = site.members().filter(|b| b.id != a.id).peekable();
            let alone = others.peek().is_some() && others.all(|b| self.is_cut(b.id, a.id));
            oracle.isolated(a.id, alone.then(|| site.now.get()));
        }
    }
}

/// What a clock that is one percent fast or slow gains or loses in a run.
const RATE_SKEW: Duration = Duration::from_millis(600);

/// How long a message takes on a sound link.
pub(crate) const LATENCY: Duration = Duration::from_millis(2);

fn strengthen(sim: &mut Sim<'_>, site: &Site, a: NodeId, b: NodeId) {
    let (a, b) = (site.host(a).ip(), site.host(b).ip());
    sim.set_link_fail_rate(a, b, 0.0);
    sim.set_link_latency(a, b, LATENCY);
}
