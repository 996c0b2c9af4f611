//! Events as entries of the systemd journal, in its native protocol: every field of an event is
//! a field of the entry, under the names operators and the catalogue know.
//!
//! The crate for this names fields after the code and knows no message ids; what is sent is twenty
//! lines of protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and the naming is the point.

use std::fmt::{self, Write};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::fstat;
use socket2::SockRef;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::message_id;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// As much as the journal's own library asks for: entries wait here while the journal is busy.
const SEND_BUFFER: usize = 8 << 20;

/// Longest value, in bytes; a datagram must fit into the buffer.
const LONGEST: usize = 32 * 1024;

/// What an event's field is called in the journal, where that is not its name in capitals.
const NAMES: [(&str, &str); 6] = [
    ("message", "MESSAGE"),
    ("state.from", "OLD_STATE"),
    ("state.to", "NEW_STATE"),
    ("addresses", "VIP"),
    ("app_id", "EXAPP"),
    ("client.addr", "CLIENT_IP"),
];

/// Whether standard error goes to the journal: the service manager names the socket it made.
pub(super) fn is_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = fstat(io::stderr()) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Sends events to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Entries that were lost because the journal was busy or gone.
    lost: AtomicU64,
}

impl Journal {
    /// A way to the journal that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A thread that must not wait, such as that of VRRP, rather loses an entry.
        socket.set_nonblocking(true)?;
        // Less than that works, too.
        let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
        Ok(Self { socket, lost: AtomicU64::new(0) })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry(Vec::with_capacity(512));
        entry.put("PRIORITY", priority(*metadata.level()));
        entry.put("SYSLOG_IDENTIFIER", "trigon");
        entry.put("TARGET", metadata.target());
        if let Some(id) = message_id::of(metadata.name()) {
            entry.put("MESSAGE_ID", id);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            entry.put("LOST_BEFORE", &lost.to_string());
        }
        event.record(&mut entry);
        if self.socket.send(&entry.0).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        // What an operator would narrate is worth noticing; the rest is not.
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

/// The bytes of one entry.
struct Entry(Vec<u8>);

impl Entry {
    fn put(&mut self, name: &str, value: &str) {
        let value = cut(value);
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    /// A field of an event.
    fn field(&mut self, name: &str, value: &str) {
        match known(name) {
            // A list of addresses is one field each.
            Some("VIP") => {
                let all = value.trim_matches(['[', ']']).split(", ");
                all.filter(|one| !one.is_empty()).for_each(|one| self.put("VIP", one));
            }
            Some("CLIENT_IP") => self.put("CLIENT_IP", &address(value)),
            Some(known) => self.put(known, value),
            None => {
                if let Some(name) = capitals(name) {
                    self.put(&name, value);
                }
            }
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string fails only if the value itself refuses.
        let _ = write!(text, "{value:?}");
        self.field(field.name(), &text);
    }
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs)
}

/// The journal takes capitals, digits and underscores, and a letter first.
fn capitals(name: &str) -> Option<String> {
    let name: String = name
        .trim_start_matches("r#")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    name.starts_with(|c: char| c.is_ascii_uppercase()).then_some(name)
}

/// The address without a port.
fn address(value: &str) -> String {
    let ip = value.parse::<SocketAddr>().map(|with_port| with_port.ip());
    let ip = ip.or_else(|_| value.parse::<IpAddr>());
    ip.map_or_else(|_| value.to_owned(), |ip| ip.to_canonical().to_string())
}

fn cut(value: &str) -> &str {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What a journal gets to read of what `tell` tells.
    fn told(tell: impl FnOnce()) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = Journal::open(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, tell);
        journal.set_nonblocking(true).unwrap();
        let mut entries = Vec::new();
        let mut buffer = vec![0; 128 * 1024];
        while let Ok(length) = journal.recv(&mut buffer) {
            entries.push(buffer[..length].to_vec());
        }
        entries
    }

    fn lines(entry: &[u8]) -> Vec<String> {
        let text = String::from_utf8(entry.to_vec()).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn an_event_of_a_class_arrives_with_its_id_and_the_names_operators_know() {
        let addresses: [IpAddr; 2] = ["10.66.0.100".parse().unwrap(), "fd66::100".parse().unwrap()];
        let entries = told(|| {
            tracing::info!(
                name: "vrrp_transition",
                router = "web", vrid = 66, state.from = %"backup", state.to = %"active",
                reason = %"the Active is silent", addresses = ?addresses,
                "virtual router changed its state"
            );
        });
        let id = message_id::of("vrrp_transition").unwrap();
        let lines = lines(&entries[0]);
        for expected in [
            "MESSAGE=virtual router changed its state",
            &format!("MESSAGE_ID={id}"),
            "PRIORITY=5",
            "SYSLOG_IDENTIFIER=trigon",
            "VRID=66",
            "VIP=10.66.0.100",
            "VIP=fd66::100",
            "OLD_STATE=backup",
            "NEW_STATE=active",
            "REASON=the Active is silent",
            "ROUTER=web",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:?}");
        }
    }

    #[test]
    fn an_address_comes_without_its_port_and_an_event_without_a_class_without_an_id() {
        let entries = told(|| {
            let client: SocketAddr = "[::ffff:192.0.2.7]:4711".parse().unwrap();
            tracing::warn!(client.addr = %client, app_id = "demo", request_id = "id-1", "odd");
        });
        let lines = lines(&entries[0]);
        for expected in
            ["CLIENT_IP=192.0.2.7", "EXAPP=demo", "REQUEST_ID=id-1", "PRIORITY=4", "MESSAGE=odd"]
        {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("MESSAGE_ID=")), "{lines:?}");
    }

    #[test]
    fn a_value_with_line_breaks_cannot_pretend_to_be_another_field() {
        let entries = told(|| tracing::info!(reason = "a\nMESSAGE_ID=x", "m"));
        let value = b"a\nMESSAGE_ID=x";
        let mut expected = b"REASON\n".to_vec();
        expected.extend_from_slice(&(value.len() as u64).to_le_bytes());
        expected.extend_from_slice(value);
        let found = entries[0].windows(expected.len()).any(|window| window == expected);
        assert!(found, "{:?}", String::from_utf8_lossy(&entries[0]));
    }

    #[test]
    fn a_value_of_any_length_fits() {
        let long = "x".repeat(5 << 20);
        let entries = told(|| tracing::info!(reason = long.as_str(), "m"));
        assert!(entries[0].len() < LONGEST + 1024);
    }

    #[test]
    fn names_are_what_the_journal_takes() {
        for (name, expected) in [
            ("lasted_ms", Some("LASTED_MS")),
            ("bytes.up", Some("BYTES_UP")),
            ("r#type", Some("TYPE")),
            ("_hidden", None),
            ("", None),
        ] {
            assert_eq!(capitals(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn without_a_journal_there_is_none() {
        assert!(Journal::open(Path::new("/nowhere/socket")).is_err());
    }
}
