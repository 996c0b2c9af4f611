//! The virtual router of RFC 9568 section 6.4. Sans-io: no clock, sockets or randomness.
//!
//! ```text
//!                      Startup, Recovered
//!     +------------+ ----------> +--------+  Active_Down_Timer, permitted   +--------+
//!     | Initialize |             | Backup | ------------------------------> | Active |
//!     +------------+ <---------- +--------+ <------------------------------ +--------+
//!           ^    Shutdown, LinkDown,       better advert, no permission,        |
//!           |    fault                     overslept, address not to be had     |
//!           +-------------------------------------------------------------------+
//!                                    Shutdown, LinkDown, fault
//! ```
//!
//! The shell feeds [`VirtualRouter::handle`] and [`VirtualRouter::handle_timeout`], then carries
//! out what [`VirtualRouter::poll_action`] yields, in that order. Both calls, and only they, change
//! what [`VirtualRouter::poll_timeout`] answers.
//!
//! The table of section 6.4 is here, one arm for each row; what a Backup and an Active then do is
//! in `backup.rs` and `active.rs`. `standing.rs` knows priority, faults and permission.
//!
//! # Late timers
//!
//! A process that was stopped, starved, or whose machine was paused finds its timers long over. It
//! must not act on them: that nobody was heard while it slept proves nothing, as packets may have
//! been dropped by a full buffer or a paused card, and whoever heard nothing from *us* had every
//! right to take over. So the router compares each call with the time it had asked for. It asks for
//! one at least once an interval, as a nap may also end right before a timer fires.
//!
//! - a Backup that is late by more than half an interval listens for two more intervals
//!   and Skew_Time, in which an Active that lives must be heard, before any timer of its fires;
//! - an Active that is more than two intervals late (three after its last advertisement, when the
//!   others may have taken over) gives way to whoever it heard, unless it would preempt him at
//!   once anyway, and otherwise starts anew with addresses and announcements: the lease of the
//!   kernel may have run out.
//!
//! What waits in the sockets must be fed before the timers fire; the engine sees to that.

mod active;
mod backup;
mod down_timer;
mod standing;

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Instant};

use self::{active::Active, backup::Watch, standing::Standing};
use crate::{
    config::{Family, Interval, Priority, RouterConfig, Vrid},
    event::{Action, Anomalies, Event, Lateness, Peer, Reason, State, Transition},
    group::{Member, Order},
    mutation::mutated,
    packet::{Advertisement, Version},
    timers::Timing,
    tracking::{Adjustment, Cause},
};

