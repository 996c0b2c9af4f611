//! What stands around the subject: a stand-in Nextcloud and an ExApp, once for all tests of the
//! process, on a thread of their own.
//!
//! Every row has ExApps and visitors of its own, registered while it runs. They are told apart by
//! the row's number at the end of their names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread;

use trigon::lab::exapp::{self, Seen};
use trigon::lab::journal::Journal;
use trigon::lab::nextcloud::{App, Call, Canned, Directory, Faults, Nextcloud, Route, User};
use trigon::secret::Secret;

use super::subject::Settings;

/// The ExApps' secret.
pub(crate) const TOKEN: &str = "secret-of-the-exapp";
/// Their version.
pub(crate) const VERSION: &str = "1.2.3";

pub(crate) struct Stage {
    pub(crate) nextcloud: Nextcloud,
    pub(crate) asked: Journal<Call>,
    pub(crate) seen: Journal<Seen>,
    pub(crate) nextcloud_address: SocketAddr,
    pub(crate) exapp_address: SocketAddr,
    /// Host and port the records name.
    pub(crate) recorded: (String, u16),
}

/// Pattern, access level and listed statuses, in the order they are tried.
type Routes = [(&'static str, u8, &'static [u16])];

/// Routes by the name of the ExApp.
const PROFILES: [(&str, &Routes); 9] = [
    (
        "demo",
        &[
            ("^/public", 0, &[]),
            ("^/user", 1, &[]),
            ("^/admin", 2, &[]),
            ("^/exact$", 0, &[]),
            ("/mid", 0, &[]),
            ("bare", 0, &[]),
            ("(", 0, &[]),
            ("/Case", 0, &[]),
            (r"^/api/v\d+/", 1, &[]),
            ("/shared", 0, &[]),
            ("/shared", 2, &[]),
            ("^/twice", 1, &[]),
            ("^/twice-open", 0, &[]),
            ("^/item/{id}$", 0, &[]),
            ("^/(js|css)/.*", 0, &[]),
            ("^/(status|echo|sink|headers|ws|events|source)", 0, &[]),
        ],
    ),
    // A catch-all behind a stricter route.
    ("wide", &[("^/admin", 2, &[]), (".*", 1, &[])]),
    ("open", &[("", 0, &[])]),
    ("closed", &[]),
    // Look-around and back-references, which a linear engine does not have.
    (
        "clever",
        &[(r"^/(?!private)\w+$", 0, &[]), (r"^/(\w+)/\1$", 0, &[]), (r"^/(?i:same)$", 0, &[])],
    ),
    ("slow", &[(r"^/(?:(a+)\1*)+$", 2, &[]), (".*", 0, &[])]),
    ("listed", &[("^/status/401", 0, &[401, 429]), ("^/status", 0, &[403]), ("^/", 1, &[401])]),
    // Nowhere: no port, no name.
    ("shut", &[("", 0, &[])]),
    ("nowhere", &[("", 0, &[])]),
];

/// Visitors by the last word of their passphrase.
const VISITORS: [(&str, &str, u8); 4] = [
    ("alice", "alice", 1),
    ("admin", "admin", 2),
    ("disabled", "disabled", 0),
    ("zoe", "zo\u{eb}", 1),
];

