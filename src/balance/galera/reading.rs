//! What one node says of itself. Sans-io.

/// Names of the status variables a [`Reading`] is made of.
pub const STATUS: [&str; 7] = [
    "wsrep_cluster_conf_id",
    "wsrep_cluster_size",
    "wsrep_cluster_state_uuid",
    "wsrep_cluster_status",
    "wsrep_local_recv_queue",
    "wsrep_local_state",
    "wsrep_ready",
];

/// Names of the system variables it is made of.
pub const VARIABLES: [&str; 6] = [
    "read_only",
    "wsrep_desync",
    "wsrep_node_name",
    "wsrep_provider_options",
    "wsrep_reject_queries",
    "wsrep_sst_method",
];

/// Longest value that is kept, in bytes: the provider's options are some two thousand.
const MAX_VALUE: usize = 16 * 1024;

/// The number a node gives to a view that is none.
const NO_VIEW: u64 = u64::MAX;

/// One node's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether it says that it belongs to the part of the cluster that goes on.
    pub primary: bool,
    /// Whether it takes queries at all.
    pub ready: bool,
    /// Its state.
    pub state: State,
    /// The cluster's history it shares.
    pub cluster: String,
    /// The number of the view it is in; none outside of the primary part.
    pub view: Option<u64>,
    /// How many nodes it sees, itself included.
    pub size: u32,
    /// Changes of others it has yet to apply.
    pub queue: u32,
    /// Whether an admin let it fall behind (`wsrep_desync`).
    pub desynced: bool,
    /// Whether an admin made it refuse queries (`wsrep_reject_queries`).
    pub rejects: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Whether it is locked while it gives a newcomer the whole state.
    pub sst_locks: bool,
    /// What it calls itself.
    pub calls_itself: String,
    /// The options of the replication below.
    pub provider_options: String,
}

/// A node's own state in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// On its way in, or none of these.
    #[default]
    Joining,
    /// Gives its state to another node, or is desynced.
    Donor,
    /// Has the state, catches up.
    Joined,
    /// Keeps up.
    Synced,
}

/// The node has no Galera, or its provider is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it answers, but not as a Galera node (no {0}): is wsrep_on = ON?")]
pub struct NotGalera(&'static str);

impl Reading {
    /// Takes the rows of both questions, names in any case and any order.
    ///
    /// # Errors
    /// [`NotGalera`] without the rows that only a Galera node has.
    pub fn from_rows(rows: &[(String, String)]) -> Result<Self, NotGalera> {
        let value = |name: &str| {
            let mut named = rows.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.as_str()).filter(|value| value.len() <= MAX_VALUE)
        };
        let needed = |name: &'static str| value(name).ok_or(NotGalera(name));
        let is_on = |name: &str| value(name).is_some_and(is_on);
        let number = |name: &str| value(name).and_then(|text| text.parse().ok());
        let primary = needed("wsrep_cluster_status")?.eq_ignore_ascii_case("Primary");
        let view = needed("wsrep_cluster_conf_id")?.parse().ok();
        let method = value("wsrep_sst_method").unwrap_or_default();
        Ok(Self {
            primary,
            ready: is_on("wsrep_ready"),
            state: match needed("wsrep_local_state")? {
                "2" => State::Donor,
                "3" => State::Joined,
                "4" => State::Synced,
                _ => State::Joining,
            },
            cluster: needed("wsrep_cluster_state_uuid")?.to_owned(),
            view: view.filter(|view| primary && *view != NO_VIEW),
            size: number("wsrep_cluster_size").unwrap_or(0),
            queue: number("wsrep_local_recv_queue").unwrap_or(0),
            desynced: is_on("wsrep_desync"),
            rejects: value("wsrep_reject_queries")
                .is_some_and(|what| !what.eq_ignore_ascii_case("NONE")),
            read_only: is_on("read_only"),
            sst_locks: !["mariabackup", "xtrabackup", "xtrabackup-v2", "clone"].contains(&method),
            calls_itself: value("wsrep_node_name").unwrap_or_default().to_owned(),
            provider_options: value("wsrep_provider_options").unwrap_or_default().to_owned(),
        })
    }
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node that is as it should be, in this view.
    pub(in crate::balance::galera) fn synced(view: u64) -> Reading {
        Reading {
            primary: true,
            ready: true,
            state: State::Synced,
            cluster: "1f3a".to_owned(),
            view: Some(view),
            size: 3,
            ..Reading::default()
        }
    }

    fn rows(changed: &[(&str, &str)]) -> Vec<(String, String)> {
        let usual = [
            ("wsrep_cluster_conf_id", "7"),
            ("wsrep_cluster_size", "3"),
            ("wsrep_cluster_state_uuid", "1f3a"),
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_local_recv_queue", "0"),
            ("wsrep_local_state", "4"),
            ("wsrep_ready", "ON"),
            ("wsrep_reject_queries", "NONE"),
            ("wsrep_sst_method", "mariabackup"),
        ];
        let kept = usual.iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
        kept.chain(changed).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_node_is_what_its_variables_say() {
        let usual = synced(7);
        for (changed, expect) in [
            (&[][..], usual.clone()),
            (
                &[("WSREP_READY", "OFF"), ("wsrep_ready", "OFF")],
                Reading { ready: false, ..usual.clone() },
            ),
            (
                &[("wsrep_cluster_status", "non-Primary")],
                Reading { primary: false, view: None, ..usual.clone() },
            ),
            (
                &[("wsrep_cluster_conf_id", "18446744073709551615")],
                Reading { view: None, ..usual.clone() },
            ),
            (&[("wsrep_local_state", "2")], Reading { state: State::Donor, ..usual.clone() }),
            (&[("wsrep_local_state", "x")], Reading { state: State::Joining, ..usual.clone() }),
            (&[("wsrep_reject_queries", "ALL_KILL")], Reading { rejects: true, ..usual.clone() }),
            (&[("wsrep_sst_method", "rsync")], Reading { sst_locks: true, ..usual.clone() }),
            (
                &[("wsrep_desync", "ON"), ("read_only", "ON")],
                Reading { desynced: true, read_only: true, ..usual.clone() },
            ),
            (&[("wsrep_local_recv_queue", "-1")], usual.clone()),
        ] {
            assert_eq!(Reading::from_rows(&rows(changed)), Ok(expect), "{changed:?}");
        }
    }

    #[test]
    fn a_server_without_galera_is_told_from_one_that_is_ill() {
        let plain = [("wsrep_on".to_owned(), "OFF".to_owned())];
        let told = Reading::from_rows(&plain).unwrap_err().to_string();
        assert!(told.contains("wsrep_on = ON"), "{told}");
    }
}
