//! What is tracked besides the link, and what that does to the priority. Sans-io.
//!
//! The rules are keepalived's, so that a configuration carried over behaves the same:
//!
//! | weight | up | down | a number `n` |
//! |---|---|---|---|
//! | 0 | nothing | a fault | a fault unless `n` is 0 |
//! | above 0 | added | nothing | `n * weight` added |
//! | below 0 | nothing | added, so subtracted | `n * weight` added |
//!
//! A product of 254 or more, either way, leaves no priority to speak of and is a fault. The sum is
//! cut to 1..=254: 0 would be a goodbye and 255 the owner of the address.

use std::{fmt, sync::Arc};

use crate::{config::Priority, error::ConfigError};

/// As much as the whole range of priorities.
const ALL: i32 = 254;

/// Something that is watched by somebody else, who says how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    name: Arc<str>,
    weight: i16,
    initially: Tracked,
}

impl Tracker {
    /// A tracker that counts `weight`, -254 to 254; with 0 it is a fault while down.
    ///
    /// # Errors
    /// A weight out of range.
    pub fn new(name: &str, weight: i16) -> Result<Self, ConfigError> {
        if i32::from(weight).abs() > ALL {
            return Err(ConfigError::Weight(weight));
        }
        Ok(Self { name: name.into(), weight, initially: Tracked::Up })
    }

    /// Sets what is believed until somebody says how it is; [`Tracked::Up`] unless set.
    pub fn with_initial(mut self, seen: Tracked) -> Self {
        self.initially = seen;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it counts.
    pub fn weight(&self) -> i16 {
        self.weight
    }
}

/// How a tracked thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// As it should be.
    Up,
    /// Not as it should be.
    Down,
    /// A number, as from a file.
    Value(i32),
}

/// Why a priority is not the configured one, or a router is in fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The link, or our source address on it, is missing.
    Link,
    /// Somebody who watches over the router said so.
    Named(&'static str),
    /// A tracker.
    Tracker {
        /// Which.
        name: Arc<str>,
        /// What it says.
        seen: Tracked,
    },
    /// Another member of the sync group.
    SyncGroup,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("link is down"),
            Self::Named(name) => f.write_str(name),
            Self::Tracker { name, seen: Tracked::Up } => write!(f, "{name} is up"),
            Self::Tracker { name, seen: Tracked::Down } => write!(f, "{name} is down"),
            Self::Tracker { name, seen: Tracked::Value(value) } => write!(f, "{name} is {value}"),
            Self::SyncGroup => f.write_str("another member of the sync group"),
        }
    }
}

/// A part of the difference between the configured priority and the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// How much is added.
    pub by: i32,
    /// Why.
    pub cause: Cause,
}

/// What one tracker contributes.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    None,
    Adjusts(i32),
    Fault,
}

fn effect(weight: i16, seen: Tracked) -> Effect {
    let weight = i32::from(weight);
    match seen {
        Tracked::Down if weight == 0 => Effect::Fault,
        Tracked::Up if weight > 0 => Effect::Adjusts(weight),
        Tracked::Down if weight < 0 => Effect::Adjusts(weight),
        Tracked::Up | Tracked::Down => Effect::None,
        Tracked::Value(0) => Effect::None,
        Tracked::Value(_) if weight == 0 => Effect::Fault,
        // Whoever writes the file may write any number.
        Tracked::Value(value) => match value.saturating_mul(weight) {
            sum if sum.saturating_abs() >= ALL => Effect::Fault,
            sum => Effect::Adjusts(sum),
        },
    }
}

/// All trackers of a virtual router.
#[derive(Clone, Debug)]
pub(crate) struct Tracking(Vec<(Tracker, Tracked)>);

impl Tracking {
    pub(crate) fn new(trackers: &[Tracker]) -> Self {
        Self(trackers.iter().map(|tracker| (tracker.clone(), tracker.initially)).collect())
    }

    /// Takes in how something is. A name that is not tracked changes nothing.
    pub(crate) fn set(&mut self, name: &str, seen: Tracked) {
        let is_meant = |entry: &&mut (Tracker, Tracked)| &*entry.0.name == name;
        if let Some(entry) = self.0.iter_mut().find(is_meant) {
            entry.1 = seen;
        }
    }

    /// `base` with everything that is to be added, within 1..=254.
    pub(crate) fn apply(&self, base: Priority) -> Priority {
        let by: i32 = self.adjustments().map(|adjustment| adjustment.by).sum();
        let sum = (i32::from(base.as_u8()) + by).clamp(1, ALL);
        u8::try_from(sum).ok().and_then(|sum| Priority::new(sum).ok()).unwrap_or(base)
    }

