//! Active, section 6.4.3: advertising, asserting, giving way. Also the renewal of the addresses and
//! the plan of announcements, which the RFC leaves open. Sans-io.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Role, VirtualRouter, down_timer::DownTimer};
use crate::{
    announce_plan::AnnouncePlan,
    config::Interval,
    event::{Action, Reason},
    mutation::mutated,
    packet::Advertisement,
};

/// How often the lease of the addresses is renewed.
const RENEWAL: Duration = Duration::from_millis(500);

/// With this delay of Adver_Timer others have had every reason to take over.
const OVERSLEPT_INTERVALS: u32 = 2;

/// An Active answers losing advertisements at once, but a flood of them only this often.
const ASSERT_SPACING: Duration = Duration::from_millis(10);

/// Whoever takes the addresses off that often in that time will go on doing so. Others may be able
/// to keep them.
const LOSSES: usize = 3;
const LOSSES_WITHIN: Duration = Duration::from_secs(10);

/// What an Active knows.
#[derive(Debug)]
pub(super) struct Active {
    /// Adver_Timer.
    adver: Instant,
    renewal: Instant,
    announce: AnnouncePlan,
    /// When a losing advertisement was answered last.
    asserted: Option<Instant>,
    /// When addresses were lost lately.
    losses: Vec<Instant>,
    sleep: Sleep,
}

/// Whether others may have taken over while we were asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    /// The timers are far over and have not fired yet.
    Late,
    /// Adver_Timer runs for the time in which a successor must be heard. Until then nothing is
    /// sent, renewed or announced.
    Listening,
}

impl Active {
    fn started(now: Instant, interval: Interval) -> Self {
        Self {
            adver: now + interval.as_duration(),
            renewal: now + RENEWAL,
            announce: AnnouncePlan::started(now),
            asserted: None,
            losses: Vec::new(),
            sleep: Sleep::Awake,
        }
    }

    /// When the next of its timers fires.
    pub(super) fn due(&self) -> Instant {
        match self.sleep {
            Sleep::Awake | Sleep::Late => self.adver.min(self.renewal).min(self.announce.due()),
            Sleep::Listening => self.adver,
        }
    }

    /// Takes note that the call comes `late`; true: so late that others may have taken over.
    pub(super) fn wake(&mut self, late: Duration, interval: Interval) -> bool {
        let is_late = late > interval.as_duration() * OVERSLEPT_INTERVALS;
        if self.sleep != Sleep::Awake || !is_late || mutated!(SleepIgnored) {
            return false;
        }
        self.sleep = Sleep::Late;
        true
    }
}

impl VirtualRouter {
    /// Entering Active, section 6.4.2: the advertisement comes first, so that an Active of lower
    /// priority lets go of the addresses before we add them.
    pub(super) fn become_active(&mut self, now: Instant, reason: Reason) {
        let from = self.state();
        self.peer = None;
        self.active_interval = self.config.interval();
        self.role = Role::Active(Active::started(now, self.config.interval()));
        self.claim_addresses();
        self.report(from, reason);
    }

    fn claim_addresses(&mut self) {
        if mutated!(AddressesBeforeAdvertisement) {
            self.actions.push_back(Action::AddAddresses);
        }
        self.send(self.priority().as_u8());
        if !mutated!(AddressesBeforeAdvertisement) {
            self.actions.push_back(Action::AddAddresses);
        }
        if !mutated!(AnnouncementForgotten) {
            self.actions.push_back(Action::Announce);
        }
    }

    /// 6.4.3 Adver_Timer, and our own timers.
    pub(super) fn active_timeout(&mut self, now: Instant) {
        let listening_time = self.timing().listening_time();
        let is_first = self.preempts_at_once();
        let interval = self.config.interval();
        let Role::Active(active) = &mut self.role else { return };
        match active.sleep {
            Sleep::Awake => {}
            // Whoever would be preempted anyway need not be waited for.
            Sleep::Late if !is_first => {
                active.sleep = Sleep::Listening;
                active.adver = now + listening_time;
                return;
            }
            Sleep::Listening if active.adver > now => return,
            Sleep::Late | Sleep::Listening => {
                *active = Active::started(now, interval);
                self.claim_addresses();
                return;
            }
        }
        let adver_is_due = active.adver <= now;
        if active.renewal <= now {
            active.renewal = now + RENEWAL;
            self.actions.push_back(Action::RenewAddresses);
        }
        if active.announce.is_due(now) {
            active.announce.announced(now);
            self.actions.push_back(Action::Announce);
        }
        if adver_is_due {
            self.send(self.priority().as_u8());
            self.restart_adver_timer(now);
        }
    }

