//! `trigon restore`: a cluster out of a backup; this machine becomes its only member.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster::{KEK_LEN, MAX_BACKUP, Restoring, Secret};

use super::place::{self, Place};
use super::{USAGE, complain, complain_of, say};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// What `trigon backup` has written.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Also when this machine is a member of the cluster: its present log is left behind.
    #[arg(long)]
    force: bool,
    /// File `kek` of a load balancer of the cluster, for a backup without the key.
    #[arg(long, value_name = "FILE")]
    kek: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let home = match options.place.read() {
        Ok(home) => home,
        Err(code) => return code,
    };
    if home.role == Some(cluster::Role::Witness) {
        complain(&"node.role: found \"witness\", expected \"node\": restore on a load balancer");
        return ExitCode::from(USAGE);
    }
    if place::runs(&home) {
        let socket = home.admin_socket.display();
        complain(&format!("{socket}: a trigon runs on this machine; stop it first"));
        return ExitCode::FAILURE;
    }
    let bytes = match read(&options.file, MAX_BACKUP) {
        Ok(bytes) => bytes,
        Err(code) => return code,
    };
    let kek = match options.kek.as_deref().map(|path| read(path, KEK_LEN as u64)).transpose() {
        Ok(kek) => kek.map(Secret::new),
        Err(code) => return code,
    };
    let node_name = place::name_of(&home);
    let wish = Restoring { node_name, advertise: home.advertise, kek, force: options.force };
    match cluster::restore(&home.state_dir, &bytes, &wish) {
        Ok(passport) => {
            say(&format!(
                "node {} ({}) is the only member of cluster {} in generation {}; start it, then \
                 let the other machines join again with empty state directories",
                passport.number,
                passport.node_name,
                passport.cluster_name,
                passport.group.generation
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain_of(error);
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ExitCode> {
    let failed = |text: String| {
        complain(&format!("{}: {text}", path.display()));
        ExitCode::FAILURE
    };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > limit {
        return Err(failed(format!("{size} bytes, expected at most {limit}")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}
