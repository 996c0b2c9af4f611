//! Who a visitor is: Nextcloud's answer, remembered for a few seconds.
//!
//! The key is a keyed hash over everything Nextcloud tells visitors apart by, so that neither a
//! new login in the same browser nor a leaked passphrase alone can ride on a remembered answer
//! (weakness W11), and no cookie ever leaves this node. `session_keys` has what it is keyed with.
//! Answers are shared with the other nodes; losing them costs one call each.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use cluster::record::{MAX_SESSIONS, SessionKey, Tenant, User};
use cluster::{Handle, Soft};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use moka::future::Cache;

use super::session_keys::SessionKeys;
use crate::access::AppId;
use crate::nextcloud;
use crate::observe::metrics::{Counter, metrics};

/// What the hash begins with, so that no other use of a key makes the same one.
const LABEL: &[u8] = b"trigon/session/v1\0";

/// Cheap to clone; all clones are one memory.
#[derive(Clone)]
pub struct Sessions {
    tenant: Tenant,
    keys: Arc<SessionKeys>,
    lifetime: Duration,
    near: Cache<SessionKey, User>,
    cluster: Handle,
    nextcloud: nextcloud::Client,
    lookups: Lookups,
}

/// How often each source has answered.
#[derive(Clone)]
struct Lookups {
    here: Counter,
    cluster: Counter,
    nextcloud: Counter,
}

/// Why an answer is not remembered.
enum Miss {
    /// Nextcloud refuses the credentials.
    Refused,
    Failed(Arc<nextcloud::Error>),
}

/// Nextcloud could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session: Nextcloud could not be asked")]
pub struct Error(#[source] pub Arc<nextcloud::Error>);

impl Sessions {
    /// Remembers what one tenant's Nextcloud answers for `lifetime` (`HP_SESSION_LIFETIME`); zero
    /// asks every time.
    pub fn new(
        tenant: Tenant,
        lifetime: Duration,
        cluster: Handle,
        nextcloud: nextcloud::Client,
    ) -> Self {
        let near = Cache::builder()
            .max_capacity(MAX_SESSIONS as u64)
            .time_to_live(lifetime.max(Duration::from_millis(1)))
            .build();
        let keys = Arc::new(SessionKeys::new(cluster.clone()));
        let lookups = Lookups {
            here: metrics().session_hits("here"),
            cluster: metrics().session_hits("cluster"),
            nextcloud: metrics().session_misses(),
        };
        Self { tenant, keys, lifetime, near, cluster, nextcloud, lookups }
    }

    /// Whom the visitor's headers belong to; `None` when Nextcloud refuses the credentials.
    /// `ask_with` builds the headers for Nextcloud if it has to be asked.
    ///
    /// # Errors
    /// Nextcloud gave no usable answer. Everybody who waited for the same one gets the same error.
    pub async fn user(
        &self,
        id: &AppId,
        visitor: &HeaderMap,
        ask_with: impl FnOnce() -> HeaderMap + Send,
    ) -> Result<Option<User>, Error> {
        let hashed = if self.lifetime.is_zero() { None } else { self.session_keys(visitor) };
        let Some((key, previous)) = hashed else {
            self.lookups.nextcloud.inc();
            let asked = Box::pin(self.nextcloud.user_info(id.as_str(), ask_with())).await;
            return asked.map_err(|error| Error(Arc::new(error)));
        };
        for key in std::iter::once(key).chain(previous) {
            if let Some(user) = self.near.get(&key).await {
                self.lookups.here.inc();
                return Ok(Some(user));
            }
            if let Some(user) = self.cluster.session(&key) {
                self.lookups.cluster.inc();
                return Ok(Some(user));
            }
        }
        self.lookups.nextcloud.inc();
        let ask = async {
            match self.nextcloud.user_info(id.as_str(), ask_with()).await {
                Ok(Some(user)) => {
                    self.share(key, &user);
                    Ok(user)
                }
                Ok(None) => Err(Miss::Refused),
                Err(error) => Err(Miss::Failed(Arc::new(error))),
            }
        };
        // Boxed: a request that need not ask is not to carry this along.
        match Box::pin(self.near.try_get_with(key, ask)).await {
            Ok(user) => Ok(Some(user)),
            Err(miss) => match &*miss {
                Miss::Refused => Ok(None),
                Miss::Failed(error) => Err(Error(Arc::clone(error))),
            },
        }
    }

    fn share(&self, key: SessionKey, user: &User) {
        let (user, lifetime) = (user.clone(), self.lifetime);
        self.cluster.share(Soft::Session { key, user, lifetime });
    }

    /// The visitor's key, and that of the epoch before while it counts. `None` for visitors without
    /// a passphrase cookie, who are never remembered.
    fn session_keys(&self, headers: &HeaderMap) -> Option<(SessionKey, Option<SessionKey>)> {
        let keys = self.keys.load();
        let current = self.session_key(&keys.current, headers)?;
        Some((current, keys.previous().and_then(|key| self.session_key(key, headers))))
    }

    fn session_key(&self, key: &hmac::Key, headers: &HeaderMap) -> Option<SessionKey> {
        let mut hash = hmac::Context::with_key(key);
        hash.update(LABEL);
        feed(&mut hash, self.tenant.as_str().as_bytes());
        let mut remembered = false;
        for (name, value) in cookies(headers).filter(|(name, _)| is_nextclouds(name)) {
            remembered |= name == b"oc_sessionPassphrase" && !value.is_empty();
            feed(&mut hash, name);
            feed(&mut hash, value);
        }
        if !remembered {
            return None;
        }
        for value in headers.get_all(AUTHORIZATION) {
            feed(&mut hash, b"\0authorization");
            feed(&mut hash, value.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.sign().as_ref()[..16]);
        Some(SessionKey(key))
    }
}

/// Length first, so that no two lists of fields feed the same bytes.
fn feed(hash: &mut hmac::Context, field: &[u8]) {
    hash.update(&(field.len() as u64).to_be_bytes());
    hash.update(field);
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';')).map(
        |pair| {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            (&pair[..at], pair.get(at + 1..).unwrap_or_default())
        },
    )
}

