//! `trigon certs`: a certificate authority for the control link and one certificate per node.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cluster::identity::Authority;

use super::{complain, say};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Directory to write to; made if it does not exist. An authority found there is used again;
    /// existing files are never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the cluster (`cluster.name`).
    #[arg(long, default_value = "trigon")]
    cluster: String,
    /// Ids of the members, witness included, for example `--nodes 1,2,3`.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true)]
    nodes: Vec<u64>,
}

pub(super) fn run(options: &Options) -> ExitCode {
    match write(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options) -> anyhow::Result<()> {
    let out = &options.out;
    // Only a directory made here gets this mode: an existing one may be anything.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .with_context(|| out.display().to_string())?;
    refuse_known(options)?;
    let authority = authority(out, &options.cluster)?;
    for id in &options.nodes {
        let (certificate, key) = authority.issue(*id)?;
        let [certificate_file, key_file] = node_files(out, *id);
        write_new(&certificate_file, 0o644, &certificate)?;
        write_new(&key_file, 0o600, &key)?;
    }
    say(&format!(
        "wrote {}: copy ca.crt and its own node-ID.crt and node-ID.key to each member, and keep \
         ca.key away from all of them",
        out.display()
    ));
    Ok(())
}

/// Found out before anything is written: a half of what was asked for helps nobody.
fn refuse_known(options: &Options) -> anyhow::Result<()> {
    let mut asked = BTreeSet::new();
    for id in &options.nodes {
        anyhow::ensure!(asked.insert(id), "--nodes: {id} is there twice");
        for path in node_files(&options.out, *id) {
            anyhow::ensure!(
                !path.exists(),
                "{}: exists already and is never overwritten; name only new nodes in --nodes, or \
                 move the old files of node {id} away to renew them",
                path.display()
            );
        }
    }
    Ok(())
}

/// Certificate and key of a node.
fn node_files(out: &Path, id: u64) -> [PathBuf; 2] {
    ["crt", "key"].map(|kind| out.join(format!("node-{id}.{kind}")))
}

/// The authority of an earlier run, or a new one.
fn authority(out: &Path, cluster: &str) -> anyhow::Result<Authority> {
    let (certificate, key) = (out.join("ca.crt"), out.join("ca.key"));
    if key.exists() {
        let read =
            |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
        return Ok(Authority::from_pem(cluster, &read(&certificate)?, &read(&key)?)?);
    }
    let authority = Authority::generate(cluster)?;
    write_new(&certificate, 0o644, authority.certificate_pem())?;
    write_new(&key, 0o600, &authority.key_pem())?;
    Ok(authority)
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}
