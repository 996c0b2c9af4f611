use proptest::prelude::*;

use super::*;
use crate::codec;

fn flow(n: u16, kind: FlowKind) -> Flow {
    Flow {
        server: "192.0.2.100:8782".parse().unwrap(),
        client: ([198, 51, 100, 7], 1 + n).into(),
        kind,
        sequence: None,
    }
}

fn client(n: u16) -> Flow {
    flow(n, FlowKind::Client)
}

fn key(flow: &Flow) -> impl Ord + use<> {
    let numbers = flow.sequence.map(|Sequence { send, receive }| (send, receive));
    (flow.server, flow.client, flow.kind, numbers)
}

fn sorted(flows: impl Iterator<Item = Flow>) -> Vec<Flow> {
    let mut flows: Vec<_> = flows.collect();
    flows.sort_by_key(key);
    flows
}

fn tell_all(from: &FlowTable, node: NodeId, to: &mut FlowTable) -> usize {
    let mut pieces = 0;
    while let Some(delta) = from.delta_since(to.mark_of(node)) {
        assert_eq!(to.apply(node, &delta), Ok(Applied::Taken));
        pieces += 1;
        assert!(pieces < 1000, "it ends");
    }
    pieces
}

#[test]
fn a_full_table_travels_in_pieces_and_fits_a_few_mebibytes() {
    let mut here = FlowTable::new(1, MAX_CLIENT_FLOWS);
    for n in 0..20_000 {
        assert!(here.add(client(n)));
    }
    assert!(!here.add(client(20_000)), "no room");
    assert!(here.add(client(7)), "known already");
    assert!(here.add(flow(20_001, FlowKind::Control)), "always room for a tunnel client");
    let counts = FlowCounts { controls: 1, clients: 20_000, heard: 0, turned_away: 1 };
    assert_eq!(here.counts(), counts);
    let mut there = FlowTable::new(1, 0);
    let first = here.delta_since(Mark::default()).unwrap();
    assert!(first.more() && first.len() == MAX_CHANGES);
    assert!(codec::encode(&first).unwrap().len() < 30_000);
    assert_eq!(tell_all(&here, 1, &mut there), 41);
    assert_eq!(sorted(there.of_node(1)), sorted(here.own()));
    here.remove(client(7).server, client(7).client);
    assert!(here.add(client(20_000)), "room again");
}

#[test]
fn orphans_are_those_of_others_at_the_address_each_once_and_tunnel_clients_first() {
    let mut here = FlowTable::new(1, 10);
    let elsewhere = Flow { server: "192.0.2.200:443".parse().unwrap(), ..client(9) };
    for (node, flows) in [
        (2, vec![client(3), client(1), flow(5, FlowKind::Control), elsewhere]),
        (3, vec![client(1), client(4)]),
    ] {
        let mut there = FlowTable::new(8, 10);
        for flow in flows {
            there.add(flow);
        }
        tell_all(&there, node, &mut here);
    }
    here.add(client(4));
    let vip = [client(0).server.ip()];
    let expected = vec![flow(5, FlowKind::Control), client(1), client(3)];
    assert_eq!(here.orphans(&vip), expected, "4 is open here");
    here.forget(2);
    assert_eq!(here.orphans(&vip), [client(1)]);
    assert_eq!(here.mark_of(2), Mark::default(), "told everything if it comes back");
}

#[test]
fn connections_left_behind_stay_known_until_somebody_had_time_to_wake_them() {
    let flows = Flows::new(FlowTable::new(1, 10));
    let mut there = FlowTable::new(1, 0);
    let vip = [client(0).server.ip()];
    let control = flows.record(flow(1, FlowKind::Control));
    flows.lock().add(client(2));
    flows.lock().leave(&vip);
    drop(control);
    flows.lock().remove(client(2).server, client(2).client);
    tell_all(&flows.lock(), 1, &mut there);
    let both = vec![flow(1, FlowKind::Control), client(2)];
    assert_eq!(there.orphans(&vip), both, "the new holder is slower than our closing of sockets");
    assert_eq!(flows.lock().orphans(&vip), both, "or there is none, and the address comes back");
    // The same client again, before the old connection was buried.
    let again = flows.record(flow(1, FlowKind::Control));
    flows.lock().bury(&vip);
    assert_eq!(flows.lock().counts(), FlowCounts { controls: 1, ..FlowCounts::default() });
    drop(again);
    tell_all(&flows.lock(), 1, &mut there);
    assert_eq!((there.orphans(&vip), flows.lock().counts()), (vec![], FlowCounts::default()));
}

#[test]
fn numbers_are_refreshed_for_what_is_open_only() {
    let mut here = FlowTable::new(1, 10);
    let numbers = Sequence { send: 1, receive: 2 };
    here.add(flow(1, FlowKind::Control));
    for n in [1, 2] {
        here.refresh(client(n).server, client(n).client, numbers);
    }
    here.add(client(1));
    let expected = Flow { sequence: Some(numbers), ..flow(1, FlowKind::Control) };
    assert!(here.own().eq([expected]), "and a tunnel client stays one");
}