/// Nextcloud's own cookies: the session (named by the instance id, `oc` and ten characters), its
/// passphrase, remember-me and same-site cookies, with the prefixes browsers know.
fn is_nextclouds(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"__Host-").unwrap_or(name);
    let name = name.strip_prefix(b"__Secure-").unwrap_or(name);
    name.starts_with(b"oc") || name.starts_with(b"nc_")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::nextcloud::testing::{KEY, Nextcloud};
    use crate::secret::Secret;

    const ALICE: &str =
        "oc_sessionPassphrase=p; nc_sameSiteCookielax=true; ocinstance=alice-session";
    const LIFETIME: Duration = Duration::from_secs(3);

    fn visitor(cookies: &str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookies.parse().unwrap());
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    async fn start() -> (Arc<Nextcloud>, nextcloud::Client) {
        let (nextcloud, url) = Nextcloud::start().await;
        nextcloud.register("demo", "127.0.0.1", 23001, &[]);
        let key = Secret::new(KEY);
        (nextcloud, nextcloud::Client::new(nextcloud::Config::new(url, key)).unwrap())
    }

    async fn id(sessions: &Sessions, cookies: &str) -> Option<String> {
        let headers = visitor(cookies, None);
        let app = AppId::from_display("demo");
        sessions.user(&app, &headers, || headers.clone()).await.unwrap().map(|user| user.id)
    }

    #[tokio::test]
    async fn what_one_node_has_asked_another_knows() {
        let (nextcloud, client) = start().await;
        let cluster = Handle::in_memory(1);
        let [here, there, other] = ["", "", "other"].map(|tenant| {
            Sessions::new(Tenant::new(tenant), LIFETIME, cluster.clone(), client.clone())
        });
        assert_eq!(id(&here, ALICE).await.as_deref(), Some("alice"));
        assert_eq!(id(&there, ALICE).await.as_deref(), Some("alice"));
        assert_eq!(nextcloud.user_calls.load(Ordering::SeqCst), 1);
        assert_eq!(id(&other, ALICE).await.as_deref(), Some("alice"));
        assert_eq!(nextcloud.user_calls.load(Ordering::SeqCst), 2, "another Nextcloud's");
    }

    #[tokio::test]
    async fn a_new_key_forgets_nobody_at_once() {
        let (nextcloud, client) = start().await;
        let cluster = Handle::in_memory(1);
        let sessions = Sessions::new(Tenant::default(), LIFETIME, cluster.clone(), client);
        let hashed = || sessions.session_keys(&visitor(ALICE, None)).unwrap();
        let (before, none) = hashed();
        assert_eq!(none, None);
        assert_eq!(id(&sessions, ALICE).await.as_deref(), Some("alice"));
        let kek = cluster.kek().unwrap();
        let epoch = cluster.read(cluster::State::session_epoch).number + 1;
        let key = kek.seal(&format!("session key/{epoch}"), &[7; 32]);
        let rotate = cluster::Command::RotateSessionKey { epoch, key, at: 0 };
        cluster.propose(rotate, LIFETIME).await.unwrap();
        let (after, previous) = hashed();
        assert_ne!(after, before);
        assert_eq!(previous, Some(before));
        assert_eq!(id(&sessions, ALICE).await.as_deref(), Some("alice"));
        assert_eq!(nextcloud.user_calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_lifetime_of_zero_asks_every_time() {
        let (nextcloud, client) = start().await;
        let sessions =
            Sessions::new(Tenant::default(), Duration::ZERO, Handle::in_memory(1), client);
        for _ in 0..3 {
            assert_eq!(id(&sessions, ALICE).await.as_deref(), Some("alice"));
        }
        assert_eq!(nextcloud.user_calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn whatever_nextcloud_tells_visitors_apart_by_is_in_the_key() {
        let (_nextcloud, client) = start().await;
        let with_key = |tenant: &str| {
            Sessions::new(Tenant::new(tenant), LIFETIME, Handle::in_memory(1), client.clone())
        };
        let of = |sessions: &Sessions, cookies: &str, authorization: Option<&str>| {
            sessions.session_keys(&visitor(cookies, authorization)).map(|(key, _)| key)
        };
        let sessions = with_key("");
        let key = |cookies: &str, authorization| of(&sessions, cookies, authorization);
        let alice = key(ALICE, None);
        assert!(alice.is_some());
        assert_eq!(alice, key(&format!("theme=dark; {ALICE}; ga=1"), None));
        let remembered = format!("{ALICE}; nc_token=t");
        let strict = format!("{ALICE}; __Host-nc_sameSiteCookiestrict=true");
        for (cookies, authorization) in [
            ("oc_sessionPassphrase=q; nc_sameSiteCookielax=true; ocinstance=alice-session", None),
            ("oc_sessionPassphrase=p; nc_sameSiteCookielax=true; ocinstance=bob-session", None),
            ("oc_sessionPassphrase=p; ocinstance=alice-session", None),
            (&remembered, None),
            (&strict, None),
            (ALICE, Some("Bearer x")),
        ] {
            assert_ne!(alice, key(cookies, authorization), "{cookies} {authorization:?}");
        }
        assert_ne!(alice, of(&with_key(""), ALICE, None), "of another cluster");
        for nobody in ["nc_session_id=x", "oc_sessionPassphrase=; ocinstance=x", "theme=dark"] {
            assert_eq!(key(nobody, None), None, "{nobody}");
        }
    }
}