/// One virtual router (section 6).
#[derive(Debug)]
pub struct VirtualRouter {
    config: RouterConfig,
    standing: Standing,
    /// Our primary address while the link is usable.
    source: Option<IpAddr>,
    /// Active_Adver_Interval: the interval of whoever is Active.
    active_interval: Interval,
    role: Role,
    peer: Option<Peer>,
    anomalies: Anomalies,
    late: Lateness,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Role {
    Initialize,
    Backup(Watch),
    Active(Active),
}

impl VirtualRouter {
    /// A router in Initialize; [`Event::Startup`] wakes it.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            standing: Standing::new(&config),
            source: None,
            active_interval: config.interval(),
            role: Role::Initialize,
            peer: None,
            anomalies: Anomalies::default(),
            late: Lateness::default(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.notice_lateness(now);
        if let Event::Advertisement { source, advertisement } = &event {
            self.anomalies.note(&self.config, self.source, *source, advertisement);
        }
        match (self.state(), event) {
            // Inputs of whoever operates the router; no section of the RFC.
            (_, Event::SetPriority(priority)) => self.standing.set_base(priority),
            (_, Event::SetPermission(permission)) => self.set_permission(now, permission),
            (_, Event::SetFault { cause, present }) => {
                self.standing.set_fault(cause, present);
                self.judge_faults(now);
            }
            (_, Event::Track { tracker, seen }) => {
                self.standing.track(&tracker, seen);
                self.judge_faults(now);
            }
            (_, Event::Group(order)) => self.obey(now, order),

            // 6.4.1 Initialize. Never straight to Active: nobody here owns the address.
            (State::Initialize, Event::Startup { source }) => {
                self.source = Some(source);
                if self.standing.faults().next().is_none() {
                    self.become_backup(now, Reason::Started);
                }
            }
            (State::Initialize, Event::Shutdown | Event::LinkDown) => self.source = None,
            (State::Initialize, _) => {}

            // A new primary address while running: the next advertisement carries it.
            (State::Backup | State::Active, Event::Startup { source }) => {
                self.source = Some(source);
            }

            // 6.4.2 Backup, 6.4.3 Active, Shutdown. Without a link there is nothing to say
            // goodbye through.
            (State::Backup, Event::Shutdown) => self.leave(Reason::Shutdown),
            (State::Backup, Event::LinkDown) => self.leave(Reason::LinkDown),
            (State::Active, Event::Shutdown) => {
                self.say_goodbye();
                self.actions.push_back(Action::RemoveAddresses);
                self.leave(Reason::Shutdown);
            }
            (State::Active, Event::LinkDown) => {
                self.actions.push_back(Action::RemoveAddresses);
                self.leave(Reason::LinkDown);
            }

            // Not in the RFC: whether the addresses can be had, and what is known besides silence.
            (State::Backup, Event::AddressLost | Event::AddressRefused) => {}
            (State::Active, Event::AddressLost) => self.address_lost(now),
            (State::Active, Event::AddressRefused) => {
                self.do_without(now, Reason::AddressRefused);
            }
            (State::Backup, Event::Opinion(opinion)) => self.take_opinion(now, opinion),
            (State::Active, Event::Opinion(_)) => {}

            // Our own advertisement came back, or another host has our address. Comparing it with
            // ourselves would make two Actives fight, or one give up against its own echo.
            (_, Event::Advertisement { source, .. })
                if Some(source) == self.source && !mutated!(EchoHeard) => {}

            // 6.4.2 Backup, ADVERTISEMENT with priority zero.
            (State::Backup, Event::Advertisement { advertisement, .. })
                if advertisement.priority == 0 =>
            {
                self.hear_farewell(now);
            }
            // 6.4.2 Backup, ADVERTISEMENT of an Active to follow.
            (State::Backup, Event::Advertisement { source, advertisement })
                if !self.preempts() || advertisement.priority >= self.priority().as_u8() =>
            {
                self.follow(now, source, &advertisement);
            }
            // 6.4.2 Backup, ADVERTISEMENT of lower priority: the timer runs on, we preempt.
            (State::Backup, Event::Advertisement { source, advertisement }) => {
                self.hear_lesser(now, source, &advertisement);
            }

            // 6.4.3 Active, ADVERTISEMENT with priority zero. Its sender believed to be Active, so
            // that neighbours may believe it too.
            (State::Active, Event::Advertisement { advertisement, .. })
                if advertisement.priority == 0 =>
            {
                if !mutated!(FarewellUnanswered) && self.assert_active(now) {
                    self.restart_adver_timer(now);
                }
            }
            // Not in the RFC: we were asleep for so long that the sender rightly took over.
            (State::Active, Event::Advertisement { source, advertisement })
                if self.is_superseded(&advertisement) =>
            {
                self.yield_to_others(now, Reason::Overslept);
                self.follow(now, source, &advertisement);
            }
            // 6.4.3 Active, ADVERTISEMENT with more right than ours.
            (State::Active, Event::Advertisement { source, advertisement })
                if self.loses_against(source, &advertisement) =>
            {
                self.give_way(now, source, &advertisement);
            }
            // 6.4.3 Active, losing ADVERTISEMENT: assert ourselves at once, also towards switches
            // and neighbours that learnt the sender's place meanwhile.
            (State::Active, Event::Advertisement { .. }) => {
                if !mutated!(LosingUnanswered) {
                    let _ = self.assert_active(now);
                }
            }
        }
    }

