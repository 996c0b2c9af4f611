//! `trigon import harp`: a configuration file from HaRP's environment variables.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::super::{USAGE, complain, refuse, say};
use super::write_new;
use crate::config::env::{self, Environment, Key, Translation};
use crate::config::{self, Problems, from_env};

#[derive(Debug, clap::Args)]
pub(super) struct Harp {
    /// File with the variables, one `NAME=VALUE` a line as `docker run --env-file` takes it;
    /// without it, the environment of this process.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Copy of HaRP's `/certs`. The certificates of the FRP port in it are taken over when the
    /// cluster starts for the first time, `cert.pem` is that of the HTTPS port.
    #[arg(long, value_name = "DIR", default_value = env::CERTS)]
    certs: PathBuf,
    /// Configuration file to write; never overwritten. A key that stood in the environment goes
    /// into `shared.key` beside it, mode 0600.
    #[arg(long, value_name = "FILE", default_value = "/etc/trigon/trigon.toml")]
    out: PathBuf,
}

pub(super) fn run(harp: &Harp) -> ExitCode {
    let (environment, source) = match read(harp) {
        Ok(read) => read,
        Err(error) => {
            complain(&format!("{error:#}"));
            return ExitCode::from(USAGE);
        }
    };
    // The parser has its say before anything is written.
    let made = from_env::translate(&environment, &harp.certs);
    if let Err(problems) = from_env::load(&environment, &harp.certs) {
        return refuse(&problems);
    }
    let Some(key) = &made.key else { return refuse(&Problems(made.problems)) };
    match write(harp, &environment, &made, key, &source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The variables, and what to call the place they come from.
fn read(harp: &Harp) -> anyhow::Result<(Environment, String)> {
    let Some(path) = &harp.env_file else {
        return Ok((from_env::environment(), "the environment".to_owned()));
    };
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| name.clone())?;
    Ok((Environment::new(env::file::variables(&text)), name))
}

fn write(
    harp: &Harp,
    environment: &Environment,
    made: &Translation,
    key: &Key,
    source: &str,
) -> anyhow::Result<()> {
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    let out = absolute(&harp.out)?;
    let own_key = out.with_file_name("shared.key");
    let key_file = match environment.key_file().filter(|_| key.file_is_usable) {
        Some(path) => absolute(Path::new(path))?,
        None => own_key.clone(),
    };
    for path in [&out, &own_key] {
        let taken = (*path == out || *path == key_file) && path.exists();
        anyhow::ensure!(!taken, "{}: exists already and is never overwritten", path.display());
    }
    if let Some(dir) = out.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.with_context(|| dir.display().to_string())?;
    }
    let named = key_file.to_str().with_context(|| format!("{key_file:?}: not UTF-8"))?;
    if key_file == own_key {
        let secret = std::str::from_utf8(key.secret.expose()).context("the key is not text")?;
        write_new(&own_key, 0o600, &format!("{secret}\n"))?;
    }
    let text = made.document.file(source, (named, key.variable), &made.notes);
    write_new(&out, 0o644, &text)?;
    if let Err(problems) = config::load(&out) {
        anyhow::bail!("{problems}");
    }
    say(&format!("wrote {}; the shared key is read from {named}", out.display()));
    for note in &made.notes {
        say(&format!("not taken over: {note}"));
    }
    Ok(())
}
