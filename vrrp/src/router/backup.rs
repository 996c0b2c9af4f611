//! Backup, section 6.4.2: watching the Active, and when to succeed it. Sans-io.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Role, VirtualRouter, down_timer::DownTimer};
use crate::{
    config::Interval,
    event::{Action, Opinion, Peer, Reason},
    mutation::mutated,
    packet::Advertisement,
    timers::Timing,
};

/// So often in a row a Backup that was asleep again and again goes on listening. A host so starved
/// that it is never awake in time must still claim in the end, if it is the last.
const LISTENING_ROUNDS: u8 = 3;

/// What a Backup knows.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) timer: DownTimer,
    /// When to be called at the latest, to prove that we are awake.
    pub(super) pulse: Instant,
    /// The Active of lower priority that is being overruled, and when it was heard last.
    lesser: Option<Lesser>,
    /// Since when the preempt delay runs.
    patient_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Lesser {
    heard: Instant,
    peer: Peer,
    interval: Interval,
}

impl Watch {
    pub(super) fn started(now: Instant, active_interval: Interval) -> Self {
        Self {
            timer: DownTimer::Silence { since: now },
            pulse: now + active_interval.as_duration(),
            lesser: None,
            patient_since: None,
        }
    }

    /// Takes note that the call comes `late`; true: too late to believe that nobody was there.
    ///
    /// Half an interval and not two as for an Active: packets that were dropped while we slept are
    /// missing from the very first one, and listening once more costs little.
    pub(super) fn wake(
        &mut self,
        now: Instant,
        late: Duration,
        timing: Timing,
        active_interval: Interval,
    ) -> bool {
        let interval = active_interval.as_duration();
        self.pulse = self.pulse.max(now + interval);
        if late <= interval / 2 || mutated!(OldTimerBelieved) {
            return false;
        }
        let listens_anyway = |deadline: Instant| deadline >= now + timing.listening_time();
        let round = match self.timer {
            DownTimer::Listening { round, .. } => round + 1,
            _ => 1,
        };
        if round <= LISTENING_ROUNDS && !self.timer.deadline(timing).is_none_or(listens_anyway) {
            self.timer = DownTimer::Listening { since: now, round };
        }
        true
    }

    /// The Active of lower priority, if it lives: of its advertisements one may have been lost.
    fn living_lesser(&self, now: Instant) -> Option<Peer> {
        let lesser = self.lesser?;
        let lives = now <= lesser.heard + lesser.interval.as_duration() * 2;
        lives.then_some(lesser.peer)
    }
}

impl VirtualRouter {
    /// Whether the Active is gone and only the permission to succeed it is missing.
    pub fn is_held(&self) -> bool {
        matches!(self.role, Role::Backup(Watch { timer: DownTimer::Held, .. }))
    }