#[test]
fn what_was_known_stays_until_everything_was_told_anew() {
    let mut there = FlowTable::new(5, 10);
    let mut old = FlowTable::new(4, 10);
    old.add(client(1));
    tell_all(&old, 2, &mut there);
    // The node has started again, and has more to tell than one message holds.
    let mut new = FlowTable { local: Local::new(5, 10).with_limits(9, 1), heard: BTreeMap::new() };
    new.add(client(2));
    new.add(client(3));
    let first = new.delta_since(there.mark_of(2)).unwrap();
    assert_eq!(there.apply(2, &first), Ok(Applied::Taken));
    assert_eq!(sorted(there.of_node(2)), [client(1), client(2)]);
    tell_all(&new, 2, &mut there);
    assert_eq!(sorted(there.of_node(2)), [client(2), client(3)]);
    // And again, with nothing at all: that too must be heard.
    let none = FlowTable::new(6, 10);
    tell_all(&none, 2, &mut there);
    assert_eq!(there.of_node(2).count(), 0);
}

#[test]
fn a_delta_after_a_lost_one_waits_for_it_and_a_second_copy_is_no_news() {
    let (mut here, mut there) = (FlowTable::new(1, 10), FlowTable::new(1, 10));
    here.add(client(1));
    tell_all(&here, 2, &mut there);
    let known = there.mark_of(2);
    here.add(client(2));
    let lost = here.delta_since(known).unwrap();
    here.add(client(3));
    let next = here.delta_since(lost.end()).unwrap();
    assert_eq!(there.apply(2, &next), Ok(Applied::Gap));
    assert_eq!(there.mark_of(2), known);
    assert_eq!(there.apply(2, &lost), Ok(Applied::Taken));
    assert_eq!(there.apply(2, &next), Ok(Applied::Taken));
    assert_eq!(there.apply(2, &lost), Ok(Applied::Known));
    assert_eq!(here.delta_since(there.mark_of(2)), None);
}

#[test]
fn what_cannot_be_woken_is_not_recorded_and_mapped_addresses_are_ipv4() {
    let mut here = FlowTable::new(1, 10);
    let pair = |server: &str, client: &str| Flow {
        server: server.parse().unwrap(),
        client: client.parse().unwrap(),
        kind: FlowKind::Client,
        sequence: None,
    };
    assert!(!here.add(pair("[fe80::1]:443", "[fe80::2%3]:5")), "its link has no name elsewhere");
    assert!(!here.add(pair("192.0.2.1:443", "[2001:db8::2]:5")), "two families");
    assert!(!here.add(pair("192.0.2.1:443", "198.51.100.1:0")), "no port");
    assert!(here.add(pair("[::ffff:192.0.2.1]:443", "[::ffff:198.51.100.1]:5")));
    let plain = pair("192.0.2.1:443", "198.51.100.1:5");
    assert!(here.own().eq([plain]));
    here.remove(plain.server, plain.client);
    assert_eq!(here.counts(), FlowCounts::default());
}

