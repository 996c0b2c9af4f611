//! HaRP's environment variables (contract 5) as a configuration of Trigon. Sans-io: variables and
//! the content of files come in, a TOML document, notes and problems come out; [`super::load`]
//! reads the real environment.
//!
//! `value` knows how single values are written, `document` writes the TOML, `file` reads
//! `--env-file`. A bad value HaRP would ignore or crash on is a problem that names its variable.

mod document;
pub mod file;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml::Value;

pub use document::Document;
use document::Setting;
use value::Read;

use super::problem::Problem;
use crate::nextcloud;
use crate::secret::Secret;

/// What problems of an environment name as their file.
pub const NAME: &str = "environment";

/// Where HaRP keeps certificates.
pub const CERTS: &str = "/certs";

/// Below it: a certificate with its key, which makes HaRP open its HTTPS port.
pub const CERTIFICATE: &str = "cert.pem";

/// Below it: the certificates of the FRP port.
pub const FRP_CERTIFICATES: &str = "frp";

const HTTPS: &str = "HP_EXAPPS_HTTPS_ADDRESS";
const KEY: &str = "HP_SHARED_KEY";
const KEY_FILE: &str = "HP_SHARED_KEY_FILE";
const URL: &str = "NC_INSTANCE_URL";
const PROXIES: &str = "HP_TRUSTED_PROXY_IPS";
const KUBERNETES: &str = "HP_K8S_ENABLED";

/// Variable, section, key, how the value is read.
type Row = (&'static str, &'static str, &'static str, fn(&str) -> Read);

/// Every variable that is one key of Trigon. The last two are Trigon's own, for containers.
const ROWS: &[Row] = &[
    ("HP_LOG_LEVEL", "log", "level", value::level),
    (URL, "nextcloud", "url", url),
    ("HP_EXAPPS_ADDRESS", "exapps", "listen", value::address),
    ("HP_SESSION_LIFETIME", "exapps", "session_lifetime", value::lifetime),
    ("HP_BLACKLIST_COUNT", "exapps", "ban_count", value::count),
    ("HP_BLACKLIST_WINDOW", "exapps", "ban_window", value::seconds),
    ("HP_TIMEOUT_CONNECT", "exapps", "timeout_connect", value::time),
    ("HP_TIMEOUT_CLIENT", "exapps", "timeout_client", value::time),
    ("HP_TIMEOUT_SERVER", "exapps", "timeout_server", value::time),
    ("HP_TIMEOUT_TUNNEL", "exapps", "timeout_tunnel", value::tunnel_time),
    ("HP_FRP_ADDRESS", "frp", "listen", value::address),
    ("HP_FRP_DISABLE_TLS", "frp", "tls", value::tls),
    ("HP_FRP_CERT_VALIDITY_DAYS", "frp", "certificate_days", value::days),
    ("TRIGON_STATE_DIR", "node", "state_dir", value::text),
    ("TRIGON_ADMIN_SOCKET", "node", "admin_socket", value::text),
];

/// Variables HaRP needs and Trigon does not, by how their names begin.
const IGNORED: &[(&str, &str)] = &[
    ("HP_SPOA_ADDRESS", "there is no agent that would need a port"),
    ("HP_WATCHDOG_", "there is no agent that would have to be watched"),
    ("HP_WAIT_", "there is one process, which waits for no other"),
    ("HP_VERBOSE_START", "nothing is generated that could be printed"),
    ("HP_K8S_", "Kubernetes is not served"),
];

/// The variables that concern HaRP or Trigon. Those that are blank count as not set.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What lies in the files that variables point to, or would lie at fixed places.
#[derive(Debug, Default)]
pub struct Files {
    /// Content of [`Environment::key_file`], or why it cannot be read.
    pub key: Option<Result<Vec<u8>, String>>,
    /// The certificate of the HTTPS port, if there is one.
    pub certificate: Option<String>,
    /// The directory with the certificates of the FRP port, if there is one.
    pub frp_certificates: Option<String>,
}

/// Something an operator should know that is no problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The variable it is about.
    pub variable: String,
    /// What happened to it.
    pub text: String,
    /// Whether it may be a mistake.
    pub warn: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.text)
    }
}

