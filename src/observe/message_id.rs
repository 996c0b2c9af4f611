//! Classes of events that a program may wait for in the journal, each with an id that never
//! changes: `journalctl MESSAGE_ID=...`. An event belongs to a class by its name
//! (`tracing::info!(name: "tunnel_up", ...)`), whatever its text is.
//!
//! `packaging/journal/trigon.catalog` explains each, `docs/reference/log-fields.md` lists them.

/// Names and ids of the classes.
pub const CLASSES: &[(&str, &str)] = &[
    ("vrrp_transition", "9f03221cf44c5cb392f60ff93eaf31eb"),
    ("alarm_raised", "c6eb46e55b0f57cca72a3057d23a6880"),
    ("alarm_cleared", "b0cab1004a1a5cfc9cd3e0618ff0f5a0"),
    ("leader_change", "dacd7d4077485a9d8e0dd5e907bfe31b"),
    ("quorum_lost", "b3ee2a88757155fea721c3a08386c0fb"),
    ("quorum_back", "3af024e10ca05600ac7116d76d214bb3"),
    ("tunnel_up", "5f7a715222a857bea90dcbb55cc69d94"),
    ("tunnel_down", "31d0ed40d5fc5b55bde8baf999370b05"),
    ("client_failure", "83436ef894d453febe899ce65750c231"),
    ("client_banned", "04229921fc6e5ed493853f24a906d3b7"),
    ("config_reloaded", "fa4fa49778dd5abd894a37e6de7e2daa"),
    ("config_refused", "97e1cac34dee5186ac6fde7eb8d33a2b"),
    ("certificate_renewed", "27c2deac91f95a7c9e7543a235aa9057"),
    ("node_started", "fbc2bbffff435899b0a89fec01b122af"),
    ("node_stopped", "70f5670579b5507ba20ad8317ef4af1a"),
    ("database_writer", "e6741c49e4044850b4e4041017ab4a86"),
];

/// The id of an event, if it belongs to a class.
pub fn of(name: &str) -> Option<&'static str> {
    CLASSES.iter().find(|(class, _)| *class == name).map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    const CATALOG: &str = include_str!("../../packaging/journal/trigon.catalog");
    const REFERENCE: &str = include_str!("../../docs/reference/log-fields.md");

    /// Names that are given to events in the source below a folder.
    fn named(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let found = text.split("name: \"").skip(1).filter_map(|rest| rest.split_once('"'));
                names.extend(found.map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn every_class_has_an_event_an_entry_in_the_catalogue_and_a_line_in_the_reference() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut names = BTreeSet::new();
        for folder in ["src", "cluster/src", "vrrp/src"] {
            named(&root.join(folder), &mut names);
        }
        let ids: BTreeSet<_> = CLASSES.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), CLASSES.len(), "an id is there twice");
        for (name, id) in CLASSES {
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(names.contains(*name), "no event is called {name}");
            assert!(CATALOG.contains(&format!("-- {id}\nSubject: ")), "{name}: {id}");
            assert!(REFERENCE.contains(&format!("| `{name}` | `{id}` |")), "{name}: {id}");
        }
        assert_eq!(CATALOG.matches("-- ").count(), CLASSES.len());
    }
}
