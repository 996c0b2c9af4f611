//! When a certificate is to be ordered, and whether by this node. Sans-io; `keeper` reads the clock
//! and does it.
//!
//! A certificate is renewed when two thirds of its life are over. Whichever node gets there first
//! writes its name into the shared record and has to repeat that while it is at it; a name that was
//! not repeated in time is that of a node that is gone. After a failure the pauses grow, because
//! authorities count failures too.

use cluster::record::{Acme, AcmeFailure, Millis, NodeId};

use super::Config;

/// How long a node's name stands in the record without being repeated.
pub(super) const HOLD: Millis = 30_000;

const MINUTE: Millis = 60_000;

/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Millis = 5 * MINUTE;

/// Longest pause.
const LONGEST_PAUSE: Millis = 12 * 60 * MINUTE;

/// After one order of its own a node does not begin another for other names for so long: should two
/// nodes want different ones, they do not take turns at the authority's expense.
const CALM: Millis = 60 * MINUTE;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// An order, by this node.
    Order,
    /// Nothing before this moment, unless the record changes.
    Later(Millis),
}

/// Looks at what `node` knows at `now`; `ordered` is when it came to the end of an order last.
pub(super) fn due(
    config: &Config,
    known: Option<&Acme>,
    (node, ordered): (NodeId, Option<Millis>),
    now: Millis,
) -> Due {
    let Some(known) = known else { return Due::Order };
    if let Some(order) = &known.order
        && order.node != node
        && now < order.until
    {
        return Due::Later(order.until);
    }
    let renewal = renewal(config, known);
    if let Some(renewal) = renewal
        && now < renewal
    {
        return Due::Later(renewal);
    }
    let calm = ordered.map(|at| at.saturating_add(CALM)).filter(|calm| now < *calm);
    if let (None, Some(calm)) = (renewal, calm) {
        return Due::Later(calm);
    }
    let failed = known.failure.as_ref().filter(|failed| failed.names == config.names);
    match failed.map(|failed| failed.at.saturating_add(pause(failed))) {
        Some(again) if now < again => Due::Later(again),
        _ => Due::Order,
    }
}

/// When the certificate there is wants renewing; none when there is none that does.
fn renewal(config: &Config, known: &Acme) -> Option<Millis> {
    let certificate = known.certificate.as_ref()?;
    // One with more names does as well: two nodes that were not told the same must not take turns.
    let covers = config.names.iter().all(|name| certificate.names.contains(name));
    (covers && certificate.directory == config.directory).then(|| {
        let life = certificate.until.saturating_sub(certificate.from);
        certificate.until.saturating_sub(life / 3)
    })
}

fn pause(failed: &AcmeFailure) -> Millis {
    let doubled = failed.times.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use cluster::record::{AcmeCertificate, AcmeOrder};

    use super::*;

    fn config(names: &[&str]) -> Config {
        Config {
            directory: "d".into(),
            names: names.iter().map(ToString::to_string).collect(),
            contact: None,
            authorities: None,
        }
    }

    fn certificate(directory: &str, names: &[&str], from: Millis, until: Millis) -> Acme {
        let certificate = AcmeCertificate {
            directory: directory.into(),
            names: config(names).names,
            pem: String::new(),
            key: Vec::new(),
            from,
            until,
        };
        Acme { certificate: Some(certificate), ..Acme::default() }
    }

    fn ordering(acme: Acme, node: NodeId, until: Millis) -> Acme {
        Acme { order: Some(AcmeOrder { node, until, answers: Vec::new() }), ..acme }
    }

    fn failed(names: &[&str], at: Millis, times: u32) -> Acme {
        let names = config(names).names;
        let failure = AcmeFailure { names, at, times, reason: String::new() };
        Acme { failure: Some(failure), ..Acme::default() }
    }

    #[test]
    fn an_order_is_due_to_one_node_at_a_time() {
        let own = &["a", "b"][..];
        let table = [
            ("nothing is known", None, 0, Due::Order),
            ("new", Some(certificate("d", own, 0, 300)), 199, Due::Later(200)),
            ("two thirds of its life over", Some(certificate("d", own, 0, 300)), 200, Due::Order),
            ("ended", Some(certificate("d", own, 0, 300)), 900, Due::Order),
            ("for more names", Some(certificate("d", &["b", "x", "a"], 0, 300)), 1, {
                Due::Later(200)
            }),
            ("for other names", Some(certificate("d", &["a", "x"], 0, 300)), 1, Due::Order),
            ("of another authority", Some(certificate("e", own, 0, 300)), 1, Due::Order),
            ("the other is at it", Some(ordering(Acme::default(), 2, 50)), 49, Due::Later(50)),
            ("the other is gone", Some(ordering(Acme::default(), 2, 50)), 50, Due::Order),
            (
                "this one was, before it was started anew",
                { Some(ordering(Acme::default(), 1, 50)) },
                10,
                Due::Order,
            ),
            (
                "the other renews",
                { Some(ordering(certificate("d", own, 0, 300), 2, 250)) },
                210,
                Due::Later(250),
            ),
            ("failed", Some(failed(own, 100, 1)), 101, Due::Later(100 + FIRST_PAUSE)),
            ("failed twice", Some(failed(own, 100, 2)), 101, Due::Later(100 + 2 * FIRST_PAUSE)),
            ("failed often", Some(failed(own, 100, u32::MAX)), 101, {
                Due::Later(100 + LONGEST_PAUSE)
            }),
            ("failed, and over", Some(failed(own, 100, 1)), 100 + FIRST_PAUSE, Due::Order),
            ("failed for names that were wrong", Some(failed(&["x"], 100, 9)), 101, Due::Order),
        ];
        for (name, known, now, expected) in table {
            assert_eq!(due(&config(own), known.as_ref(), (1, None), now), expected, "{name}");
        }
    }

    #[test]
    fn nodes_that_want_different_names_do_not_take_turns() {
        let theirs = certificate("d", &["x"], 0, 900);
        let look = |ordered, now| due(&config(&["a"]), Some(&theirs), (1, ordered), now);
        assert_eq!(look(None, 20), Due::Order);
        assert_eq!(look(Some(10), 20), Due::Later(10 + CALM));
        assert_eq!(look(Some(10), 10 + CALM), Due::Order);
        let own = certificate("d", &["a"], 0, 900);
        assert_eq!(due(&config(&["a"]), Some(&own), (1, Some(10)), 600), Due::Order, "renewed");
    }
}