    /// What is added, and why.
    pub(crate) fn adjustments(&self) -> impl Iterator<Item = Adjustment> {
        self.effects().filter_map(|(effect, cause)| match effect {
            Effect::Adjusts(by) => Some(Adjustment { by, cause }),
            Effect::None | Effect::Fault => None,
        })
    }

    /// What is a fault.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Cause> {
        self.effects().filter_map(|(effect, cause)| (effect == Effect::Fault).then_some(cause))
    }

    fn effects(&self) -> impl Iterator<Item = (Effect, Cause)> {
        self.0.iter().map(|(tracker, seen)| {
            let cause = Cause::Tracker { name: Arc::clone(&tracker.name), seen: *seen };
            (effect(tracker.weight, *seen), cause)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_weight_counts_as_in_keepalived() {
        use Effect::{Adjusts, Fault, None};
        use Tracked::{Down, Up, Value};
        let table = [
            (0, Up, None),
            (0, Down, Fault),
            (0, Value(0), None),
            (0, Value(-3), Fault),
            (20, Up, Adjusts(20)),
            (20, Down, None),
            (-20, Up, None),
            (-20, Down, Adjusts(-20)),
            (1, Value(7), Adjusts(7)),
            (1, Value(0), None),
            (-2, Value(7), Adjusts(-14)),
            (-2, Value(-7), Adjusts(14)),
            (1, Value(253), Adjusts(253)),
            (1, Value(254), Fault),
            (1, Value(-253), Adjusts(-253)),
            (1, Value(-254), Fault),
            (2, Value(127), Fault),
            (-254, Value(i32::MIN), Fault),
            (254, Value(i32::MIN), Fault),
            (-254, Down, Adjusts(-254)),
        ];
        for (weight, seen, expected) in table {
            assert_eq!(effect(weight, seen), expected, "{weight} {seen:?}");
        }
        assert!(Tracker::new("web", 254).is_ok());
        assert_eq!(Tracker::new("web", -255), Err(ConfigError::Weight(-255)));
    }

    #[test]
    fn every_adjustment_is_kept_with_its_reason() {
        let tracker = |name, weight| Tracker::new(name, weight).unwrap();
        let file = tracker("file", 2).with_initial(Tracked::Value(0));
        let mut tracking = Tracking::new(&[tracker("web", -30), file, tracker("eth1", 0)]);
        let base = Priority::new(100).unwrap();
        assert_eq!(tracking.apply(base), base);
        tracking.set("web", Tracked::Down);
        tracking.set("file", Tracked::Value(5));
        tracking.set("unheard of", Tracked::Down);
        assert_eq!(tracking.apply(base).as_u8(), 80);
        let reasons: Vec<_> = tracking
            .adjustments()
            .map(|adjustment| format!("{:+} {}", adjustment.by, adjustment.cause))
            .collect();
        assert_eq!(reasons, ["-30 web is down", "+10 file is 5"]);
        assert_eq!(tracking.faults().count(), 0);
        tracking.set("eth1", Tracked::Down);
        let faults: Vec<_> = tracking.faults().map(|cause| cause.to_string()).collect();
        assert_eq!(faults, ["eth1 is down"]);
    }

    fn tracked() -> impl Strategy<Value = Tracked> {
        prop_oneof![Just(Tracked::Up), Just(Tracked::Down), any::<i32>().prop_map(Tracked::Value)]
    }

    proptest! {
        /// Whatever the trackers say, the priority can be advertised, and it is the configured
        /// one plus the adjustments as far as the range goes.
        #[test]
        fn the_sum_is_cut_to_what_may_be_advertised(
            base in 1_u8..=254,
            seen in prop::collection::vec((-254_i16..=254, tracked()), 0..6),
        ) {
            let name = |index: usize| format!("tracker {index}");
            let trackers: Vec<_> = seen
                .iter()
                .enumerate()
                .map(|(index, (weight, _))| Tracker::new(&name(index), *weight).unwrap())
                .collect();
            let mut tracking = Tracking::new(&trackers);
            for (index, (_, seen)) in seen.iter().enumerate() {
                tracking.set(&name(index), *seen);
            }
            let by: i32 = tracking.adjustments().map(|adjustment| adjustment.by).sum();
            let priority = tracking.apply(Priority::new(base).unwrap()).as_u8();
            prop_assert_eq!(i32::from(priority), (i32::from(base) + by).clamp(1, 254));
        }
    }
}