impl Stage {
    /// The one stage of this process.
    pub(crate) fn get() -> &'static Self {
        static STAGE: OnceLock<Stage> = OnceLock::new();
        STAGE.get_or_init(|| Self::build(&Settings::get().into()))
    }

    fn build(places: &Places) -> Self {
        let mut directory = Directory::new(Secret::new(&*Settings::get().key));
        directory.same_site = true;
        directory.apps.insert("probe".into(), app(&places.recorded, &[]));
        let (asked, seen) = (Journal::default(), Journal::default());
        let nextcloud = Nextcloud::noting(directory, asked.clone());
        let (send, addresses) = std::sync::mpsc::channel();
        let (served, noted, places) = (nextcloud.clone(), seen.clone(), places.clone());
        let recorded = places.recorded.clone();
        // Ends with the process, like the value.
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let nextcloud = tokio::net::TcpListener::bind(places.nextcloud).await.unwrap();
                let exapp = tokio::net::TcpListener::bind(places.exapp).await.unwrap();
                let bound = (nextcloud.local_addr().unwrap(), exapp.local_addr().unwrap());
                send.send(bound).unwrap();
                tokio::join!(served.serve(nextcloud), exapp::serve_tcp_noting(exapp, noted));
            });
        });
        let (nextcloud_address, exapp_address) = addresses.recv().unwrap();
        Self { nextcloud, asked, seen, nextcloud_address, exapp_address, recorded }
    }

    /// Registers the row's ExApps and visitors.
    pub(crate) fn open(&self, n: &str) {
        self.nextcloud.change(|directory| {
            for (name, routes) in PROFILES {
                let mut app = app(&self.recorded, routes);
                match name {
                    "shut" => app.port = 1,
                    "nowhere" => app.host = "exapp.invalid".into(),
                    _ => {}
                }
                directory.apps.insert(format!("{name}{n}"), app);
            }
            for (word, id, access_level) in VISITORS {
                let user = User { user_id: id.into(), access_level };
                directory.sessions.insert(format!("passphrase-of-{word}-{n}"), user.clone());
                directory.passwords.insert(format!("{word}:password-of-{word}-{n}"), user.clone());
                directory.tokens.insert(format!("token-of-{word}-{n}"), user);
            }
        });
    }

    /// Forgets them.
    pub(crate) fn close(&self, n: &str) {
        fn keep<T>(map: &mut HashMap<String, T>, is_mine: impl Fn(&str) -> bool) {
            map.retain(|key, _| !is_mine(key));
        }
        self.nextcloud.change(|directory| {
            keep(&mut directory.apps, |key| belongs(key, n));
            keep(&mut directory.faults, |key| belongs(key, n));
            keep(&mut directory.sessions, |key| belongs(key, n));
            keep(&mut directory.passwords, |key| belongs(key, n));
            keep(&mut directory.tokens, |key| belongs(key, n));
        });
    }

    /// Edits one record of a row.
    pub(crate) fn edit(&self, id: &str, edit: impl FnOnce(&mut App)) {
        self.nextcloud.change(|directory| {
            directory.apps.get_mut(id).map(edit).unwrap();
        });
    }

    /// Answers `exapp-meta` about `id` with this from now on.
    pub(crate) fn meta_says(&self, id: &str, status: u16, content_type: &'static str, body: &str) {
        let canned = Canned { status, content_type, body: body.into() };
        self.fault(id, |faults| faults.exapp_meta = Some(canned));
    }

    /// Answers `user-info` on behalf of `id` with this from now on.
    pub(crate) fn user_says(&self, id: &str, status: u16, content_type: &'static str, body: &str) {
        let canned = Canned { status, content_type, body: body.into() };
        self.fault(id, |faults| faults.user_info = Some(canned));
    }

    /// Answers truly about `id` again.
    pub(crate) fn heal(&self, id: &str) {
        self.nextcloud.change(|directory| {
            directory.faults.remove(id);
        });
    }

    fn fault(&self, id: &str, set: impl FnOnce(&mut Faults)) {
        self.nextcloud.change(|directory| set(directory.faults.entry(id.into()).or_default()));
    }
}

/// Whether a name ends in the row's number and not in a longer one.
pub(crate) fn belongs(name: &str, n: &str) -> bool {
    name.strip_suffix(n).is_some_and(|rest| !rest.ends_with(|last: char| last.is_ascii_digit()))
}

fn app(recorded: &(String, u16), routes: &Routes) -> App {
    let route = |(url, access_level, statuses): &(&str, u8, &'static [u16])| Route {
        url: (*url).into(),
        access_level: *access_level,
        bruteforce_protection: statuses.to_vec(),
    };
    App {
        exapp_token: TOKEN.into(),
        exapp_version: VERSION.into(),
        host: recorded.0.clone(),
        port: recorded.1,
        routes: routes.iter().map(route).collect(),
    }
}

/// Where the stand-ins listen and what the records say.
#[derive(Clone)]
struct Places {
    nextcloud: SocketAddr,
    exapp: SocketAddr,
    recorded: (String, u16),
}

impl From<&Settings> for Places {
    fn from(settings: &Settings) -> Self {
        let recorded = match settings.exapp {
            // The port of the tunnel; Trigon holds loopback records to be that.
            None => ("127.0.0.1".into(), super::subject::TUNNEL),
            Some(address) => (address.ip().to_string(), address.port()),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            nextcloud: settings.nextcloud.unwrap_or(any),
            exapp: settings.exapp.unwrap_or(any),
            recorded,
        }
    }
}
