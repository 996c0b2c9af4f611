//! Where `init` and `join` work: the state directory of a node that does not run, found by its
//! configuration.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster::{Passport, Role};

use super::{complain_of, refuse};
use crate::config;

/// The configuration that is read when none is named and this one exists.
const DEFAULT: &str = "/etc/trigon/trigon.toml";

/// Which machine, in the words of its configuration.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// Configuration file: `[node]` and `[cluster]` are read, and nothing else has to be right.
    /// Without it /etc/trigon/trigon.toml, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory, in place of `node.state_dir`.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Name of this machine in lists, in place of `node.name`; by default its host name.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where the other members reach this one, in place of `cluster.advertise`; by default
    /// `cluster.listen`, if that is an address of one machine.
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<std::net::SocketAddr>,
}

impl Place {
    /// What the configuration says, with what the command line says in its place; what is wrong
    /// with it is printed.
    pub(super) fn read(&self) -> Result<config::Home, ExitCode> {
        let given = self.config.as_deref();
        let file = given.or_else(|| Some(Path::new(DEFAULT)).filter(|path| path.exists()));
        let mut home = match file {
            Some(path) => config::load_home(path).map_err(|problems| refuse(&problems))?,
            None => config::Home::default(),
        };
        if let Some(dir) = &self.state_dir {
            home.state_dir.clone_from(dir);
        }
        home.name = self.node_name.clone().or(home.name);
        home.advertise = self.advertise.or(home.advertise);
        Ok(home)
    }
}

/// What a node is called when nobody has named it.
pub(super) fn name_of(home: &config::Home) -> String {
    home.name.clone().unwrap_or_else(config::host_name)
}

/// The passport of the directory; one that cannot be read is told about.
pub(super) fn passport(home: &config::Home) -> Result<Option<Passport>, ExitCode> {
    Passport::load(&home.state_dir).map_err(|error| {
        complain_of(error);
        ExitCode::FAILURE
    })
}

/// Whether a trigon answers at the admin socket of this machine.
pub(super) fn runs(home: &config::Home) -> bool {
    UnixStream::connect(&home.admin_socket).is_ok()
}

/// A role as it is typed.
pub(super) fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "node" | "lb" => Ok(Role::Node),
        "witness" => Ok(Role::Witness),
        _ => Err("expected \"node\" or \"witness\"".to_owned()),
    }
}
