//! Tokens for one ExApp's tunnel, given to its container in place of the shared key. Sans-io.
//!
//! The shared key makes its holder the administrator of every ExApp and of the Docker engines, and
//! AppAPI puts it into the environment of every container (weakness W3). A token made from it says
//! whose it is, `trigon1.<app>.<port>.<code>`, and opens that app's tunnel and nothing else. It
//! consists of characters that need no quoting in TOML, JSON or a shell: start scripts of ExApps
//! paste it into `frpc.toml`. Nothing is stored; any node that knows the shared key can check it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster::record::Tenant;

use crate::guard::SharedKeys;

/// What every token begins with; another layout gets another number.
const PREFIX: &str = "trigon1.";

/// What the keys of the codes are derived for.
const PURPOSE: &[u8] = b"trigon frp app credential v1";

/// Longest app id a token is made for.
const MAX_APP: usize = 128;

/// The variable AppAPI puts the shared key into.
const KEY_VARIABLE: &str = "HP_SHARED_KEY";

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCredential {
    /// The Nextcloud the app belongs to.
    pub tenant: Tenant,
    /// The app's id, which is the name of its proxy.
    pub app: String,
    /// The one remote port it may register.
    pub port: u16,
}

/// Why no token can be made for a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The variables do not say which app it is and which port it has.
    #[error(
        "environment_variables: HP_SHARED_KEY without a usable APP_ID and APP_PORT; a tunnel \
         credential is made for an app and its port (frp.app_credentials = false passes the key on)"
    )]
    Anonymous,
}

/// Makes and checks tokens. Cheap to clone compared with what it saves: one key per tenant.
#[derive(Clone)]
pub struct Credentials {
    keys: Vec<(Tenant, hmac::Key)>,
}

