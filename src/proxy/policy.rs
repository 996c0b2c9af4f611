//! What an operator may restrict beyond the contract, all of it about how far to trust a key
//! holder and an ExApp (weaknesses W3 and W24). Sans-io.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::exapps::upstream::AnnouncedHosts;

/// The restrictions of a frontend.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where the shared key is believed from; empty means from anywhere, as with HaRP.
    pub control_from: Vec<IpNet>,
    /// Which hosts AppAPI's headers may name.
    pub announced_hosts: AnnouncedHosts,
    /// Which ExApps do not see how their visitors are logged in.
    pub strip_session: StripSession,
}

/// Which ExApps do not get their visitors' Nextcloud cookies and `Authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StripSession {
    /// Every ExApp gets them, as with HaRP.
    #[default]
    Never,
    /// None does.
    Always,
    /// These, by lower-cased id, do not.
    Apps(Vec<String>),
}

impl Policy {
    /// Whether the shared key is believed when it comes from this true client.
    pub fn may_control(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.control_from.is_empty() || self.control_from.iter().any(|net| net.contains(&client))
    }
}

impl StripSession {
    /// Whether this ExApp, by its id as typed, is one of them.
    pub fn covers(&self, app: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Apps(apps) => apps.contains(&app.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w03_the_key_is_believed_from_the_listed_networks_only() {
        let policy = |nets: &[&str]| Policy {
            control_from: nets.iter().map(|net| net.parse().unwrap()).collect(),
            announced_hosts: AnnouncedHosts { app_ports: 1..=1, listed: Vec::new() },
            strip_session: StripSession::Never,
        };
        let nets = ["192.0.2.0/24", "2001:db8::/32"];
        for (nets, client, expected) in [
            (&[][..], "198.51.100.1", true),
            (&nets, "192.0.2.7", true),
            (&nets, "::ffff:192.0.2.7", true),
            (&nets, "2001:db8::1", true),
            (&nets, "198.51.100.1", false),
        ] {
            let may = policy(nets).may_control(client.parse().unwrap());
            assert_eq!(may, expected, "{nets:?} {client}");
        }
    }

    #[test]
    fn sessions_are_stripped_for_all_for_some_or_for_none() {
        let some = StripSession::Apps(vec!["demo".into()]);
        assert!(some.covers("Demo") && !some.covers("other"));
        assert!(StripSession::Always.covers("other") && !StripSession::Never.covers("demo"));
    }
}