    /// Lets every timer that is due at `now` fire. The shell must have fed all received
    /// advertisements before: what waits in a socket may speak against the timer.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_lateness(now);
        match &self.role {
            Role::Initialize => {}
            Role::Backup(_) => self.backup_timeout(now),
            Role::Active(_) => self.active_timeout(now),
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None`: not before the next event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Initialize => None,
            Role::Backup(watch) => {
                watch.timer.deadline(self.timing()).map(|deadline| deadline.min(watch.pulse))
            }
            Role::Active(active) => Some(active.due()),
        }
    }

    /// When Active_Down_Timer fires, in Backup and while it runs.
    pub fn active_down_timer(&self) -> Option<Instant> {
        match &self.role {
            Role::Backup(watch) => watch.timer.deadline(self.timing()),
            Role::Initialize | Role::Active(_) => None,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.role {
            Role::Initialize => State::Initialize,
            Role::Backup(_) => State::Backup,
            Role::Active(_) => State::Active,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        self.config.name()
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        self.config.family()
    }

    /// The identifier on the wire.
    pub fn vrid(&self) -> Vrid {
        self.config.vrid()
    }

    /// The virtual addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        self.config.addresses()
    }

    /// The priority in force.
    pub fn priority(&self) -> Priority {
        self.standing.priority()
    }

    /// The priority before all adjustments.
    pub fn base_priority(&self) -> Priority {
        self.standing.base()
    }

    /// What lies between the two.
    pub fn adjustments(&self) -> Vec<Adjustment> {
        self.standing.adjustments()
    }

    /// What keeps it from taking part.
    pub fn faults(&self) -> Vec<Cause> {
        let link = self.source.is_none().then_some(Cause::Link);
        link.into_iter().chain(self.standing.faults()).collect()
    }

    /// Whether the router may become Active.
    pub fn permission(&self) -> bool {
        self.standing.permission
    }

    /// The Active this router follows; `None` unless in Backup.
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Oddities counted so far.
    pub fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// How often it was so late that others had reason to act.
    pub fn lateness(&self) -> Lateness {
        self.late
    }

    /// The sync group it belongs to.
    pub fn sync_group(&self) -> Option<&Arc<str>> {
        self.config.sync_group()
    }

    /// How it stands in its sync group.
    pub fn member(&self, now: Instant) -> Member {
        Member {
            state: self.state(),
            in_fault: self.source.is_none() || self.standing.own_faults().next().is_some(),
            halted: self.standing.is_halted(),
            wants: self.is_ready(),
            may_join: self.may_join(now),
            own_priority: self.standing.own_priority(),
            priority: self.priority(),
        }
    }

    fn set_permission(&mut self, now: Instant, permission: bool) {
        self.standing.permission = permission;
        if permission && self.is_held() {
            self.claim_late(now);
        } else if !permission && self.state() == State::Active {
            self.yield_to_others(now, Reason::PermissionWithdrawn);
        }
    }

    fn judge_faults(&mut self, now: Instant) {
        let cause = self.standing.faults().next().filter(|_| !mutated!(FaultIgnored));
        match (self.state(), cause) {
            (State::Initialize, None) if self.source.is_some() => {
                self.become_backup(now, Reason::Recovered);
            }
            (State::Initialize, _) | (_, None) => {}
            (State::Backup, Some(cause)) => self.become_initialize(Reason::Fault(cause)),
            (State::Active, Some(cause)) => {
                self.say_goodbye();
                self.actions.push_back(Action::RemoveAddresses);
                self.become_initialize(Reason::Fault(cause));
            }
        }
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match (order, self.state()) {
            (Order::Claim, State::Backup) => self.claim_with_group(now),
            (Order::Yield, State::Active) => self.yield_to_others(now, Reason::SyncGroup),
            (Order::Claim | Order::Yield, _) => {}
            (Order::Cap(priority), _) => self.standing.set_cap(priority),
            (Order::Halt, _) => {
                self.standing.set_halted(true);
                self.judge_faults(now);
            }
            (Order::Resume, _) => {
                self.standing.set_halted(false);
                self.judge_faults(now);
            }
        }
    }

    fn notice_lateness(&mut self, now: Instant) {
        let Some(deadline) = self.poll_timeout() else { return };
        let late = now.saturating_duration_since(deadline);
        let timing = self.timing();
        match &mut self.role {
            Role::Initialize => {}
            Role::Backup(watch) => {
                if watch.wake(now, late, timing, self.active_interval) {
                    self.late.note(late);
                }
            }
            Role::Active(active) => {
                if active.wake(late, self.config.interval()) {
                    self.late.note(late);
                }
            }
        }
    }

    fn timing(&self) -> Timing {
        let priority = self.priority().as_u8();
        match self.config.dialect().version() {
            Version::V2 => Timing::version_2(priority, self.active_interval),
            Version::V3 => Timing::version_3(priority, self.active_interval),
        }
    }

    fn become_backup(&mut self, now: Instant, reason: Reason) {
        let from = self.state();
        self.active_interval = self.config.interval();
        self.role = Role::Backup(Watch::started(now, self.active_interval));
        self.report(from, reason);
    }

    fn become_initialize(&mut self, reason: Reason) {
        let from = self.state();
        self.peer = None;
        self.role = Role::Initialize;
        self.report(from, reason);
    }

    /// Stays in Initialize until [`Event::Startup`].
    fn leave(&mut self, reason: Reason) {
        self.source = None;
        self.become_initialize(reason);
    }

    fn send(&mut self, priority: u8) {
        self.actions.push_back(Action::Send(self.advertisement(priority)));
    }

    fn say_goodbye(&mut self) {
        if !mutated!(GoodbyeForgotten) {
            self.send(0);
        }
    }

    /// Preempt_Mode.
    fn preempts(&self) -> bool {
        (self.config.preempt() || mutated!(PreemptForced)) && !mutated!(PreemptIgnored)
    }

    /// What this router says with that priority; 0 is its goodbye.
    pub(crate) fn advertisement(&self, priority: u8) -> Advertisement {
        Advertisement {
            vrid: self.config.vrid(),
            priority,
            interval: self.config.interval(),
            addresses: self.config.addresses().into(),
        }
    }

    fn report(&mut self, from: State, reason: Reason) {
        let to = self.state();
        self.actions.push_back(Action::Report(Transition { from, to, reason }));
    }
}
