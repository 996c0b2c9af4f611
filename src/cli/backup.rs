//! `trigon backup`: the replicated state of the node on this machine, in one file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster::Backup;

use super::ask::{self, Socket};
use super::{complain, say};
use crate::admin::client;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// File to write, which must not be there yet; by default a name of cluster, generation and
    /// entry in the current directory.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put the key of the cluster's secrets into the file as well.
    ///
    /// With it the file alone brings the cluster back, and whoever reads it can pretend to be the
    /// cluster. Without it a restore also needs the file `kek` of a load balancer.
    #[arg(long)]
    with_keys: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let bytes = match ask::wait(client::backup(&options.socket.path, options.with_keys)) {
        Ok(bytes) => bytes,
        Err(code) => return code,
    };
    // Checked as a restore would, so that no backup is kept that is none.
    let backup = match Backup::decode(&bytes) {
        Ok(backup) => backup,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if options.with_keys && !backup.has_key() {
        complain(&"this node does not have the key: it is a witness; ask a load balancer");
        return ExitCode::FAILURE;
    }
    let path = options.output.clone().unwrap_or_else(|| {
        let (name, generation) = (&backup.cluster_name, backup.group.generation);
        PathBuf::from(format!("{name}-{generation}-{}.trigon-backup", backup.applied))
    });
    if let Err(error) = write(&path, &bytes) {
        complain(&format!("{}: {error}", path.display()));
        return ExitCode::FAILURE;
    }
    let keys = if backup.has_key() { "with the key" } else { "without the key" };
    say(&format!("{}: {} entries, {} bytes, {keys}", path.display(), backup.applied, bytes.len()));
    ExitCode::SUCCESS
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a backup must not be taken for one.
        let _ = std::fs::remove_file(path);
    }
    written
}
