//! Pair mode: two load balancers and no third vote. One of them votes, the other learns.
//!
//! With two voters every single failure would stop durable changes; with one voter only its own
//! death does, and then the learner may open a *generation* of its own: a new raft group that
//! begins with the state it has. Who may do so and when, who writes while the two do not see each
//! other, and how the branches come together again is decided here.
//!
//! Pure, all of it: `semi_sync` (how long a change waits for the learner), `standing` (what the
//! status says), `promotion`, `mirror` and `boot` (the rules), `healing` (which branch goes on),
//! `merge` (what the other one still gives to it), `generation` (the steps of opening one, and
//! where a crash between them goes on). Moments are time since this node started.

mod bond;
mod boot;
mod conduct;
mod engine;
mod generation;
mod handle;
mod healed;
mod healing;
mod keeper;
mod merge;
mod mirror;
mod opening;
mod orders;
mod plan_file;
mod promotion;
mod semi_sync;
mod standing;
mod surroundings;
mod word;

pub(crate) use bond::Bond;
pub use bond::PairStatus;
pub use generation::Parent;
pub use healed::Healed;
pub(crate) use keeper::Keeper;
pub(crate) use merge::Legacy;
pub use merge::{Item, Merge, MergeReport, Stamp};
pub use mirror::Silence;
pub(crate) use opening::open;
pub(crate) use orders::Orders;
pub use orders::PairError;
pub use promotion::{Consent, Refusal};
pub use semi_sync::Sync;
pub use standing::Standing;
pub use surroundings::Surroundings;
pub(crate) use word::Word;

/// A group of that generation, alike for every call: for tests.
#[cfg(test)]
pub(crate) fn group(generation: u64) -> crate::group::Group {
    let lineage = crate::group::Lineage([generation.to_be_bytes()[7]; 16]);
    let cluster = uuid::Uuid::from_u128(0x4000_8000_0000_0000_0000);
    crate::group::Group { generation, ..crate::group::Group::first(cluster, lineage) }
}