    /// The tie is broken by the address as an unsigned number in network order.
    pub(super) fn loses_against(&self, source: IpAddr, advertisement: &Advertisement) -> bool {
        let (theirs, ours) = (advertisement.priority, self.priority().as_u8());
        if mutated!(TieIgnored) {
            return theirs > ours;
        }
        if mutated!(TieReversed) {
            return theirs > ours || theirs == ours && Some(source) < self.source;
        }
        if mutated!(HigherIgnored) {
            return theirs == ours && Some(source) > self.source;
        }
        (theirs, Some(source)) > (ours, self.source)
    }

    /// Whether the sender took over while we were asleep and may keep the place: in Backup we
    /// would leave it there.
    pub(super) fn is_superseded(&self, advertisement: &Advertisement) -> bool {
        let Role::Active(active) = &self.role else { return false };
        let own = self.priority().as_u8();
        active.sleep != Sleep::Awake
            && (advertisement.priority == own
                || advertisement.priority < own && !self.preempts_at_once())
    }

    fn preempts_at_once(&self) -> bool {
        self.preempts() && self.config.preempt_delay().is_zero()
    }

    /// 6.4.3 ADVERTISEMENT with more right than ours.
    pub(super) fn give_way(&mut self, now: Instant, source: IpAddr, advertisement: &Advertisement) {
        if !mutated!(AddressesKept) {
            self.actions.push_back(Action::RemoveAddresses);
        }
        // One last advertisement shows the winner that there was another Active and makes it
        // announce itself again. It follows the removal, or our kernel could still answer an ARP
        // request after the winner's announcement.
        self.send(self.priority().as_u8());
        let priority = advertisement.priority;
        self.become_backup(now, Reason::BetterAdvertisement { source, priority });
        self.follow(now, source, advertisement);
    }

    /// Leaves Active of our own accord: the goodbye lets the next router take over within its
    /// Skew_Time.
    pub(super) fn yield_to_others(&mut self, now: Instant, reason: Reason) {
        self.say_goodbye();
        self.actions.push_back(Action::RemoveAddresses);
        self.become_backup(now, reason);
    }

    /// Leaves the addresses to others for a while, as they cannot be had here.
    pub(super) fn do_without(&mut self, now: Instant, reason: Reason) {
        self.yield_to_others(now, reason);
        self.set_timer(DownTimer::Penalty { since: now });
    }

    /// Puts a lost address back, unless that has been tried often enough.
    pub(super) fn address_lost(&mut self, now: Instant) {
        let Role::Active(active) = &mut self.role else { return };
        if active.sleep != Sleep::Awake {
            // Its lease ran out while we slept. Whether to put it back is decided by who is heard.
            return;
        }
        active.losses.retain(|loss| now < *loss + LOSSES_WITHIN);
        active.losses.push(now);
        if active.losses.len() >= LOSSES {
            self.do_without(now, Reason::AddressContested);
        } else {
            self.actions.push_back(Action::AddAddresses);
            self.announce_again(now);
        }
    }

    /// Tells a router that believes to be Active, and all who listened to it, who really is. True:
    /// an advertisement is sent; false: one was a moment ago, or follows.
    pub(super) fn assert_active(&mut self, now: Instant) -> bool {
        let Role::Active(active) = &mut self.role else { return false };
        match active.sleep {
            Sleep::Awake => {}
            // Follows at once, with the addresses.
            Sleep::Late => return false,
            // A successor left again, or is to be preempted: the place is ours.
            Sleep::Listening => {
                active.adver = now;
                return false;
            }
        }
        let sends = active.asserted.is_none_or(|last| now >= last + ASSERT_SPACING);
        if sends {
            active.asserted = Some(now);
            self.send(self.priority().as_u8());
        }
        self.announce_again(now);
        sends
    }

    /// Keeps the beat unless a whole interval was missed; a burst of arrears helps nobody.
    pub(super) fn restart_adver_timer(&mut self, now: Instant) {
        let interval = self.config.interval().as_duration();
        if let Role::Active(active) = &mut self.role
            && active.sleep == Sleep::Awake
        {
            let interval = if mutated!(AdverTimerTooLong) { interval * 2 } else { interval };
            let next = active.adver + interval;
            let on_beat = active.adver <= now && next > now;
            active.adver = if on_beat { next } else { now + interval };
        }
    }

    fn announce_again(&mut self, now: Instant) {
        if let Role::Active(active) = &mut self.role
            && active.announce.restart(now)
        {
            self.actions.push_back(Action::Announce);
        }
    }
}
