//! Deliberate errors of this crate, to prove that its simulation would notice them.
//!
//! Compiled only with the feature `mutants`, which nothing but this crate's own tests switches on,
//! and even then nothing is mutated outside of `with`.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// What is done wrong.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A vote is answered before it is on disk.
    VoteNotSynced,
    /// An entry is acknowledged before it is on disk.
    AppendNotSynced,
    /// What is committed is not stored with the next entry.
    CommittedForgotten,
    /// A proposal that was repeated is applied again.
    RepeatsApplied,
    /// A change is confirmed before a majority has it.
    ConfirmedEarly,
    /// A snapshot leaves every table out.
    SnapshotEmpty,
    /// A leader takes changes whether or not a majority answers it.
    QuorumNotAsked,
    /// A node that lost its log goes on as if it had none before.
    LostLogTakesPart,
    /// Starts are not counted, so two proposals get the same ticket.
    StartsNotCounted,
    /// A change is confirmed before the node that proposed it shows it.
    OwnWriteNotAwaited,
    /// A witness keeps leadership.
    WitnessKeepsLeading,
    /// Only the wall clock decides how long a session holds.
    SessionByWallClock,
    /// A request of another group is carried out.
    GroupNotChecked,
    /// A member gets the number of one that was removed.
    NumberTwice,
    /// A token admits again and again.
    TokenNotSpent,
    /// Every member votes.
    LearnerVotes,
    /// A learner is promoted as soon as its voter is not seen.
    PromotedAtOnce,
    /// Of two bans of a subnet the earlier end counts where branches merge.
    BanShortened,
}

#[cfg(feature = "mutants")]
impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::VoteNotSynced,
        Self::AppendNotSynced,
        Self::CommittedForgotten,
        Self::RepeatsApplied,
        Self::ConfirmedEarly,
        Self::SnapshotEmpty,
        Self::QuorumNotAsked,
        Self::LostLogTakesPart,
        Self::StartsNotCounted,
        Self::OwnWriteNotAwaited,
        Self::WitnessKeepsLeading,
        Self::SessionByWallClock,
        Self::GroupNotChecked,
        Self::NumberTwice,
        Self::TokenNotSpent,
        Self::LearnerVotes,
        Self::PromotedAtOnce,
        Self::BanShortened,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Does `work` with all nodes of this thread mutated.
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
