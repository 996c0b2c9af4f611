//! The section `[failover]`: who may hold an address.

use std::net::IpAddr;
use std::time::Duration;

use super::file::Section;
use crate::failover::config::{ClaimPolicy, Config, Gateway};

pub(super) fn read(mut section: Section<'_, '_>) -> Config {
    let mut config = Config::default();
    let policies = [("presence", ClaimPolicy::Presence), ("vrrp", ClaimPolicy::Vrrp)];
    config.claim = section.choice("claim_policy", &policies, config.claim);
    if let Some(beat) = section.optional::<Duration>("beat_interval") {
        let bounds = Duration::from_millis(5)..=Duration::from_millis(500);
        if !bounds.contains(&beat) {
            section.wrong("beat_interval", format!("{beat:?}"), "\"5ms\" to \"500ms\"");
        }
        config.beat = Some(beat);
    }
    if let Some(timeout) = section.optional::<Duration>("isolation_timeout") {
        let bounds = Duration::from_millis(500)..=Duration::from_secs(600);
        if !timeout.is_zero() && !bounds.contains(&timeout) {
            let expected = "\"500ms\" to \"600s\", or \"0s\" for never";
            section.wrong("isolation_timeout", format!("{timeout:?}"), expected);
        }
        config.isolation = (!timeout.is_zero()).then_some(timeout);
    }
    if let Some(word) = section.optional::<String>("isolation_gateway") {
        config.gateway = match (word.as_str(), word.parse::<IpAddr>()) {
            ("auto", _) => Gateway::Default,
            ("off", _) => Gateway::Off,
            (_, Ok(address)) => Gateway::Address(address),
            (_, Err(_)) => {
                let expected = "\"auto\", \"off\" or an address without port";
                section.wrong("isolation_gateway", format!("\"{word}\""), expected);
                config.gateway
            }
        };
    }
    section.finish();
    config
}

#[cfg(test)]
mod tests {
    use super::super::file::File;
    use super::*;

    fn read_text(text: &str) -> (Config, Vec<String>) {
        let file = File::new("t", text);
        let document = file.parse().unwrap();
        let config = read(file.root(&document).section("failover"));
        drop(document);
        (config, file.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_is_read_and_none_is_needed() {
        assert_eq!(read_text(""), (Config::default(), Vec::new()));
        let text = "[failover]\nclaim_policy = 'vrrp'\nbeat_interval = '20ms'\n\
                    isolation_timeout = '0s'\nisolation_gateway = '192.0.2.1'\n";
        let expected = Config {
            claim: ClaimPolicy::Vrrp,
            beat: Some(Duration::from_millis(20)),
            isolation: None,
            gateway: Gateway::Address([192, 0, 2, 1].into()),
        };
        assert_eq!(read_text(text), (expected, Vec::new()));
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        for (line, expected) in [
            ("claim_policy = 'raft'", "failover.claim_policy: found \"raft\""),
            ("beat_interval = '1ms'", "failover.beat_interval: found 1ms"),
            ("isolation_timeout = '10ms'", "failover.isolation_timeout: found 10ms"),
            ("isolation_gateway = 'router'", "failover.isolation_gateway: found \"router\""),
        ] {
            let (_, problems) = read_text(&format!("[failover]\n{line}\n"));
            assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
        }
    }
}
