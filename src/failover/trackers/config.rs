//! What trackers are told at start, and how the texts they read are understood. Sans-io.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One thing a virtual router's priority depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// The virtual router's name.
    pub router: Arc<str>,
    /// The tracker's name within that router.
    pub name: Arc<str>,
    /// What is looked at. The same thing is looked at once, however many routers depend on it.
    pub source: Source,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Whether another interface than the router's own has a link.
    Interface(String),
    /// Whether a program ends with exit code 0.
    Script(Script),
    /// The number in a file; a missing one counts as 0.
    File(PathBuf),
    /// Part of this node itself.
    Health(Health),
}

/// A program that is run again and again, as keepalived's `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Program and arguments; no shell is involved. At least one word.
    pub command: Vec<String>,
    /// From one start to the next; a run that takes longer delays the next.
    pub interval: Duration,
    /// A run that takes longer has failed and is killed.
    pub timeout: Duration,
    /// Successes in a row that make it up.
    pub rise: u32,
    /// Failures in a row that make it down.
    pub fall: u32,
    /// Whether it counts as down at first and has to rise; else the first run decides.
    pub init_fail: bool,
    /// As whom to run it; as trigon itself when not set.
    pub user: Option<User>,
}

/// A user of this machine, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A part of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// The HTTP and the FRP port take connections.
    Listeners,
    /// Nextcloud answers.
    Nextcloud,
    /// Most registered tunnels are connected, while this node holds an address.
    Tunnels,
}

impl Health {
    /// What it is called in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Nextcloud => "nextcloud",
            Self::Tunnels => "tunnels",
        }
    }
}

impl Source {
    /// What it is called in logs and status.
    pub fn name(&self) -> String {
        match self {
            Self::Interface(name) => format!("interface {name}"),
            Self::Script(script) => format!("script {}", script.command.join(" ")),
            Self::File(path) => format!("file {}", path.display()),
            Self::Health(health) => format!("health {}", health.word()),
        }
    }
}

impl User {
    /// A user by name or number in the text of `/etc/passwd`.
    pub fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (found, _, uid, gid) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (found == name || uid == name)
                .then(|| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? }))?
        })
    }
}

/// The number in a tracked file; `None` when there is something else.
pub(super) fn number(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if text.is_empty() {
        return Some(0);
    }
    // More than the whole range of priorities is the same as all of it.
    text.parse::<i64>().ok().and_then(|number| i32::try_from(number.clamp(-254, 254)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracked_file_holds_a_number_or_nothing() {
        for (text, expect) in [
            (&b"0\n"[..], Some(0)),
            (b"", Some(0)),
            (b"\n", Some(0)),
            (b" -20 \n", Some(-20)),
            (b"99999", Some(254)),
            (b"-9223372036854775808", Some(-254)),
            (b"99999999999999999999", None),
            (b"down", None),
            (b"1 2", None),
            (b"\xff", None),
        ] {
            assert_eq!(number(text), expect, "{text:?}");
        }
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nwww:x:33:34::/:/bin/sh\n";
        let www = Some(User { uid: 33, gid: 34 });
        for (name, expect) in [("www", www), ("33", www), ("x", None), ("", None)] {
            assert_eq!(User::find(passwd, name), expect, "{name}");
        }
    }
}
