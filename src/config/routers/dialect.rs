//! How a virtual router talks, and to whom: version, password, checksum, unicast, members.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use vrrp::{ChecksumChoice, ConfigError, Dialect, Password, Unicast};

use super::super::file::Section;
use super::Purpose;

const CHECKSUMS: &[(&str, Option<ChecksumChoice>)] = &[
    ("auto", Some(ChecksumChoice::Auto)),
    ("pseudo-header", Some(ChecksumChoice::PseudoHeader)),
    ("rfc9568", Some(ChecksumChoice::Rfc9568)),
];

/// A refusal of the speaker's own is an error for the caller to tell, everything else is told
/// here.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    purpose: Purpose,
) -> Result<Dialect, ConfigError> {
    let version = section.optional::<u8>("version").unwrap_or(3);
    let checksum = section.choice("checksum", CHECKSUMS, None);
    let path = section.optional::<PathBuf>("password_file");
    let source = section.optional::<IpAddr>("unicast_source");
    let peers = section.list::<IpAddr>("unicast_peers");
    let members = section.list::<IpAddr>("members");
    let mut dialect = match version {
        2 => {
            if checksum.is_some() {
                let found = "a choice version 2 does not have";
                section.wrong("checksum", found, "version = 3, or no checksum");
            }
            let path = path.filter(|_| purpose == Purpose::Run);
            let bytes = path.and_then(|path| read_password(section, &path));
            Dialect::version_2(bytes.map(|bytes| Password::new(&bytes)).transpose()?)
        }
        version => {
            if version != 3 {
                section.wrong("version", version.to_string(), "2 or 3");
            }
            if path.is_some() {
                let found = "a password, which version 3 does not have";
                section.wrong("password_file", found, "version = 2, or no password");
            }
            Dialect::version_3(checksum.unwrap_or_default())
        }
    };
    if let Some(peer) = peers.iter().find(|peer| !members.is_empty() && !members.contains(peer)) {
        let found = format!("{peer} is a unicast peer and no member: it would be refused");
        section.wrong("members", found, "");
    }
    if !peers.is_empty() {
        dialect = dialect.with_unicast(Unicast::new(source, peers)?);
    } else if source.is_some() {
        section.wrong("unicast_source", "a source without peers", "unicast_peers as well");
    }
    Ok(dialect.with_members(members))
}

fn read_password(section: &Section<'_, '_>, path: &PathBuf) -> Option<Vec<u8>> {
    match password(path) {
        Ok(bytes) => Some(bytes),
        Err((found, expected)) => {
            section.wrong("password_file", format!("{}: {found}", path.display()), expected);
            None
        }
    }
}

/// The password of a file that nobody else can read, without the end of its line.
fn password(path: &PathBuf) -> Result<Vec<u8>, (String, &'static str)> {
    let readable = "a file this user can read, holding the password";
    let told = |error: std::io::Error| (error.to_string(), readable);
    let mode = fs::metadata(path).map_err(told)?.mode();
    if mode & 0o077 != 0 {
        return Err((format!("mode {:04o}", mode & 0o7777), "0600: nobody else may read it"));
    }
    let mut bytes = fs::read(path).map_err(told)?;
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}
