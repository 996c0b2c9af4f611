//! What members tell each other many times a second, in our own layout. Sans-io.
//!
//! A beat is small and soft: the newest one replaces all before, nothing of it is ever stored.
//! What comes from a peer is checked here before anybody believes it.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flows::{FlowDelta, FlowError, Mark};
use crate::record::NodeId;

/// The layout of [`Hello`] and [`Beat`] this build speaks. Raised with every change of either:
/// two builds that differ here have no presence, and each says so.
pub(crate) const LAYOUT: u8 = 2;

/// Largest beat accepted, bytes.
pub(crate) const MAX_BEAT: usize = 512 << 10;

/// Most virtual routers of one node, and addresses of one of them, in a beat.
pub const MAX_ROUTERS: usize = 64;
/// See [`MAX_ROUTERS`].
pub const MAX_ADDRESSES: usize = 16;
/// Most nodes one node reports about.
const MAX_HEARD: usize = 16;
/// Longest name of a virtual router, bytes.
const MAX_NAME: usize = 64;

/// Fastest pace anybody may ask for.
pub const FASTEST: Duration = Duration::from_millis(5);
/// Slowest, and the one kept when neither end asks for any.
pub(crate) const SLOWEST: Duration = Duration::from_millis(500);

/// The first word of either end on a presence connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) layout: u8,
    /// Microseconds between two beats as this end would like it, both ways; 0: no wish.
    wanted_us: u64,
}

impl Hello {
    pub(crate) fn new(wanted: Option<Duration>) -> Self {
        Self { layout: LAYOUT, wanted_us: wanted.map_or(0, micros) }
    }

    /// How far apart the beats of a connection are: as the more eager end wants it, in bounds.
    pub(crate) fn pace(self, other: Self) -> Duration {
        let wishes = [self, other].map(|hello| hello.wanted_us).into_iter();
        let shortest = wishes.filter(|wish| *wish > 0).min();
        shortest.map_or(SLOWEST, Duration::from_micros).clamp(FASTEST, SLOWEST)
    }
}

/// One node about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Whether it can serve what comes to its virtual addresses.
    pub healthy: bool,
    /// Whether durable changes can be made there.
    pub quorum: bool,
    /// Whether it can take part in the cluster: its engine runs, its disk takes changes.
    pub control: bool,
    /// Whether it reaches a Nextcloud.
    pub nextcloud: bool,
    /// Its virtual routers; none on a witness. At most [`MAX_ROUTERS`] are sent.
    pub routers: Vec<RouterWord>,
}

/// One virtual router of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterWord {
    /// Its name on that node; another node may call the same virtual router otherwise.
    pub name: String,
    /// The identifier on the wire.
    pub vrid: u8,
    /// Its virtual addresses, sorted; at most [`MAX_ADDRESSES`] are sent. They tell it apart from
    /// a router with the same identifier on another segment.
    pub addresses: Vec<IpAddr>,
    /// What it is.
    pub state: RouterState,
    /// Priority in force.
    pub priority: u8,
    /// Where its advertisements come from; none while its link is down.
    pub source: Option<IpAddr>,
    /// It is about to give the addresses away.
    pub yielding: bool,
    /// Its advertisements really leave, as far as the node can tell.
    pub advertising: bool,
}

/// The states of a virtual router as beats carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouterState {
    /// Not taking part.
    Initialize,
    /// Watching the Active.
    Backup,
    /// Holding the addresses.
    Active,
}

impl RouterWord {
    /// Whether both are the same virtual router, seen from two nodes.
    pub fn is_same_router(&self, vrid: u8, addresses: &[IpAddr]) -> bool {
        self.vrid == vrid && self.addresses.iter().any(|address| addresses.contains(address))
    }
}

/// What a node heard of another: hearsay for a third.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hearsay {
    pub(crate) node: NodeId,
    /// Microseconds since its last beat arrived there.
    pub(crate) age_us: u64,
    pub(crate) word: Word,
}

/// Lets the other end measure the way there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Echo {
    /// The newest sequence number received from the other end.
    pub(crate) sequence: u64,
    /// Microseconds it was held before this beat went out.
    pub(crate) held_us: u64,
}

/// One beat. Its sender is the node the connection's certificate names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Counts up on one connection.
    pub(crate) sequence: u64,
    pub(crate) echo: Option<Echo>,
    pub(crate) word: Word,
    pub(crate) heard: Vec<Hearsay>,
    /// How much the sender knows of the receiver's flow table.
    pub(crate) mark: Mark,
    /// What the receiver does not know of the sender's yet.
    pub(crate) flows: Option<FlowDelta>,
}

/// Everything in a beat but its place on the connection.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) word: Word,
    pub(crate) heard: Vec<Hearsay>,
    pub(crate) mark: Mark,
    pub(crate) flows: Option<FlowDelta>,
}