/// The shared key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key itself, as HaRP takes it.
    pub secret: Secret,
    /// Whether the file of [`Environment::key_file`] holds exactly this key, so that a
    /// configuration may name that file.
    pub file_is_usable: bool,
    /// Where it comes from.
    pub variable: &'static str,
}

/// What an environment means.
#[derive(Debug, Default)]
pub struct Translation {
    /// Everything but the shared key.
    pub document: Document,
    /// The shared key, when there is a usable one.
    pub key: Option<Key>,
    /// What was ignored or changed.
    pub notes: Vec<Note>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Environment {
    /// Picks the variables that matter from a whole environment; of a name that is there twice
    /// the last one counts.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours =
            |name: &str| name.starts_with("HP_") || name.starts_with("TRIGON_") || name == URL;
        let all: BTreeMap<_, _> = variables.into_iter().collect();
        let kept = all.into_iter().filter(|(name, text)| ours(name) && !text.trim().is_empty());
        Self(kept.collect())
    }

    /// The file the key is to be read from.
    pub fn key_file(&self) -> Option<&str> {
        self.get(KEY_FILE).map(value::unquote)
    }

    /// Everything the variables say.
    pub fn translate(&self, files: &Files) -> Translation {
        let mut all = Translation::default();
        for (variable, section, key, read) in ROWS {
            let Some(text) = self.get(variable) else { continue };
            match read(text) {
                Ok(value) => all.set(variable, section, key, value),
                Err(expected) => all.wrong(variable, shown(variable, text), expected),
            }
        }
        if self.get(URL).is_none() {
            all.wrong(URL, "nothing".into(), "the base URL of Nextcloud".into());
        }
        self.certificates(files, &mut all);
        self.proxies(&mut all);
        self.kubernetes(&mut all);
        match self.key(files) {
            Ok(key) => all.key = Some(key),
            Err((variable, found, expected)) => all.wrong(variable, found, expected),
        }
        self.rest(&mut all);
        all
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// HTTPS is there when its certificate is, whatever the address says.
    fn certificates(&self, files: &Files, all: &mut Translation) {
        let text = self.get(HTTPS);
        match (text.map(value::address), &files.certificate) {
            (Some(Err(expected)), _) => {
                all.wrong(HTTPS, shown(HTTPS, text.unwrap_or_default()), expected);
            }
            (Some(Ok(address)), Some(_)) => all.set(HTTPS, "exapps", "tls_listen", address),
            (Some(Ok(_)), None) => {
                all.note(HTTPS, format!("no HTTPS: there is no {CERTS}/{CERTIFICATE}"), false);
            }
            (None, _) => {}
        }
        if let Some(path) = &files.certificate {
            all.set(CERTS, "exapps", "tls_certificate", path.as_str().into());
        }
        if let Some(path) = &files.frp_certificates {
            all.set(CERTS, "frp", "certificates_from", path.as_str().into());
        }
    }

    fn proxies(&self, all: &mut Translation) {
        let Some(list) = self.get(PROXIES) else { return };
        let mut networks = Vec::new();
        for entry in list.split(',').filter(|entry| !entry.trim().is_empty()) {
            match value::network(entry) {
                Some((net, masked)) => {
                    if masked {
                        all.note(PROXIES, format!("{} is taken as {net}", entry.trim()), true);
                    }
                    networks.push(Value::from(net.to_string()));
                }
                None => {
                    let expected = "addresses and networks such as \"192.0.2.1, 10.0.0.0/8\"";
                    all.wrong(PROXIES, format!("\"{}\"", entry.trim()), expected.into());
                }
            }
        }
        all.set(PROXIES, "exapps", "trusted_proxies", networks.into());
    }

    fn kubernetes(&self, all: &mut Translation) {
        let Some(text) = self.get(KUBERNETES) else { return };
        let word = value::unquote(text.trim()).to_ascii_lowercase();
        if !matches!(word.as_str(), "false" | "0" | "no" | "off") {
            let expected = "false: Trigon serves Docker engines and no Kubernetes";
            all.wrong(KUBERNETES, format!("\"{text}\""), expected.into());
        }
    }

    /// HaRP's rules: exactly one of the two variables; newlines at the end of a file are dropped;
    /// printable ASCII; quotes are stripped; no `"` and no `\` inside.
    fn key(&self, files: &Files) -> Result<Key, (&'static str, String, String)> {
        let (variable, raw) = match (self.get(KEY), &files.key) {
            (Some(_), Some(_)) => {
                return Err((KEY, format!("{KEY_FILE} beside it"), "one of the two".into()));
            }
            (Some(key), None) => (KEY, key.as_bytes()),
            (None, Some(Ok(content))) => (KEY_FILE, content.as_slice()),
            (None, Some(Err(error))) => {
                let found = format!("{}: {error}", self.key_file().unwrap_or_default());
                return Err((KEY_FILE, found, "a file that holds the shared key".into()));
            }
            (None, None) => {
                let expected = format!("the shared key, or {KEY_FILE} with the file that holds it");
                return Err((KEY, "nothing".into(), expected));
            }
        };
        let end = raw.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
        let raw = end.map_or(&[][..], |end| &raw[..=end]);
        let wrong = |found: &str| {
            Err((variable, found.to_owned(), "one line of printable ASCII".to_owned()))
        };
        let Some(text) = std::str::from_utf8(raw).ok().filter(|text| is_printable(text)) else {
            return wrong("other bytes than printable ASCII");
        };
        let key = value::unquote(text);
        if key.is_empty() {
            return wrong("an empty key");
        }
        if key.contains(['"', '\\']) {
            let expected = "a key without them, as HaRP wants it; with exapps.shared_key_file in a \
                            configuration file they are allowed";
            return Err((variable, "a \" or a \\ in the key".into(), expected.into()));
        }
        let file_is_usable = variable == KEY_FILE && key == text;
        Ok(Key { secret: Secret::new(key), file_is_usable, variable })
    }

    /// What nobody asked for.
    fn rest(&self, all: &mut Translation) {
        let known: BTreeSet<_> = ROWS.iter().map(|(variable, ..)| *variable).collect();
        let more = [KEY, KEY_FILE, URL, HTTPS, PROXIES, KUBERNETES, "TRIGON_LOG"];
        for name in self.0.keys() {
            if known.contains(name.as_str()) || more.contains(&name.as_str()) {
                continue;
            }
            match IGNORED.iter().find(|(start, _)| name.starts_with(start)) {
                Some((_, why)) => all.note(name, format!("ignored: {why}"), false),
                None => all.note(name, "ignored: HaRP has no such variable".into(), true),
            }
        }
    }
}

impl Translation {
    fn set(
        &mut self,
        variable: &'static str,
        section: &'static str,
        key: &'static str,
        value: Value,
    ) {
        self.document.0.push(Setting { section, key, value, variable });
    }

