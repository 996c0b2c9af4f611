//! What a guardian does when its worker dies: the wills of the virtual routers and their form on
//! the socket pair. Sans-io.
//!
//! Both ends are the same binary, so the form carries no version.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use serde::{Deserialize, Serialize};

/// The last will of one virtual router. The latest replaces all earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Will {
    /// Name of the router.
    pub(crate) router: String,
    /// Whether it is Active; of any other there is nothing to end.
    pub(crate) active: bool,
    /// Advertisements of priority 0, to be sent first.
    pub(crate) farewells: Vec<Farewell>,
    /// Addresses to be removed after that.
    pub(crate) holdings: Vec<Holding>,
}

/// A finished message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Farewell {
    pub(crate) to: IpAddr,
    /// Index of the interface that makes a link-local address unique, else 0.
    pub(crate) scope: u32,
    pub(crate) message: Vec<u8>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// Index of the interface.
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    /// Length of its prefix.
    pub(crate) prefix: u8,
}

impl Farewell {
    /// Where to send it.
    pub(crate) fn destination(&self) -> SocketAddr {
        match self.to {
            IpAddr::V4(to) => SocketAddrV4::new(to, 0).into(),
            IpAddr::V6(to) => SocketAddrV6::new(to, 0, 0, self.scope).into(),
        }
    }
}

impl Will {
    /// The form on the socket pair.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Growing a vector is all that could fail, and that aborts.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads that form; `None`: it is something else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((will, [])) => Some(will),
            _ => None,
        }
    }
}

/// The wills in force, each with the socket `S` its farewells leave through.
#[derive(Debug)]
pub(crate) struct Wills<S> {
    by_router: BTreeMap<String, (Will, S)>,
}

impl<S> Default for Wills<S> {
    fn default() -> Self {
        Self { by_router: BTreeMap::new() }
    }
}

impl<S> Wills<S> {
    /// Takes in a will, in place of an earlier one of that router.
    pub(crate) fn note(&mut self, will: Will, socket: S) {
        self.by_router.insert(will.router.clone(), (will, socket));
    }

    /// The worker is dead: what is to be carried out, in this order.
    pub(crate) fn open(self) -> impl Iterator<Item = (Will, S)> {
        self.by_router.into_values().filter(|(will, _)| will.active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn will(router: &str, active: bool) -> Will {
        Will { router: router.into(), active, farewells: vec![], holdings: vec![] }
    }

    #[test]
    fn a_worker_that_dies_leaves_the_routers_it_was_active_for() {
        type Said<'a> = &'a [(&'a str, bool)];
        // (what was said in order, what is left to do)
        let table: [(Said, &[&str]); 6] = [
            (&[], &[]),
            (&[("web", false)], &[]),
            (&[("web", true)], &["web"]),
            (&[("web", true), ("web", false)], &[]),
            (&[("web", true), ("web", false), ("web", true)], &["web"]),
            (&[("web", true), ("mail", true), ("web", false), ("v6", true)], &["mail", "v6"]),
        ];
        for (said, left) in table {
            let mut wills = Wills::default();
            for (router, active) in said {
                wills.note(will(router, *active), ());
            }
            let open: Vec<_> = wills.open().map(|(will, ())| will.router).collect();
            assert_eq!(open, left, "{said:?}");
        }
    }

    fn farewell() -> impl Strategy<Value = Farewell> {
        (any::<IpAddr>(), any::<u32>(), any::<Vec<u8>>())
            .prop_map(|(to, scope, message)| Farewell { to, scope, message })
    }

    fn holding() -> impl Strategy<Value = Holding> {
        (any::<u32>(), any::<IpAddr>(), any::<u8>())
            .prop_map(|(interface, address, prefix)| Holding { interface, address, prefix })
    }

    proptest! {
        #[test]
        fn a_will_arrives_as_it_was_written(
            router in ".{0,40}",
            active: bool,
            farewells in prop::collection::vec(farewell(), 0..4),
            holdings in prop::collection::vec(holding(), 0..4),
        ) {
            let will = Will { router, active, farewells, holdings };
            prop_assert_eq!(Will::decode(&will.encode()), Some(will));
        }

        #[test]
        fn other_bytes_are_no_will_and_do_no_harm(bytes: Vec<u8>) {
            if let Some(will) = Will::decode(&bytes) {
                prop_assert!(will.encode().len() <= bytes.len() + 64);
            }
        }

        #[test]
        fn a_will_cut_short_is_none(cut in 0usize..40) {
            let whole = Will {
                router: "web".into(),
                active: true,
                farewells: vec![Farewell { to: [224, 0, 0, 18].into(),
                    scope: 0, message: vec![0x31; 12] }],
                holdings: vec![Holding { interface: 2, address: [192, 0, 2, 1].into(), prefix: 32 }],
            }
            .encode();
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(Will::decode(&whole[..cut]), None);
        }
    }
}
