//! Who could take a virtual router over from this node now, and what stands against each of the
//! other load balancers. Sans-io: what was heard on the control links and a time go in.
//!
//! Before an address is given away on purpose somebody must be there to take it: heard a moment
//! ago, able to serve, not about to leave, part of the same virtual router, and no worse off than
//! this node in what every request needs. An address nobody takes is an outage.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::NodeId;
use cluster::Role;
use cluster::presence::{Heard, MAX_ADDRESSES, RouterState, RouterWord, Word};

/// Who was not heard for so long may be gone.
const FRESH: Duration = Duration::from_secs(2);

/// The virtual router that is to be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The identifier on the wire.
    pub vrid: u8,
    /// Its addresses as beats tell them: sorted, and no more than that many.
    addresses: Vec<IpAddr>,
}

impl Wanted {
    /// This virtual router.
    pub fn new(router: &vrrp::RouterConfig) -> Self {
        let mut addresses = router.addresses().to_vec();
        addresses.sort_unstable();
        addresses.truncate(MAX_ADDRESSES);
        Self { vrid: router.vrid().as_u8(), addresses }
    }
}

/// Somebody who could take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Who.
    pub node: NodeId,
    /// Its priority in force; 0 where no virtual router is asked for.
    pub priority: u8,
    /// It holds the addresses already.
    pub active: bool,
}

/// What stands against another load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing was heard of it, or not for so long.
    Silent(Option<Duration>),
    /// It leaves, or is drained.
    Leaving,
    /// It cannot serve yet.
    NotReady,
    /// It takes no part in this virtual router.
    NoRouter(u8),
    /// It has other addresses under this number.
    OtherAddresses(u8),
    /// Its virtual router has a fault or has not started.
    Fault(u8),
    /// It has no quorum, and this node has.
    NoQuorum,
    /// It does not reach Nextcloud, and this node does.
    NoNextcloud,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(None) => f.write_str("was not heard on the control link since the start"),
            Self::Silent(Some(time)) => {
                write!(f, "was not heard on the control link for {} s", time.as_secs())
            }
            Self::Leaving => f.write_str("is drained or stops"),
            Self::NotReady => f.write_str("is not ready to serve"),
            Self::NoRouter(vrid) => write!(f, "has no virtual router with vrid {vrid}"),
            Self::OtherAddresses(vrid) => {
                write!(f, "has other addresses for the virtual router with vrid {vrid}")
            }
            Self::Fault(vrid) => write!(f, "takes no part in vrid {vrid} now (`trigon vrrp`)"),
            Self::NoQuorum => f.write_str("has no quorum"),
            Self::NoNextcloud => f.write_str("does not reach Nextcloud"),
        }
    }
}

/// What is thought of every other load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Those that could take over, the one that would first.
    pub heirs: Vec<Heir>,
    /// The others, and why not.
    pub unfit: Vec<(NodeId, Unfit)>,
}

/// Looks for heirs of a virtual router; none: of a node without any. `own` is how this node is.
pub fn survey(wanted: Option<&Wanted>, own: &Word, heard: &Heard, now: Instant) -> Survey {
    let mut survey = Survey::default();
    let mut heirs = Vec::new();
    for (node, _) in heard.peers.iter().filter(|(_, peer)| peer.role == Role::Node) {
        let told = heard.about(*node).max_by_key(|told| told.at);
        let judged = told.ok_or(Unfit::Silent(None)).and_then(|told| {
            let age = now.saturating_duration_since(told.at);
            if age >= FRESH {
                Err(Unfit::Silent(Some(age)))
            } else {
                judge(wanted, own, &told.word)
            }
        });
        match judged {
            Err(why) => survey.unfit.push((*node, why)),
            Ok(None) => heirs.push((None, Heir { node: *node, priority: 0, active: false })),
            Ok(Some(router)) => {
                let active = router.state == RouterState::Active;
                let heir = Heir { node: *node, priority: router.priority, active };
                heirs.push((router.source, heir));
            }
        }
    }
    // In the order in which they would become Active.
    heirs.sort_by(|(one, a), (other, b)| {
        (b.active, b.priority, other).cmp(&(a.active, a.priority, one))
    });
    survey.heirs = heirs.into_iter().map(|(_, heir)| heir).collect();
    survey
}