    /// Why a router that would succeed a silent Active does not: a second opinion speaks against
    /// it, or its sync group cannot come along.
    pub fn hold(&self) -> Option<&'static str> {
        match self.role {
            Role::Backup(Watch { timer: DownTimer::Advised { why, .. }, .. }) => Some(why),
            Role::Backup(Watch { timer: DownTimer::Ready { .. }, .. }) => {
                Some("its sync group is not ready")
            }
            _ => None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.role, Role::Backup(Watch { timer: DownTimer::Ready { .. }, .. }))
    }

    /// Whether nothing speaks against becoming Active together with the sync group: an Active that
    /// lives would have been heard in one and a half intervals.
    pub(super) fn may_join(&self, now: Instant) -> bool {
        let Role::Backup(watch) = &self.role else { return false };
        let patience = self.active_interval.as_duration() * 3 / 2;
        self.permission()
            && match watch.timer {
                DownTimer::Silence { since } => now >= since + patience,
                DownTimer::Farewell { .. } | DownTimer::Ready { .. } => true,
                DownTimer::Listening { .. }
                | DownTimer::Penalty { .. }
                | DownTimer::Held
                | DownTimer::Consulting
                | DownTimer::Advised { .. } => false,
            }
    }

    /// 6.4.2 Active_Down_Timer.
    pub(super) fn backup_timeout(&mut self, now: Instant) {
        if self.active_down_timer().is_none_or(|deadline| deadline > now) {
            return;
        }
        let again = now + self.config.interval().as_duration();
        let Role::Backup(watch) = &mut self.role else { return };
        let reason = match &mut watch.timer {
            DownTimer::Held | DownTimer::Consulting => return,
            DownTimer::Ready { again: next, .. } => {
                *next = again;
                return;
            }
            DownTimer::Farewell { .. } => Reason::ActiveLeft,
            DownTimer::Silence { .. }
            | DownTimer::Listening { .. }
            | DownTimer::Penalty { .. }
            | DownTimer::Advised { .. } => match watch.living_lesser(now) {
                Some(Peer { source, priority }) => Reason::Preempting { source, priority },
                None => Reason::ActiveSilent,
            },
        };
        if !self.permission() {
            self.peer = None;
            self.set_timer(DownTimer::Held);
        } else if self.config.second_opinion()
            && reason == Reason::ActiveSilent
            && !mutated!(OpinionIgnored)
        {
            self.consult();
        } else {
            self.claim(now, reason);
        }
    }

    /// The permission has come, long after the Active fell silent: another may have become Active
    /// meanwhile without being heard here.
    pub(super) fn claim_late(&mut self, now: Instant) {
        if self.config.second_opinion() {
            self.consult();
        } else {
            self.claim(now, Reason::PermissionGranted);
        }
    }

    /// Asks whether the silence means anything.
    fn consult(&mut self) {
        self.set_timer(DownTimer::Consulting);
        self.actions.push_back(Action::Consult);
    }

    pub(super) fn take_opinion(&mut self, now: Instant, opinion: Opinion) {
        if !matches!(self.role, Role::Backup(Watch { timer: DownTimer::Consulting, .. })) {
            return;
        }
        match opinion {
            Opinion::Claim => self.claim(now, Reason::ActiveSilent),
            Opinion::Hold { until, why } => self.set_timer(DownTimer::Advised { until, why }),
        }
    }

    /// Becomes Active, or waits for the consent of the sync group.
    pub(super) fn claim(&mut self, now: Instant, reason: Reason) {
        if self.config.sync_group().is_some() {
            let again = now + self.config.interval().as_duration();
            self.set_timer(DownTimer::Ready { again, reason });
        } else {
            self.become_active(now, reason);
        }
    }

    /// The sync group becomes Active, with its reason or ours.
    pub(super) fn claim_with_group(&mut self, now: Instant) {
        let reason = match &self.role {
            Role::Backup(Watch { timer: DownTimer::Ready { reason, .. }, .. }) => reason.clone(),
            _ => Reason::SyncGroup,
        };
        self.become_active(now, reason);
    }

    /// 6.4.2 ADVERTISEMENT with priority zero: Active_Down_Timer runs for Skew_Time.
    pub(super) fn hear_farewell(&mut self, now: Instant) {
        if mutated!(FarewellIgnored) {
            return;
        }
        self.peer = None;
        if let Role::Backup(watch) = &mut self.role {
            watch.lesser = None;
        }
        self.set_timer(DownTimer::Farewell { since: now });
    }

    /// Adopts the sender's interval and starts Active_Down_Timer anew.
    pub(super) fn follow(&mut self, now: Instant, source: IpAddr, advertisement: &Advertisement) {
        self.peer = Some(Peer { source, priority: advertisement.priority });
        if !mutated!(IntervalNotAdopted) {
            self.active_interval = advertisement.interval;
        }
        let is_lesser = advertisement.priority < self.priority().as_u8();
        if let Role::Backup(watch) = &mut self.role {
            watch.lesser = None;
            watch.patient_since = watch.patient_since.filter(|_| is_lesser);
        }
        if !mutated!(DownTimerRunsOn) {
            self.set_timer(DownTimer::Silence { since: now });
        }
    }

    /// An Active of lower priority is there. The timer runs on, unless the preempt delay protects it:
    /// that begins with the first of its advertisements, and while it runs they are treated like
    /// higher ones.
    pub(super) fn hear_lesser(
        &mut self,
        now: Instant,
        source: IpAddr,
        advertisement: &Advertisement,
    ) {
        let delay = self.config.preempt_delay();
        let Role::Backup(watch) = &mut self.role else { return };
        if !delay.is_zero()
            && !mutated!(DelayIgnored)
            && now < *watch.patient_since.get_or_insert(now) + delay
        {
            self.follow(now, source, advertisement);
            return;
        }
        watch.lesser = Some(Lesser {
            heard: now,
            peer: Peer { source, priority: advertisement.priority },
            interval: advertisement.interval,
        });
    }

    pub(super) fn set_timer(&mut self, timer: DownTimer) {
        if let Role::Backup(watch) = &mut self.role {
            watch.timer = timer;
        }
    }
}