impl Credentials {
    /// Derives what tokens are made with from the shared keys.
    pub fn new(keys: &SharedKeys) -> Self {
        let derive = |(tenant, key): (&Tenant, &crate::secret::Secret)| {
            let root = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
            let derived = hmac::sign(&root, PURPOSE);
            (tenant.clone(), hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
        };
        Self { keys: keys.iter().map(derive).collect() }
    }

    /// The token for an app's tunnel. `None` for ids no ExApp has and tenants there are not.
    pub fn issue(&self, tenant: &Tenant, app: &str, port: u16) -> Option<String> {
        if !is_app_id(app) || port == 0 {
            return None;
        }
        let (_, key) = self.keys.iter().find(|(known, _)| known == tenant)?;
        let claim = format!("{PREFIX}{app}.{port}");
        let code = hmac::sign(key, claim.as_bytes());
        Some(format!("{claim}.{}", URL_SAFE_NO_PAD.encode(code)))
    }

    /// What `token` proves, if it is one. Codes are compared in constant time, with every key.
    pub fn verify(&self, token: &str) -> Option<AppCredential> {
        let (claim, code) = token.rsplit_once('.')?;
        let (app, port) = claim.strip_prefix(PREFIX)?.rsplit_once('.')?;
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        let tenant = self.keys.iter().fold(None, |found, (tenant, key)| {
            let right = hmac::verify(key, claim.as_bytes(), &code).is_ok();
            if right { Some(tenant) } else { found }
        })?;
        // What carries a right code was made above, and is in order.
        let port = port.parse().ok()?;
        Some(AppCredential { tenant: tenant.clone(), app: app.to_owned(), port })
    }

    /// Replaces the tenant's shared key in a container's variables (`NAME=value`) by a token for
    /// the app they describe; tells which token it is, or `None` when the key is not among them.
    ///
    /// # Errors
    /// [`Error::Anonymous`]; nothing has changed then.
    pub fn replace_key(
        &self,
        keys: &SharedKeys,
        tenant: &Tenant,
        variables: &mut [String],
    ) -> Result<Option<AppCredential>, Error> {
        let value = |variables: &[String], name: &str| {
            let mut values = variables.iter().filter_map(|pair| pair.split_once('='));
            // The engine lets the last one count, too.
            values.rfind(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let is_key = |pair: &String| {
            let offered = pair.strip_prefix(KEY_VARIABLE).and_then(|rest| rest.strip_prefix('='));
            offered.is_some_and(|value| keys.tenant_of(value.as_bytes()) == Some(tenant))
        };
        if !variables.iter().any(is_key) {
            return Ok(None);
        }
        let app = value(variables, "APP_ID").ok_or(Error::Anonymous)?;
        let port = value(variables, "APP_PORT").and_then(|port| port.parse().ok());
        let port = port.ok_or(Error::Anonymous)?;
        let token = self.issue(tenant, &app, port).ok_or(Error::Anonymous)?;
        for pair in variables.iter_mut().filter(|pair| is_key(pair)) {
            *pair = format!("{KEY_VARIABLE}={token}");
        }
        Ok(Some(AppCredential { tenant: tenant.clone(), app, port }))
    }
}

/// Characters of Docker's names: none of them needs quoting anywhere.
fn is_app_id(id: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_APP).contains(&id.len()) && id.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    fn keys(key: &str) -> SharedKeys {
        SharedKeys::new(Secret::new(key))
    }

    fn credentials(key: &str) -> Credentials {
        Credentials::new(&keys(key))
    }

    fn token(app: &str, port: u16) -> String {
        credentials("shared").issue(&Tenant::default(), app, port).unwrap()
    }

    #[test]
    fn w03_a_token_proves_its_app_and_port_and_is_not_the_shared_key() {
        for (app, port) in [("demo", 23000), ("a.b-c_d", 1), ("App", 65535), ("1.2", 23001)] {
            let token = token(app, port);
            assert!(token.starts_with(&format!("trigon1.{app}.{port}.")), "{token}");
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)));
            let proved = credentials("shared").verify(&token).unwrap();
            assert_eq!((proved.app.as_str(), proved.port), (app, port));
            assert_eq!(keys("shared").tenant_of(token.as_bytes()), None);
        }
    }

    #[test]
    fn w03_nothing_but_the_very_token_is_one() {
        let good = token("demo", 23000);
        let code = good.rsplit_once('.').unwrap().1;
        for wrong in [
            String::new(),
            "shared".into(),
            "trigon1.".into(),
            "trigon1.demo.23000.".into(),
            format!("trigon1.demo.23001.{code}"),
            format!("trigon1.other.23000.{code}"),
            format!("trigon2.demo.23000.{code}"),
            format!("{good}="),
            good[..good.len() - 1].to_owned(),
            credentials("another").issue(&Tenant::default(), "demo", 23000).unwrap(),
        ] {
            assert_eq!(credentials("shared").verify(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_that_would_need_quoting_get_no_token() {
        let credentials = credentials("shared");
        let long = "a".repeat(129);
        for (app, port) in
            [("", 1), ("a b", 1), ("a\"", 1), ("a/b", 1), ("ä", 1), (&*long, 1), ("a", 0)]
        {
            assert_eq!(credentials.issue(&Tenant::default(), app, port), None, "{app}");
        }
        assert_eq!(credentials.issue(&Tenant::new("nobody"), "a", 1), None);
    }

    fn replaced(variables: &[&str]) -> Result<Vec<String>, String> {
        let mut variables: Vec<String> = variables.iter().map(ToString::to_string).collect();
        let outcome =
            credentials("shared").replace_key(&keys("shared"), &Tenant::default(), &mut variables);
        outcome.map(|_| variables).map_err(|error| error.to_string())
    }

    #[test]
    fn w03_a_container_gets_a_token_in_place_of_the_key() {
        let with = ["APP_ID=demo", "APP_PORT=23000", "HP_SHARED_KEY=shared", "X=shared"];
        let variable = format!("HP_SHARED_KEY={}", token("demo", 23000));
        let expected = ["APP_ID=demo", "APP_PORT=23000", &variable, "X=shared"];
        assert_eq!(replaced(&with).unwrap(), expected);
    }

    #[test]
    fn variables_that_do_not_hold_the_key_stay_as_they_are() {
        for variables in [
            &[][..],
            &["APP_ID=demo", "APP_PORT=23000"],
            &["HP_SHARED_KEY=another"],
            &["HP_SHARED_KEY"],
            &["HP_SHARED_KEYS=shared"],
        ] {
            assert_eq!(replaced(variables).unwrap(), variables);
        }
    }

    #[test]
    fn a_container_without_id_or_port_gets_neither_key_nor_token() {
        for variables in [
            &["HP_SHARED_KEY=shared"][..],
            &["HP_SHARED_KEY=shared", "APP_ID=demo"],
            &["HP_SHARED_KEY=shared", "APP_PORT=23000"],
            &["HP_SHARED_KEY=shared", "APP_ID=demo", "APP_PORT=0"],
            &["HP_SHARED_KEY=shared", "APP_ID=a/b", "APP_PORT=23000"],
        ] {
            assert!(replaced(variables).unwrap_err().contains("APP_PORT"), "{variables:?}");
        }
    }

    proptest! {
        #[test]
        fn tokens_are_read_back(app in "[a-zA-Z0-9_.-]{1,40}", port in 1_u16..) {
            let proved = credentials("k").verify(
                &credentials("k").issue(&Tenant::default(), &app, port).unwrap(),
            );
            prop_assert_eq!(proved.unwrap(), AppCredential { tenant: Tenant::default(), app, port });
        }

        #[test]
        fn no_text_is_a_token_by_chance(text in ".{0,200}") {
            prop_assert_eq!(credentials("k").verify(&text), None);
        }
    }
}
