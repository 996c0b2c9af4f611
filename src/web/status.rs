//! What a Nextcloud's `/status.php` says. Sans-io.
//!
//! A node in maintenance is a node that works: it answers every other request with 503 and a word
//! its clients understand, and they come back later. Taken out of the pool, all nodes would be,
//! and clients would meet an error they take for an outage.

use serde::Deserialize;

/// The fields that matter; `version` is for people.
#[derive(Debug, Deserialize)]
struct Status {
    installed: bool,
    #[serde(default)]
    maintenance: bool,
    #[serde(default, rename = "needsDbUpgrade")]
    needs_upgrade: bool,
    #[serde(default, rename = "versionstring")]
    version: String,
}

/// Longest version repeated.
const MAX_VERSION: usize = 32;

/// Judges an answer: a word about the node, or why it cannot be used.
///
/// # Errors
/// Why not, for operators.
pub(super) fn judge(status: u16, host: &str, body: &[u8]) -> Result<String, String> {
    match status {
        200 => {}
        400 => {
            return Err(format!(
                "/status.php answered 400: {host:?} may be missing in trusted_domains; \
                 set web.host to a name that is there"
            ));
        }
        other => return Err(format!("/status.php answered {other}, expected 200")),
    }
    let Ok(status) = serde_json::from_slice::<Status>(body) else {
        return Err("/status.php did not answer with Nextcloud's status".to_owned());
    };
    if !status.installed {
        return Err("Nextcloud is not installed on it".to_owned());
    }
    let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let version: String = status.version.chars().filter(plain).take(MAX_VERSION).collect();
    let notes = [
        (!version.is_empty()).then_some(version.as_str()),
        status.maintenance.then_some("maintenance mode"),
        status.needs_upgrade.then_some("needs an upgrade"),
    ];
    Ok(notes.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_keeps_a_node_in() {
        for (status, body, expected) in [
            (
                200,
                r#"{"installed":true,"maintenance":false,"versionstring":"33.0.1"}"#,
                Ok("33.0.1"),
            ),
            (
                200,
                r#"{"installed":true,"maintenance":true,"needsDbUpgrade":true,"versionstring":"33.0.1"}"#,
                Ok("33.0.1, maintenance mode, needs an upgrade"),
            ),
            (200, r#"{"installed":true}"#, Ok("")),
            (200, r#"{"installed":false,"versionstring":"33"}"#, Err("not installed")),
            (200, "<html>It works!</html>", Err("did not answer with Nextcloud's status")),
            (200, "", Err("did not answer")),
            (200, r#"{"installed":"yes"}"#, Err("did not answer")),
            (400, "Trusted domain error", Err("trusted_domains")),
            (500, "", Err("answered 500")),
            (302, "", Err("answered 302")),
        ] {
            match (judge(status, "cloud.example", body.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{body}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{status} {body}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_version_is_repeated_only_as_far_as_it_is_plain() {
        let body = format!(r#"{{"installed":true,"versionstring":"3\n3{}"}}"#, "x".repeat(99));
        assert_eq!(judge(200, "h", body.as_bytes()).unwrap(), format!("33{}", "x".repeat(30)));
    }
}