/// Why a beat is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeatError {
    #[error("beat {found} after beat {last}")]
    Order { last: u64, found: u64 },
    #[error("a beat tells of {0} virtual routers of one node")]
    Routers(usize),
    #[error("a beat tells of {0} nodes")]
    Nodes(usize),
    #[error("a virtual router's name has {0} bytes")]
    Name(usize),
    #[error("a virtual router has {0} addresses")]
    Addresses(usize),
    #[error(transparent)]
    Flows(#[from] FlowError),
}

impl Beat {
    pub(crate) fn new(sequence: u64, echo: Option<Echo>, content: Content) -> Self {
        let Content { word, heard, mark, flows } = content;
        Self { sequence, echo, word, heard, mark, flows }
    }

    /// Checks everything a peer could have got wrong but the order.
    pub(crate) fn check(&self) -> Result<(), BeatError> {
        if self.heard.len() > MAX_HEARD {
            return Err(BeatError::Nodes(self.heard.len()));
        }
        self.word.check()?;
        self.heard.iter().try_for_each(|hearsay| hearsay.word.check())
    }
}

impl Word {
    fn check(&self) -> Result<(), BeatError> {
        if self.routers.len() > MAX_ROUTERS {
            return Err(BeatError::Routers(self.routers.len()));
        }
        for router in &self.routers {
            if router.name.len() > MAX_NAME {
                return Err(BeatError::Name(router.name.len()));
            }
            if router.addresses.len() > MAX_ADDRESSES {
                return Err(BeatError::Addresses(router.addresses.len()));
            }
        }
        Ok(())
    }

    /// The same within the bounds a peer accepts.
    pub(crate) fn bounded(mut self) -> Self {
        self.routers.truncate(MAX_ROUTERS);
        for router in &mut self.routers {
            router.addresses.sort_unstable();
            router.addresses.truncate(MAX_ADDRESSES);
            let end = (0..=MAX_NAME).rev().find(|at| router.name.is_char_boundary(*at));
            router.name.truncate(end.unwrap_or(0));
        }
        self
    }
}

/// Keeps the number of nodes reported about within what a peer accepts.
pub(crate) fn bound_heard(heard: &mut Vec<Hearsay>) {
    heard.truncate(MAX_HEARD);
}

/// In the unit of the messages; the longest there is when it does not fit.
pub(crate) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router(name: String, addresses: Vec<IpAddr>) -> RouterWord {
        RouterWord {
            name,
            vrid: 51,
            addresses,
            state: RouterState::Active,
            priority: 254,
            source: None,
            yielding: false,
            advertising: true,
        }
    }

    #[test]
    fn the_more_eager_end_sets_the_pace_within_bounds() {
        let ms = Duration::from_millis;
        let table = [
            (None, None, SLOWEST),
            (Some(ms(50)), None, ms(50)),
            (Some(ms(50)), Some(ms(20)), ms(20)),
            (Some(ms(1)), None, FASTEST),
            (Some(Duration::from_secs(20)), None, SLOWEST),
        ];
        for (one, other, expected) in table {
            let (one, other) = (Hello::new(one), Hello::new(other));
            assert_eq!(one.pace(other), expected, "{one:?} {other:?}");
            assert_eq!(other.pace(one), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn the_same_identifier_on_another_segment_is_another_router() {
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let told = router("web".into(), vec![one]);
        assert!(told.is_same_router(51, &[other, one]), "whatever it is called here");
        assert!(!told.is_same_router(51, &[other]));
        assert!(!told.is_same_router(52, &[one]));
    }

    #[test]
    fn what_is_sent_is_within_what_is_accepted() {
        let many = (0..255).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let routers = vec![router("é".repeat(90), many); 200];
        let own = Word { healthy: true, routers, ..Word::default() };
        let beat = |word| Beat::new(1, None, Content { word, ..Content::default() });
        assert!(beat(own.clone()).check().is_err());
        assert_eq!(beat(own.bounded()).check(), Ok(()));
        let hearsay = Hearsay { node: 1, age_us: 0, word: Word::default() };
        let mut heard = vec![hearsay; 99];
        let gossip = Beat { heard: heard.clone(), ..beat(Word::default()) };
        assert_eq!(gossip.check(), Err(BeatError::Nodes(99)));
        bound_heard(&mut heard);
        assert_eq!(Beat { heard, ..gossip }.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_beat_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(beat) = postcard::from_bytes::<Beat>(&bytes) {
                let _ = beat.check();
            }
        }

        #[test]
        fn a_beat_is_read_as_it_was_written(
            sequence: u64, echo: Option<(u64, u64)>, healthy: bool, priority: u8, age_us: u64,
            name in "[a-z0-9-]{0,20}", address: [u8; 16],
        ) {
            let routers = vec![RouterWord { priority, ..router(name, vec![address.into()]) }];
            let word = Word { healthy, quorum: !healthy, control: healthy, nextcloud: !healthy, routers };
            let echo = echo.map(|(sequence, held_us)| Echo { sequence, held_us });
            let heard = vec![Hearsay { node: 3, age_us, word: word.clone() }];
            let content = Content { word, heard, ..Content::default() };
            let beat = Beat::new(sequence, echo, content);
            let bytes = postcard::to_stdvec(&beat).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Beat>(&bytes).unwrap(), beat);
        }
    }
}
