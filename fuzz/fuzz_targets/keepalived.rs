//! A `keepalived.conf`: any text. What comes out is TOML in any case; every virtual router in it
//! has addresses of one family and a legal priority, and a password stands nowhere but in its own
//! place.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use trigon::config::keepalived::import;

fuzz_target!(|input: (bool, &str)| {
    let (first, text) = input;
    let made = import(text, if first { "lb1" } else { "lb2" });
    let written = made.toml(text, "/etc/trigon");
    let table = written.parse::<toml::Table>().expect("a file that is TOML");
    let none = Vec::new();
    let routers = table.get("vrrp").map_or(&none, |routers| routers.as_array().expect("a list"));
    assert_eq!(routers.len(), made.names().count());
    let lines = text.lines().count();
    for router in routers {
        let is_v6 = |address: &toml::Value| {
            let text = address.as_str()?.split('/').next()?;
            text.parse::<IpAddr>().ok().map(|address| address.is_ipv6())
        };
        let mut families = router["addresses"].as_array().expect("a list").iter().map(is_v6);
        let first = families.next().expect("an address").expect("an address");
        assert!(families.all(|family| family == Some(first)));
        assert!(router["priority"].as_integer().is_some_and(|p| (1..=254).contains(&p)));
    }
    for note in &made.notes {
        assert!((1..=lines).contains(&note.line), "line {} of {lines}", note.line);
        assert!(!note.text.is_empty());
    }
    for password in made.passwords() {
        assert!((1..=8).contains(&password.secret.expose().len()));
    }
});
