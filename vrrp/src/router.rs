//! The virtual router of RFC 9568 section 6.4. Sans-io: no clock, sockets or randomness.
//!
//! ```text
//!                      Startup
//!     +------------+ ----------> +--------+  Active_Down_Timer, permitted   +--------+
//!     | Initialize |             | Backup | ------------------------------> | Active |
//!     +------------+ <---------- +--------+ <------------------------------ +--------+
//!           ^      Shutdown, LinkDown        better advert, no permission        |
//!           +--------------------------------------------------------------------+
//!                                    Shutdown, LinkDown
//! ```
//!
//! The shell feeds [`VirtualRouter::handle`] and [`VirtualRouter::handle_timeout`], then carries
//! out what [`VirtualRouter::poll_action`] yields, in that order. Both calls, and only they, change
//! what [`VirtualRouter::poll_timeout`] answers. Two things go beyond the RFC: a router needs
//! *permission* to become Active, and it schedules the renewal of its addresses and announcements.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    announce_plan::AnnouncePlan,
    config::{Family, Interval, Priority, RouterConfig, Vrid},
    down_timer::DownTimer,
    event::{Action, Anomalies, Event, Opinion, Peer, Reason, State, Transition},
    packet::Advertisement,
};

/// How often the lease of the addresses is renewed while Active.
const RENEWAL: Duration = Duration::from_millis(500);

/// An Active whose Adver_Timer fires this many intervals late has been asleep (a stopped process,
/// a paused virtual machine); others have had every reason to take over.
const OVERSLEPT_INTERVALS: u32 = 2;

/// An Active answers losing advertisements at once, but a flood of them only this often.
const ASSERT_SPACING: Duration = Duration::from_millis(10);

/// One virtual router (section 6).
#[derive(Debug)]
pub struct VirtualRouter {
    config: RouterConfig,
    priority: Priority,
    permission: bool,
    source: IpAddr,
    /// Active_Adver_Interval: the interval of whoever is Active.
    active_interval: Interval,
    role: Role,
    peer: Option<Peer>,
    anomalies: Anomalies,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Role {
    Initialize,
    Backup(DownTimer),
    Active { adver: Instant, renewal: Instant, announce: AnnouncePlan, asserted: Option<Instant> },
}

impl VirtualRouter {
    /// A router in Initialize; [`Event::Startup`] wakes it.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            priority: config.priority(),
            permission: config.permission(),
            source: Ipv4Addr::UNSPECIFIED.into(),
            active_interval: config.interval(),
            role: Role::Initialize,
            peer: None,
            anomalies: Anomalies::default(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event) {
        if let Event::Advertisement { source, advertisement } = &event {
            self.anomalies.note(&self.config, self.source, *source, advertisement);
        }
        match (self.state(), event) {
            // The two inputs of whoever operates the router; no section of the RFC.
            (_, Event::SetPriority(priority)) => self.priority = priority,
            (State::Initialize, Event::SetPermission(permission)) => self.permission = permission,
            (State::Backup, Event::SetPermission(permission)) => {
                self.permission = permission;
                if permission && matches!(self.role, Role::Backup(DownTimer::Held)) {
                    self.become_active(now, Reason::PermissionGranted);
                }
            }
            (State::Active, Event::SetPermission(permission)) => {
                self.permission = permission;
                if !permission {
                    self.yield_to_others(now, Reason::PermissionWithdrawn);
                }
            }

            // 6.4.1 Initialize. Never straight to Active: nobody here owns the address.
            (State::Initialize, Event::Startup { source }) => {
                self.source = source;
                self.active_interval = self.config.interval();
                self.become_backup(now, Reason::Started);
            }
            (State::Initialize, _) => {}

            // A new primary address while running: the next advertisement carries it.
            (State::Backup | State::Active, Event::Startup { source }) => self.source = source,

            // 6.4.2 Backup, Shutdown.
            (State::Backup, Event::Shutdown) => self.become_initialize(Reason::Shutdown),
            (State::Backup, Event::LinkDown) => self.become_initialize(Reason::LinkDown),
            (State::Backup, Event::AddressLost | Event::AddressRefused) => {}

            // Not in the RFC: what is known besides silence decides.
            (State::Backup, Event::Opinion(opinion)) => self.take_opinion(now, opinion),
            (State::Active, Event::Opinion(_)) => {}

            // 6.4.3 Active, Shutdown.
            (State::Active, Event::Shutdown) => {
                self.send(0);
                self.actions.push_back(Action::RemoveAddresses);
                self.become_initialize(Reason::Shutdown);
            }
            (State::Active, Event::LinkDown) => {
                self.actions.push_back(Action::RemoveAddresses);
                self.become_initialize(Reason::LinkDown);
            }
            (State::Active, Event::AddressLost) => {
                self.actions.push_back(Action::AddAddresses);
                self.announce_again(now);
            }

            (State::Active, Event::AddressRefused) => {
                self.yield_to_others(now, Reason::AddressRefused);
                self.role = Role::Backup(DownTimer::Refused { since: now });
            }

            // Our own advertisement came back, or another host has our address. Comparing it with
            // ourselves would make two Actives fight, or one give up against its own echo.
            (_, Event::Advertisement { source, .. }) if source == self.source => {}

            // 6.4.2 Backup, ADVERTISEMENT with priority zero.
            (State::Backup, Event::Advertisement { advertisement, .. })
                if advertisement.priority == 0 =>
            {
                self.peer = None;
                self.role = Role::Backup(DownTimer::Farewell { since: now });
            }
            // 6.4.2 Backup, ADVERTISEMENT of an Active to follow.
            (State::Backup, Event::Advertisement { source, advertisement })
                if !self.config.preempt() || advertisement.priority >= self.priority.as_u8() =>
            {
                self.follow(now, source, &advertisement);
            }
            // 6.4.2 Backup, ADVERTISEMENT of lower priority: the timer runs on, we preempt.
            (State::Backup, Event::Advertisement { .. }) => {}

            // 6.4.3 Active, ADVERTISEMENT with priority zero. Its sender believed to be Active, so
            // that neighbours may believe it too.
            (State::Active, Event::Advertisement { advertisement, .. })
                if advertisement.priority == 0 =>
            {
                self.assert_active(now);
                self.restart_adver_timer(now);
            }
            // 6.4.3 Active, ADVERTISEMENT with more right than ours.
            (State::Active, Event::Advertisement { source, advertisement })
                if self.loses_against(source, &advertisement) =>
            {
                self.actions.push_back(Action::RemoveAddresses);
                // One last advertisement shows the winner that there was another Active and makes
                // it announce itself again. It follows the removal, or our kernel could still
                // answer an ARP request after the winner's announcement.
                self.send(self.priority.as_u8());
                let priority = advertisement.priority;
                self.become_backup(now, Reason::BetterAdvertisement { source, priority });
                self.follow(now, source, &advertisement);
            }
            // Not in the RFC: asleep for so long that the sender rightly took over, and without
            // preemption its place is not ours to take back.
            (State::Active, Event::Advertisement { source, advertisement })
                if !self.config.preempt() && self.overslept(now) =>
            {
                self.yield_to_others(now, Reason::Overslept);
                self.follow(now, source, &advertisement);
            }
            // 6.4.3 Active, losing ADVERTISEMENT: assert ourselves at once, also towards switches
            // and neighbours that learnt the sender's place meanwhile.
            (State::Active, Event::Advertisement { .. }) => self.assert_active(now),
        }
    }

