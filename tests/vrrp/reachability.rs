//! Whether a neighbour answers, with the kernel's own ARP and neighbour discovery on real links.

use std::net::IpAddr;
use std::time::Duration;

use vrrp::Neighbour;

use super::lan::{Lan, eventually};

const RECENT: Duration = Duration::from_millis(200);

fn answers(neighbour: &mut Neighbour) -> bool {
    neighbour.look(RECENT).unwrap().is_some_and(|age| age < Duration::from_millis(600))
}

#[test]
fn a_neighbour_answers_until_it_is_gone_and_again_when_it_is_back() {
    let lan = Lan::new(2);
    let (one, two) = (lan.host(1), lan.host(2));
    for address in [IpAddr::V4(two.address()), IpAddr::V6(two.global())] {
        let mut neighbour = one.run(|| Neighbour::at(address)).unwrap().unwrap();
        eventually("the first answer", || answers(&mut neighbour));
        lan.set_cable(2, false);
        eventually("silence", || !answers(&mut neighbour));
        lan.set_cable(2, true);
        eventually("another answer", || answers(&mut neighbour));
    }
}

#[test]
fn the_default_gateway_is_found_and_what_lies_behind_it_is_no_neighbour() {
    let lan = Lan::new(2);
    let (one, two) = (lan.host(1), lan.host(2));
    assert!(one.run(Neighbour::default_gateway).unwrap().is_none());
    one.ip(&format!("route add default via {}", two.address()));
    let mut found = one.run(Neighbour::default_gateway).unwrap().unwrap();
    assert_eq!(found.address(), IpAddr::V4(two.address()));
    eventually("the gateway's answer", || answers(&mut found));
    let far = IpAddr::from([198, 51, 100, 1]);
    assert!(one.run(|| Neighbour::at(far)).unwrap().is_none());
}
