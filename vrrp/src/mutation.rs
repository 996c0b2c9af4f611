//! Deliberate errors of the state machine, to prove that the tests would notice them.
//!
//! Compiled only with the feature `mutants`, which nothing but this crate's own tests switches on,
//! and even then nothing is mutated outside of `with`.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// What is done wrong.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Of two Actives of equal priority the smaller address wins.
    TieReversed,
    /// Of two Actives of equal priority both stay.
    TieIgnored,
    /// An Active does not give way to a higher priority.
    HigherIgnored,
    /// Skew_Time is zero.
    SkewIgnored,
    /// The higher the priority, the longer the Skew_Time.
    SkewReversed,
    /// Active_Down_Interval counts two intervals.
    DownTooShort,
    /// A Backup takes no notice of priority zero.
    FarewellIgnored,
    /// An Active takes no notice of priority zero.
    FarewellUnanswered,
    /// An Active takes no notice of losing advertisements.
    LosingUnanswered,
    /// Preempt_Mode is always true.
    PreemptForced,
    /// Preempt_Mode is always false.
    PreemptIgnored,
    /// The preempt delay is always zero.
    DelayIgnored,
    /// Active_Down_Timer runs on when an Active is heard.
    DownTimerRunsOn,
    /// The interval of the Active is not adopted.
    IntervalNotAdopted,
    /// Adver_Timer is restarted with two intervals.
    AdverTimerTooLong,
    /// Leaving Active needs no goodbye.
    GoodbyeForgotten,
    /// A router that gives way keeps the addresses.
    AddressesKept,
    /// Nobody is told where the addresses are now.
    AnnouncementForgotten,
    /// The addresses are added before the others are told to let go.
    AddressesBeforeAdvertisement,
    /// Our own advertisement counts like any other.
    EchoHeard,
    /// A Backup that was asleep acts on its old timer without listening.
    OldTimerBelieved,
    /// An Active that was asleep goes on as if nothing had happened.
    SleepIgnored,
    /// A fault does not keep a router from taking part.
    FaultIgnored,
    /// The second opinion is not asked for.
    OpinionIgnored,
}

#[cfg(feature = "mutants")]
impl Mutation {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::TieReversed,
        Self::TieIgnored,
        Self::HigherIgnored,
        Self::SkewIgnored,
        Self::SkewReversed,
        Self::DownTooShort,
        Self::FarewellIgnored,
        Self::FarewellUnanswered,
        Self::LosingUnanswered,
        Self::PreemptForced,
        Self::PreemptIgnored,
        Self::DelayIgnored,
        Self::DownTimerRunsOn,
        Self::IntervalNotAdopted,
        Self::AdverTimerTooLong,
        Self::GoodbyeForgotten,
        Self::AddressesKept,
        Self::AnnouncementForgotten,
        Self::AddressesBeforeAdvertisement,
        Self::EchoHeard,
        Self::OldTimerBelieved,
        Self::SleepIgnored,
        Self::FaultIgnored,
        Self::OpinionIgnored,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Does `work` with all virtual routers of this thread mutated.
#[cfg(feature = "mutants")]
pub fn with<T>(mutation: Mutation, work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    CURRENT.set(Some(mutation));
    let _reset = Reset;
    work()
}

#[cfg(feature = "mutants")]
pub(crate) fn is(mutation: Mutation) -> bool {
    CURRENT.get() == Some(mutation)
}

/// Whether this error is made on purpose: never, in a product.
#[cfg(feature = "mutants")]
macro_rules! mutated {
    ($name:ident) => {
        crate::mutation::is(crate::mutation::Mutation::$name)
    };
}

#[cfg(not(feature = "mutants"))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
}

pub(crate) use mutated;
