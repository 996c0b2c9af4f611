//! The section `[status_page]`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::file::Section;
use crate::http::tls::{Certificate, Files};
use crate::page::{Config, MIN_TOKEN};
use crate::secret::Secret;

/// None without the section.
pub(super) fn read(mut section: Section<'_, '_>) -> Option<Config> {
    if !section.is_present() {
        return None;
    }
    let listen: Option<SocketAddr> = section.required("listen");
    let token = read_token(&mut section);
    let tls = read_tls(&mut section);
    let insecure = section.optional("insecure").unwrap_or(false);
    if let Some(listen) = listen
        && tls.is_none()
        && !insecure
        && !listen.ip().is_loopback()
    {
        let expected = "status_page.certificate as well, an address of this machine only such as \
                        \"127.0.0.1:9109\", or status_page.insecure = true: the admin token would \
                        cross the network in the clear";
        section.wrong("listen", listen.to_string(), expected);
    }
    section.finish();
    Some(Config { listen: listen?, token: token?, tls })
}

/// Nobody but its owner may read it, and it holds one line of printable ASCII.
fn read_token(section: &mut Section<'_, '_>) -> Option<Secret> {
    let path = section.required::<PathBuf>("token_file")?;
    match token(&path) {
        Ok(token) => Some(token),
        Err((found, expected)) => {
            section.wrong("token_file", format!("{}: {found}", path.display()), &expected);
            None
        }
    }
}

/// The token, or what was found and what was expected.
fn token(path: &Path) -> Result<Secret, (String, String)> {
    let unreadable = |error: std::io::Error| {
        (error.to_string(), "a file this user can read, holding the admin token".to_owned())
    };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err((format!("mode {mode:04o}"), "0600: only its owner may read it".to_owned()));
    }
    let mut bytes = std::fs::read(path).map_err(unreadable)?;
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.len() < MIN_TOKEN || !bytes.iter().all(u8::is_ascii_graphic) {
        let expected = format!(
            "one line of at least {MIN_TOKEN} printable ASCII characters without spaces, such as \
             `openssl rand -hex 32` prints"
        );
        return Err(("something else than a token".to_owned(), expected));
    }
    Ok(Secret::new(bytes))
}

fn read_tls(section: &mut Section<'_, '_>) -> Option<Files> {
    let certificate = section.optional("certificate");
    let key = section.optional("key");
    let Some(certificate) = certificate else {
        section.refuse("key", "a key without a certificate", "status_page.certificate as well");
        return None;
    };
    let files = Files { certificate, key };
    if let Err(error) = Certificate::open(files.clone()) {
        let of_key = error.is_key && files.key.is_some();
        let name = if of_key { "status_page.key" } else { "status_page.certificate" };
        section.complaint(name, error.to_string());
    }
    Some(files)
}
