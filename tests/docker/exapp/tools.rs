//! `cat`, `mkdir -p` and `update-ca-certificates`, as far as a server needs them in a container.

use std::fs;
use std::io::{self, Write};

/// Where certificates to be trusted are put, and the file they are collected in.
pub const ADDED: &str = "/usr/local/share/ca-certificates";
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

pub fn cat(files: &[String]) -> io::Result<()> {
    files.iter().try_for_each(|file| io::stdout().write_all(&fs::read(file)?))
}

pub fn mkdir(arguments: &[String]) -> io::Result<()> {
    let folders = arguments.iter().filter(|argument| !argument.starts_with('-'));
    folders.into_iter().try_for_each(fs::create_dir_all)
}

pub fn update_ca_certificates() -> io::Result<()> {
    let mut bundle = String::new();
    for entry in fs::read_dir(ADDED)? {
        bundle += &fs::read_to_string(entry?.path())?;
    }
    fs::create_dir_all("/etc/ssl/certs")?;
    fs::write(BUNDLE, bundle)
}