    fn wrong(&mut self, variable: &str, found: String, expected: String) {
        let (file, key) = (NAME.to_owned(), variable.to_owned());
        self.problems.push(Problem { file, line: 0, key, found, expected });
    }

    fn note(&mut self, variable: &str, text: String, warn: bool) {
        self.notes.push(Note { variable: variable.to_owned(), text, warn });
    }

    /// All problems, with those the parser had with the document: they get the name of the
    /// variable, and nothing is told twice.
    pub fn merge(&self, parsed: Vec<Problem>) -> Vec<Problem> {
        let mut problems = self.problems.clone();
        for mut problem in parsed {
            let required = match problem.key.as_str() {
                "nextcloud.url" => Some(URL),
                "exapps.shared_key_file" => Some(KEY),
                _ => None,
            };
            if let Some(variable) = self.document.variable(&problem.key).or(required) {
                problem.key = variable.to_owned();
            }
            let told = |known: &Problem| {
                known.key == problem.key || (problem.key == KEY && known.key == KEY_FILE)
            };
            if !problems.iter().any(told) {
                problem.line = 0;
                problems.push(problem);
            }
        }
        problems
    }
}

/// Secrets are in no environment but the key's, which never gets here, and perhaps in a URL.
fn shown(variable: &str, text: &str) -> String {
    if variable == URL && text.contains('@') {
        return "a URL with a user in it".into();
    }
    format!("\"{}\"", text.chars().take(60).collect::<String>())
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn url(text: &str) -> Read {
    let url = value::unquote(text.trim());
    if nextcloud::Config::is_usable_url(url) {
        Ok(url.into())
    } else {
        Err("a URL such as \"https://cloud.example.org\"".into())
    }
}

#[cfg(test)]
mod tests;
