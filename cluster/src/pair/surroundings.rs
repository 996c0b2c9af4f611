//! What a node of a pair sees of the world beside its peer. Sans-io: plain values, told by
//! whoever watches.

use std::time::Duration;

/// The rest of the world at one moment. The default is a node that sees nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether this node is the Active of a virtual router; none: it has none.
    pub active: Option<bool>,
    /// Since when it is.
    pub active_for: Option<Duration>,
    /// Time since an advertisement of another router was heard; none: never.
    pub advert_heard: Option<Duration>,
    /// Whether the gateway answers; none: nobody looks.
    pub gateway: Option<bool>,
    /// Whether a Nextcloud answers; none: nobody looks.
    pub nextcloud: Option<bool>,
}

impl Surroundings {
    /// The same, `later`.
    #[must_use]
    pub(crate) fn after(self, later: Duration) -> Self {
        let older = |age: Option<Duration>| age.map(|age| age + later);
        Self { active_for: older(self.active_for), advert_heard: older(self.advert_heard), ..self }
    }
}
