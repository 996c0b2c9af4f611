//! Starts from HaRP's variables in place of a file: reads the environment and the key file it
//! names, and hands the document [`env`](super::env) makes of them to the one parser.

use std::path::Path;

use super::env::{CERTIFICATE, Environment, FRP_CERTIFICATES, Files, NAME, Note, Translation};
use super::parse::{Config, parse_with_key};
use super::problem::Problems;

/// The environment of this process.
pub fn environment() -> Environment {
    // What is no UTF-8 stays visible as a bad character, and is refused wherever it matters.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    Environment::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
}

/// What the variables mean; reads the files they name, and looks for certificates in `certs`,
/// which is HaRP's `/certs`.
pub fn translate(environment: &Environment, certs: &Path) -> Translation {
    let key = environment.key_file();
    let key = key.map(|path| std::fs::read(path).map_err(|error| error.to_string()));
    let path = |path: &Path| std::path::absolute(path).ok()?.to_str().map(str::to_owned);
    let certificate = certs.join(CERTIFICATE);
    let frp = certs.join(FRP_CERTIFICATES);
    environment.translate(&Files {
        key,
        certificate: certificate.exists().then(|| path(&certificate)).flatten(),
        // HaRP makes none with HP_FRP_DISABLE_TLS.
        frp_certificates: frp.join("ca.crt").exists().then(|| path(&frp)).flatten(),
    })
}

/// The configuration these variables make, and what of them was ignored or changed.
///
/// # Errors
/// Every problem at once, each with the variable it is about.
pub fn load(environment: &Environment, certs: &Path) -> Result<(Config, Vec<Note>), Problems> {
    let made = translate(environment, certs);
    let secret = made.key.as_ref().map(|key| key.secret.clone());
    let parsed = parse_with_key(NAME, &made.document.toml(), secret);
    let (config, found) = match parsed {
        Ok(config) => (Some(config), Vec::new()),
        Err(problems) => (None, problems.0),
    };
    match (config, made.merge(found)) {
        (Some(config), problems) if problems.is_empty() => Ok((config, made.notes)),
        (_, problems) => Err(Problems(problems)),
    }
}
