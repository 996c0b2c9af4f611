//! Who a machine is and where its state lies: the section `[node]`, and what `trigon init` and
//! `trigon join` need of a file whose other sections may not be right yet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::file::{File, Section};
use super::members::{self, Otherwise};
use super::parse::read_text;
use super::problem::Problems;

/// What the file says about the machine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// `node.name`.
    pub name: Option<String>,
    /// `node.role`.
    pub role: Option<cluster::Role>,
    /// `node.state_dir`: everything that must survive a restart.
    pub state_dir: PathBuf,
    /// `node.admin_socket`.
    pub admin_socket: PathBuf,
    /// Where the other members reach it: `cluster.advertise`, or `cluster.listen` if that is an
    /// address of one machine.
    pub advertise: Option<SocketAddr>,
}

impl Default for Home {
    fn default() -> Self {
        Self {
            name: None,
            role: None,
            state_dir: PathBuf::from("/var/lib/trigon"),
            admin_socket: PathBuf::from("/run/trigon/admin.sock"),
            advertise: None,
        }
    }
}

/// Reads nothing but who this machine is.
///
/// # Errors
/// Every problem of the sections `[node]` and `[cluster]`.
pub fn load(path: &Path) -> Result<Home, Problems> {
    let (name, text) = read_text(path)?;
    let file = File::new(&name, &text);
    let document = file.parse()?;
    let mut root = file.root(&document);
    let mut home = read(root.section("node"));
    let cluster = members::read(root.section("cluster"), &home.state_dir, Otherwise::Option);
    home.advertise = cluster.advertised();
    drop(root);
    drop(document);
    match file.into_problems() {
        problems if problems.is_empty() => Ok(home),
        problems => Err(Problems(problems)),
    }
}

/// The section `[node]`.
pub(super) fn read(mut section: Section<'_, '_>) -> Home {
    section.refuse("id", "a number", "nothing: `trigon init` and `trigon join` give it");
    let default = Home::default();
    let roles = [("node", Some(cluster::Role::Node)), ("witness", Some(cluster::Role::Witness))];
    let home = Home {
        name: section.optional("name"),
        role: section.choice("role", &roles, None),
        state_dir: section.optional("state_dir").unwrap_or(default.state_dir),
        admin_socket: section.optional("admin_socket").unwrap_or(default.admin_socket),
        advertise: None,
    };
    if home.name.as_ref().is_some_and(|name| !is_name(name)) {
        let found = home.name.clone().unwrap_or_default();
        section.wrong(
            "name",
            format!("{found:?}"),
            "1 to 64 visible ASCII characters without spaces",
        );
    }
    section.finish();
    home
}

/// What this machine calls itself.
pub fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    if is_name(&name) { name } else { "node".to_owned() }
}

/// Whether it can stand in lists and logs.
fn is_name(name: &str) -> bool {
    let lengths = 1..=cluster::MAX_NODE_NAME;
    lengths.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<Home, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(file.path()).map_err(|problems| {
            let name = file.path().display().to_string();
            let lines = problems.0.iter().map(|problem| problem.to_string().replace(&name, "t"));
            lines.collect()
        })
    }

    #[test]
    fn a_file_that_is_wrong_elsewhere_still_says_who_the_machine_is() {
        let text = "[node]\nname = 'b'\nrole = 'witness'\nstate_dir = '/x'\nadmin_socket = '/y'\n\
                    [cluster]\nlisten = '192.0.2.12:7443'\n[vrrp]\nnonsense = 1\n";
        let expected = Home {
            name: Some("b".into()),
            role: Some(cluster::Role::Witness),
            state_dir: "/x".into(),
            admin_socket: "/y".into(),
            advertise: Some("192.0.2.12:7443".parse().unwrap()),
        };
        assert_eq!(loaded(text), Ok(expected));
        assert_eq!(loaded(""), Ok(Home::default()));
    }

    #[test]
    fn an_address_of_every_interface_is_not_advertised() {
        let home = loaded("[cluster]\nlisten = '0.0.0.0:7443'\n").unwrap();
        assert_eq!(home.advertise, None);
        let text = "[cluster]\nlisten = '[::]:7443'\nadvertise = '192.0.2.1:7443'\n";
        assert_eq!(loaded(text).unwrap().advertise, Some("192.0.2.1:7443".parse().unwrap()));
    }

    #[test]
    fn what_cannot_work_is_named_before_anything_is_made() {
        for (text, expected) in [
            ("[node]\nid = 1\n", "t:2: node.id: found a number, expected nothing"),
            ("[node]\nname = 'a b'\n", "t:2: node.name: found \"a b\""),
            ("[cluster]\nmembers = []\n", "t:2: cluster.members: found a list of members"),
            (
                "[cluster]\nlisten = '0.0.0.0:7443'\nadvertise = '0.0.0.0:7443'\n",
                "t:3: cluster.advertise: 0.0.0.0:7443 cannot be reached by peers",
            ),
        ] {
            let found = loaded(text).unwrap_err();
            assert!(found.iter().any(|told| told.starts_with(expected)), "{text}: {found:#?}");
        }
    }
}
