//! `trigon import keepalived`: `[[vrrp]]` sections from a `keepalived.conf`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::super::{USAGE, complain, say};
use super::write_new;
use crate::config::keepalived::{self, Imported};

/// Longer than any file a person writes.
const MOST: u64 = 4 << 20;

/// Where the files with passwords are said to lie when nothing is written.
const DIRECTORY: &str = "/etc/trigon";

#[derive(Debug, clap::Args)]
pub(super) struct Keepalived {
    /// The keepalived.conf.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What keepalived was started with as `--config-id`, for lines that begin with `@`; without
    /// it, the name of this machine, as there.
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
    /// Configuration file to write in place of standard output; never overwritten. Passwords go
    /// into files beside it, mode 0600.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(options: &Keepalived) -> ExitCode {
    let made = match read(options) {
        Ok(made) => made,
        Err(error) => {
            complain(&format!("{error:#}"));
            return ExitCode::from(USAGE);
        }
    };
    for note in &made.notes {
        complain(&format!("not carried over: {}: {note}", options.file.display()));
    }
    if made.is_empty() {
        complain(&format!("{}: no usable vrrp_instance", options.file.display()));
        return ExitCode::from(USAGE);
    }
    let source = options.file.display().to_string();
    let Some(out) = &options.out else {
        say(&made.toml(&source, DIRECTORY));
        for password in made.passwords() {
            complain(&format!(
                "write the auth_pass of the old file into {DIRECTORY}/{} (mode 0600), or use --out",
                password.file
            ));
        }
        return ExitCode::SUCCESS;
    };
    match write(&made, &source, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn read(options: &Keepalived) -> anyhow::Result<Imported> {
    let name = || options.file.display().to_string();
    let file = fs::File::open(&options.file).with_context(name)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).with_context(name)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    anyhow::ensure!(size <= MOST, "{}: more than {} MiB", name(), MOST >> 20);
    // A comment in another encoding must not hide the rest.
    let text = String::from_utf8_lossy(&bytes);
    let id = options.config_id.clone().unwrap_or_else(machine);
    Ok(keepalived::import(&text, &id))
}

/// The name of this machine up to the first dot.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn write(made: &Imported, source: &str, out: &Path) -> anyhow::Result<()> {
    let out = std::path::absolute(out).with_context(|| out.display().to_string())?;
    let directory = out.parent().unwrap_or(Path::new("/"));
    let passwords = made.passwords();
    let taken = passwords.iter().map(|password| directory.join(&password.file));
    for path in taken.chain([out.clone()]) {
        anyhow::ensure!(
            !path.exists(),
            "{}: exists already and is never overwritten",
            path.display()
        );
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for password in passwords {
        let secret = std::str::from_utf8(password.secret.expose());
        let secret = secret.context("auth_pass: eight bytes that are not text")?;
        write_new(&directory.join(&password.file), 0o600, &format!("{secret}\n"))?;
    }
    let named =
        directory.to_str().with_context(|| format!("{}: not UTF-8", directory.display()))?;
    write_new(&out, 0o644, &made.toml(source, named))?;
    let routers: Vec<_> = made.names().collect();
    say(&format!("wrote {}: {}", out.display(), routers.join(", ")));
    Ok(())
}
