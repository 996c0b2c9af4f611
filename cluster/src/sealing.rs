//! What is sealed before it is proposed and opened only where it is used: tokens of ExApps, and the
//! key cookies are hashed with. A witness has no key and sees neither.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::command::Command;
use crate::dice;
use crate::engine::Engine;
use crate::record::{ExApp, SealedExApp, Tenant};
use crate::seal::{Kek, Secret};
use crate::state::{Epoch, SealedKey, State, is_due};

/// Bytes of a session key.
const KEY_LEN: usize = 32;

/// How often a node looks whether another session key is due.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait until a new session key is in force.
const CONFIRM: Duration = Duration::from_secs(5);

/// The keys cookies are hashed with, opened.
#[derive(Clone, Debug, Default)]
pub struct SessionKeys {
    /// Which one is in force.
    pub epoch: Epoch,
    /// The key in force; none when there is none yet or it cannot be opened here.
    pub current: Option<Secret>,
    /// The one before.
    pub previous: Option<Secret>,
}

/// Names the token of one ExApp of one tenant, so that none can be passed off as another's.
fn token_of(tenant: &Tenant, id: &str) -> String {
    format!("exapp token/{tenant}/{id}")
}

/// Without a key of the cluster the record goes without its token, and whoever needs that asks
/// Nextcloud.
pub(crate) fn seal_exapp(kek: Option<&Kek>, tenant: &Tenant, record: &ExApp) -> SealedExApp {
    let ExApp { id, token, version, host, port, routes } = record.clone();
    let seal = |kek: &Kek| kek.seal(&token_of(tenant, &id), token.as_bytes());
    let token = kek.map(seal).unwrap_or_default();
    SealedExApp { id, token, version, host, port, routes }
}

/// None when its token cannot be opened here.
pub(crate) fn open_exapp(kek: &Kek, tenant: &Tenant, record: &SealedExApp) -> Option<ExApp> {
    let token = kek.open(&token_of(tenant, &record.id), &record.token)?;
    let token = String::from_utf8(token.expose().to_vec()).ok()?;
    let SealedExApp { id, version, host, port, routes, .. } = record.clone();
    Some(ExApp { id, token, version, host, port, routes })
}

fn name(epoch: u64) -> String {
    format!("session key/{epoch}")
}

/// The command that puts the next session key in force.
pub(crate) fn next_session_key(kek: &Kek, state: &State, at: u64) -> Command {
    let mut key = [0; KEY_LEN];
    dice::fill(&mut key);
    let epoch = state.session_epoch().number + 1;
    Command::RotateSessionKey { epoch, key: kek.seal(&name(epoch), &key), at }
}

pub(crate) fn open_session_keys(kek: &Kek, state: &State) -> SessionKeys {
    let keys = state.session_keys();
    let open = |sealed: &SealedKey| kek.open(&name(sealed.epoch), &sealed.key);
    SessionKeys {
        epoch: state.session_epoch(),
        current: keys.current().and_then(open),
        previous: keys.previous().and_then(open),
    }
}

impl Engine {
    /// Makes a session key when one is due, until dropped.
    pub(crate) async fn run_session_keys(self: Arc<Self>, kek: Arc<Kek>) {
        loop {
            sleep(LOOK).await;
            let now = (self.clock)();
            let next = self.view.read(|state| {
                is_due(state.session_keys(), now).then(|| next_session_key(&kek, state, now))
            });
            let Some(next) = next else { continue };
            if let Err(error) = self.propose(next, CONFIRM).await {
                tracing::debug!(%error, "session key waits for the cluster");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::record::{AccessLevel, Route};

    const TOKEN: &str = "a token that no witness may see";

    fn record() -> ExApp {
        ExApp {
            id: "demo".into(),
            token: TOKEN.into(),
            version: "1".into(),
            host: "127.0.0.1".into(),
            port: 23000,
            routes: vec![Route {
                url: ".*".into(),
                access_level: AccessLevel::Public,
                bruteforce_protection: vec![401],
            }],
        }
    }

    fn shows(bytes: &[u8], secret: &[u8]) -> bool {
        bytes.windows(secret.len()).any(|window| window == secret)
    }

    #[test]
    fn a_record_is_opened_with_the_key_and_as_the_one_it_is() {
        let (kek, other) = (Kek::generate(), Kek::generate());
        let (ours, theirs) = (Tenant::default(), Tenant::new("b"));
        let sealed = seal_exapp(Some(&kek), &ours, &record());
        assert_eq!(open_exapp(&kek, &ours, &sealed), Some(record()));
        assert_eq!(open_exapp(&other, &ours, &sealed), None);
        assert_eq!(open_exapp(&kek, &theirs, &sealed), None, "of another tenant");
        let renamed = SealedExApp { id: "other".into(), ..sealed };
        assert_eq!(open_exapp(&kek, &ours, &renamed), None, "of another ExApp");
        let bare = seal_exapp(None, &ours, &record());
        assert!(bare.token.is_empty());
        assert_eq!(open_exapp(&kek, &ours, &bare), None);
    }

    #[test]
    fn neither_the_log_nor_the_state_shows_a_secret() {
        let kek = Kek::generate();
        let tenant = Tenant::default();
        let mut state = State::default();
        let push = Command::PushExApp {
            tenant: tenant.clone(),
            record: seal_exapp(Some(&kek), &tenant, &record()),
        };
        let mut logged = Vec::new();
        for command in [push, next_session_key(&kek, &state, 7)] {
            logged.extend(codec::encode(&command).unwrap());
            state.apply(&command);
        }
        let keys = open_session_keys(&kek, &state);
        let key = keys.current.unwrap();
        assert_eq!((keys.epoch.number, key.expose().len()), (1, KEY_LEN));
        let stored = codec::encode(&state).unwrap();
        for bytes in [logged, stored] {
            assert!(shows(&bytes, b"demo"), "what is no secret is there");
            assert!(!shows(&bytes, TOKEN.as_bytes()));
            assert!(!shows(&bytes, key.expose()));
        }
        let next = next_session_key(&kek, &state, 8);
        state.apply(&next);
        let rotated = open_session_keys(&kek, &state);
        assert_eq!(rotated.epoch.number, 2);
        assert_eq!(rotated.previous, Some(key));
        assert!(open_session_keys(&Kek::generate(), &state).current.is_none());
    }
}