#[test]
fn a_delta_no_honest_node_makes_is_refused_by_name() {
    let good = FlowDelta {
        epoch: 1,
        floor: 9,
        base: 0,
        upto: 9,
        anew: true,
        more: false,
        open: vec![client(1)],
        closed: Vec::new(),
    };
    let with = |change: fn(&mut FlowDelta)| {
        let mut delta = good.clone();
        change(&mut delta);
        delta
    };
    let table = [
        (with(|delta| delta.epoch = 0), "of epoch 0"),
        (with(|delta| delta.base = 10), "from version 10 to 9"),
        (with(|delta| delta.base = 1), "from version 1 to 9"),
        (with(|delta| delta.upto = 0), "to 0 holds 1 changes"),
        (with(|delta| delta.open = vec![client(1); 501]), "has 501 changes, at most 500"),
        (with(|delta| delta.open[0].client.set_port(0)), "unusable address"),
        (with(|delta| delta.open[0].server = "224.0.0.1:1".parse().unwrap()), "224.0.0.1"),
        (
            with(|delta| {
                delta.closed = vec![("[::]:1".parse().unwrap(), "[::1]:1".parse().unwrap())];
            }),
            "between [::]:1 and [::1]:1",
        ),
    ];
    let mut there = FlowTable::new(1, 10);
    for (delta, expected) in table {
        let text = there.apply(2, &delta).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(there.counts(), FlowCounts::default(), "{text}");
    }
    assert_eq!(there.apply(2, &good), Ok(Applied::Taken));
    for host in 0..=131 {
        let base = 9 + 500 * u64::from(host);
        let open =
            (1..=500).map(|port| Flow { client: ([10, 0, 0, host], port).into(), ..client(0) });
        let delta =
            FlowDelta { base, upto: base + 500, anew: false, open: open.collect(), ..good.clone() };
        if there.apply(2, &delta) == Err(FlowError::TooMany) {
            assert_eq!(there.counts().heard, 1 + 500 * usize::from(host));
            return;
        }
    }
    panic!("a node with any number of flows was believed");
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        n: u8,
        control: bool,
        sequence: Option<u8>,
    },
    Remove(u8),
    /// The node starts again.
    Restart,
    /// Tells from what the receiver knows now, or knew some time ago.
    Tell {
        memory: u8,
    },
    /// One of the deltas made so far arrives; it may have come before.
    Arrive(u8),
    /// The receiver starts again.
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..24u8, any::<bool>(), any::<Option<u8>>())
            .prop_map(|(n, control, sequence)| Step::Add { n, control, sequence }),
        6 => (0..24u8).prop_map(Step::Remove),
        1 => Just(Step::Restart),
        6 => (0..4u8).prop_map(|memory| Step::Tell { memory }),
        8 => any::<u8>().prop_map(Step::Arrive),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Deltas may be lost, come twice, late and in another order; in the end the receiver says
    /// what it knows, is told the rest, and knows the table.
    #[test]
    fn whatever_is_lost_or_repeated_both_ends_agree_in_the_end(steps in steps()) {
        const NODE: NodeId = 7;
        let local = |epoch| Local::new(epoch, 12).with_limits(4, 3);
        let mut here = FlowTable { local: local(1), heard: BTreeMap::new() };
        let mut there = FlowTable::new(1, 0);
        let mut model = BTreeMap::new();
        let mut sent = Vec::new();
        let mut marks = vec![Mark::default()];
        let mut epoch = 1;
        for step in steps {
            match step {
                Step::Add { n, control, sequence } => {
                    let kind = if control { FlowKind::Control } else { FlowKind::Client };
                    let number = sequence.map(u32::from);
                    let sequence = number.map(|send| Sequence { send, receive: !send });
                    let mut flow = Flow { sequence, ..flow(n.into(), kind) };
                    if here.add(flow) {
                        // What is known of a tunnel client is not forgotten.
                        if let Some(Flow { kind: FlowKind::Control, sequence, .. }) = model.get(&n) {
                            flow.kind = FlowKind::Control;
                            flow.sequence = flow.sequence.or(*sequence);
                        }
                        model.insert(n, flow);
                    }
                }
                Step::Remove(n) => {
                    here.remove(client(n.into()).server, client(n.into()).client);
                    model.remove(&n);
                }
                Step::Restart => {
                    epoch += 1;
                    here.local = local(epoch);
                    model.clear();
                }
                Step::Tell { memory } => {
                    marks.push(there.mark_of(NODE));
                    let mark = marks[marks.len() - 1 - usize::from(memory).min(marks.len() - 1)];
                    sent.extend(here.delta_since(mark));
                }
                Step::Arrive(which) if !sent.is_empty() => {
                    // The newest are the likeliest.
                    let back = (usize::from(which) * usize::from(which) / 2048).min(sent.len() - 1);
                    let delta = &sent[sent.len() - 1 - back];
                    prop_assert!(there.apply(NODE, delta).is_ok());
                }
                Step::Arrive(_) => {}
                Step::Forget => there = FlowTable::new(1, 0),
            }
            let counts = here.counts();
            prop_assert_eq!(counts.controls + counts.clients, model.len());
            prop_assert_eq!(here.own().count(), model.len());
        }
        tell_all(&here, NODE, &mut there);
        prop_assert_eq!(sorted(there.of_node(NODE)), sorted(here.own()));
        prop_assert_eq!(sorted(here.own()), sorted(model.into_values()));
    }

    #[test]
    fn a_delta_is_read_as_it_was_written(
        flows in prop::collection::vec((0..500u16, any::<bool>(), any::<Option<(u32, u32)>>()), 0..40),
        removed in prop::collection::vec(0..500u16, 0..20),
    ) {
        let mut here = FlowTable::new(9, 100);
        for (n, v6, numbers) in flows {
            let ends = match v6 {
                true => ("[2001:db8::1]:443".parse().unwrap(), ([0x2001, 0xdb8, 0, 0, 0, 0, 1, n], 1 + n).into()),
                false => (client(n).server, client(n).client),
            };
            let sequence = numbers.map(|(send, receive)| Sequence { send, receive });
            here.add(Flow { server: ends.0, client: ends.1, sequence, ..client(n) });
        }
        let before = here.delta_since(Mark::default()).unwrap().end();
        for n in removed {
            here.remove(client(n).server, client(n).client);
        }
        for delta in here.delta_since(Mark::default()).into_iter().chain(here.delta_since(before)) {
            let bytes = codec::encode(&delta).unwrap();
            prop_assert_eq!(codec::decode::<FlowDelta>("flows", &bytes), Ok(delta));
        }
    }
}