    /// Lets every timer that is due at `now` fire. The shell must have fed all received
    /// advertisements before: what waits in a socket may speak against the timer.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.role {
            Role::Initialize => {}
            // 6.4.2 Backup, Active_Down_Timer.
            Role::Backup(timer) => {
                let reason = match timer {
                    DownTimer::Silence { .. } | DownTimer::Refused { .. } => Reason::ActiveSilent,
                    DownTimer::Advised { .. } => Reason::ActiveSilent,
                    DownTimer::Farewell { .. } => Reason::ActiveLeft,
                    DownTimer::Held | DownTimer::Consulting => return,
                };
                if self.poll_timeout().is_none_or(|deadline| deadline > now) {
                    return;
                }
                if self.permission && self.config.second_opinion() && reason == Reason::ActiveSilent
                {
                    self.role = Role::Backup(DownTimer::Consulting);
                    self.actions.push_back(Action::Consult);
                } else if self.permission {
                    self.become_active(now, reason);
                } else {
                    self.peer = None;
                    self.role = Role::Backup(DownTimer::Held);
                }
            }
            Role::Active { adver, renewal, announce, .. } => {
                let adver_is_due = *adver <= now;
                if *renewal <= now {
                    *renewal = now + RENEWAL;
                    self.actions.push_back(Action::RenewAddresses);
                }
                if announce.is_due(now) {
                    announce.announced(now);
                    self.actions.push_back(Action::Announce);
                }
                // 6.4.3 Active, Adver_Timer.
                if adver_is_due {
                    self.send(self.priority.as_u8());
                    self.restart_adver_timer(now);
                }
            }
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None`: not before the next event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let priority = self.priority.as_u8();
        match &self.role {
            Role::Initialize => None,
            Role::Backup(timer) => timer.deadline(priority, self.active_interval),
            Role::Active { adver, renewal, announce, .. } => {
                Some((*adver).min(*renewal).min(announce.due()))
            }
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.role {
            Role::Initialize => State::Initialize,
            Role::Backup(_) => State::Backup,
            Role::Active { .. } => State::Active,
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
        self.priority
    }

    /// Whether the router may become Active.
    pub fn permission(&self) -> bool {
        self.permission
    }

    /// Whether the Active is gone and only the permission to succeed it is missing.
    pub fn is_held(&self) -> bool {
        matches!(self.role, Role::Backup(DownTimer::Held))
    }

    /// Why a second opinion keeps this router from succeeding a silent Active.
    pub fn hold(&self) -> Option<&'static str> {
        match self.role {
            Role::Backup(DownTimer::Advised { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// The Active this router follows; `None` unless in Backup.
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Oddities counted so far.
    pub fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// Entering Active, section 6.4.2: the advertisement comes first, so that an Active of lower
    /// priority lets go of the addresses before we add them.
    fn become_active(&mut self, now: Instant, reason: Reason) {
        let from = self.state();
        self.peer = None;
        self.active_interval = self.config.interval();
        self.role = Role::Active {
            adver: now + self.config.interval().as_duration(),
            renewal: now + RENEWAL,
            announce: AnnouncePlan::started(now),
            asserted: None,
        };
        self.send(self.priority.as_u8());
        self.actions.push_back(Action::AddAddresses);
        self.actions.push_back(Action::Announce);
        self.report(from, reason);
    }

    fn take_opinion(&mut self, now: Instant, opinion: Opinion) {
        if !matches!(self.role, Role::Backup(DownTimer::Consulting)) {
            return;
        }
        match opinion {
            Opinion::Claim => self.become_active(now, Reason::ActiveSilent),
            Opinion::Hold { until, why } => {
                self.role = Role::Backup(DownTimer::Advised { until, why });
            }
        }
    }

    fn become_backup(&mut self, now: Instant, reason: Reason) {
        let from = self.state();
        self.role = Role::Backup(DownTimer::Silence { since: now });
        self.report(from, reason);
    }

    fn become_initialize(&mut self, reason: Reason) {
        let from = self.state();
        self.peer = None;
        self.role = Role::Initialize;
        self.report(from, reason);
    }

    /// Leaves Active of our own accord: the goodbye lets the next router take over within its
    /// Skew_Time.
    fn yield_to_others(&mut self, now: Instant, reason: Reason) {
        self.send(0);
        self.actions.push_back(Action::RemoveAddresses);
        self.become_backup(now, reason);
    }

    /// Tells a router that believes to be Active, and all who listened to it, who really is.
    fn assert_active(&mut self, now: Instant) {
        if let Role::Active { asserted, .. } = &mut self.role
            && asserted.is_none_or(|last| now >= last + ASSERT_SPACING)
        {
            *asserted = Some(now);
            self.send(self.priority.as_u8());
        }
        self.announce_again(now);
    }

    /// Adopts the sender's interval and starts Active_Down_Timer anew.
    fn follow(&mut self, now: Instant, source: IpAddr, advertisement: &Advertisement) {
        self.peer = Some(Peer { source, priority: advertisement.priority });
        self.active_interval = advertisement.interval;
        self.role = Role::Backup(DownTimer::Silence { since: now });
    }

    /// The tie is broken by the address as an unsigned number in network order.
    fn loses_against(&self, source: IpAddr, advertisement: &Advertisement) -> bool {
        (advertisement.priority, source) > (self.priority.as_u8(), self.source)
    }

    fn overslept(&self, now: Instant) -> bool {
        let allowed = self.config.interval().as_duration() * OVERSLEPT_INTERVALS;
        matches!(self.role, Role::Active { adver, .. } if now > adver + allowed)
    }

    /// Keeps the beat unless a whole interval was missed; a burst of arrears helps nobody.
    fn restart_adver_timer(&mut self, now: Instant) {
        let interval = self.config.interval().as_duration();
        if let Role::Active { adver, .. } = &mut self.role {
            let next = *adver + interval;
            let on_beat = *adver <= now && next > now;
            *adver = if on_beat { next } else { now + interval };
        }
    }

    fn announce_again(&mut self, now: Instant) {
        if let Role::Active { announce, .. } = &mut self.role
            && announce.restart(now)
        {
            self.actions.push_back(Action::Announce);
        }
    }

    fn send(&mut self, priority: u8) {
        self.actions.push_back(Action::Send(self.advertisement(priority)));
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