/// What a node says about the virtual router, if it could take it.
fn judge<'w>(
    wanted: Option<&Wanted>,
    own: &Word,
    word: &'w Word,
) -> Result<Option<&'w RouterWord>, Unfit> {
    if word.routers.iter().any(|router| router.yielding) {
        return Err(Unfit::Leaving);
    }
    if !word.healthy {
        return Err(Unfit::NotReady);
    }
    if own.quorum && !word.quorum {
        return Err(Unfit::NoQuorum);
    }
    if own.nextcloud && !word.nextcloud {
        return Err(Unfit::NoNextcloud);
    }
    let Some(Wanted { vrid, addresses }) = wanted else { return Ok(None) };
    let mut same = word.routers.iter().filter(|router| router.vrid == *vrid).peekable();
    if same.peek().is_none() {
        return Err(Unfit::NoRouter(*vrid));
    }
    let found = same.find(|router| router.addresses == *addresses);
    let router = found.ok_or(Unfit::OtherAddresses(*vrid))?;
    if router.state == RouterState::Initialize {
        return Err(Unfit::Fault(*vrid));
    }
    Ok(Some(router))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use cluster::flows::Mark;
    use cluster::presence::{Peer, Told};

    use super::*;

    const WELL: Word =
        Word { healthy: true, quorum: true, control: true, nextcloud: true, routers: Vec::new() };

    fn router(state: RouterState, priority: u8) -> RouterWord {
        RouterWord {
            name: "there".into(),
            vrid: 51,
            addresses: vec![[192, 0, 2, 10].into(), [192, 0, 2, 11].into()],
            state,
            priority,
            source: Some([192, 0, 2, priority].into()),
            yielding: false,
            advertising: state == RouterState::Active,
        }
    }

    fn with(router: RouterWord) -> Word {
        Word { routers: vec![router], ..WELL }
    }

    fn peer(role: Role, at: Option<Instant>, word: Word) -> Peer {
        Peer {
            role,
            connected: at.is_some(),
            last: at.map(|at| Told { at, word: Arc::new(word) }),
            round_trip: None,
            hears: Arc::default(),
            beats: 0,
            mark: Mark::default(),
        }
    }

    fn wanted() -> Wanted {
        let addresses = vec![[192, 0, 2, 11].into(), [192, 0, 2, 10].into()];
        Wanted::new(&vrrp::RouterConfig::new("eth0", 51, addresses).unwrap())
    }

    #[test]
    fn what_stands_against_a_node() {
        use RouterState::{Active, Backup, Initialize};
        let now = Instant::now() + Duration::from_secs(60);
        let ago = |seconds| Some(now - Duration::from_secs_f64(seconds));
        let backup = || router(Backup, 253);
        let ill = |word: Word| Word { routers: vec![backup()], ..word };
        let table = [
            ("well", ago(0.1), with(backup()), None),
            ("it holds the address", ago(0.1), with(router(Active, 253)), None),
            ("never heard", None, with(backup()), Some(Unfit::Silent(None))),
            ("dead", ago(3.0), with(backup()), Some(Unfit::Silent(Some(Duration::from_secs(3))))),
            (
                "drained",
                ago(0.1),
                Word { healthy: false, ..with(RouterWord { yielding: true, ..backup() }) },
                Some(Unfit::Leaving),
            ),
            ("starting", ago(0.1), ill(Word { healthy: false, ..WELL }), Some(Unfit::NotReady)),
            (
                "without quorum",
                ago(0.1),
                ill(Word { quorum: false, ..WELL }),
                Some(Unfit::NoQuorum),
            ),
            (
                "without Nextcloud",
                ago(0.1),
                ill(Word { nextcloud: false, ..WELL }),
                Some(Unfit::NoNextcloud),
            ),
            ("not part of it", ago(0.1), WELL, Some(Unfit::NoRouter(51))),
            (
                "configured otherwise",
                ago(0.1),
                with(RouterWord { addresses: vec![[192, 0, 2, 10].into()], ..backup() }),
                Some(Unfit::OtherAddresses(51)),
            ),
            ("in fault", ago(0.1), with(router(Initialize, 253)), Some(Unfit::Fault(51))),
        ];
        for (name, at, word, expected) in table {
            let heard = Heard { peers: BTreeMap::from([(2, peer(Role::Node, at, word))]) };
            let Survey { heirs, unfit } = survey(Some(&wanted()), &WELL, &heard, now);
            assert_eq!(unfit.first().map(|(_, why)| *why), expected, "{name}");
            assert_eq!(heirs.len(), usize::from(expected.is_none()), "{name}");
        }
    }

    #[test]
    fn who_is_no_worse_off_than_this_node_will_do() {
        let now = Instant::now() + Duration::from_secs(60);
        let poor = Word { quorum: false, nextcloud: false, ..with(router(RouterState::Backup, 9)) };
        let heard = Heard { peers: BTreeMap::from([(2, peer(Role::Node, Some(now), poor))]) };
        let own = Word { quorum: false, nextcloud: false, ..WELL };
        assert_eq!(survey(Some(&wanted()), &own, &heard, now).heirs.len(), 1);
        assert_eq!(survey(None, &WELL, &heard, now).unfit, [(2, Unfit::NoQuorum)]);
    }

    #[test]
    fn heirs_come_in_the_order_in_which_vrrp_would_choose_and_a_witness_is_none() {
        let now = Instant::now() + Duration::from_secs(60);
        let node = |state, priority| peer(Role::Node, Some(now), with(router(state, priority)));
        let peers = BTreeMap::from([
            (2, node(RouterState::Backup, 100)),
            (3, peer(Role::Witness, Some(now), WELL)),
            (4, node(RouterState::Backup, 200)),
        ]);
        let order = |peers: &BTreeMap<NodeId, Peer>| {
            let heard = Heard { peers: peers.clone() };
            let survey = survey(Some(&wanted()), &WELL, &heard, now);
            survey.heirs.iter().map(|heir| heir.node).collect::<Vec<_>>()
        };
        assert_eq!(order(&peers), [4, 2]);
        let mut held = peers;
        held.insert(5, node(RouterState::Active, 50));
        assert_eq!(order(&held), [5, 4, 2]);
        assert_eq!(survey(None, &WELL, &Heard { peers: held }, now).heirs.len(), 3);
    }
}
