//! JSON of Nextcloud's two HaRP endpoints, `exapp-meta` and `user-info` (contract 2.1, 2.2). The
//! body of `POST exapp_storage` is the same as that of `exapp-meta`. Sans-io; sending is
//! `client`'s work.
//!
//! Reading is as lenient as HaRP's: numbers may be strings, unknown keys are ignored. Routes of
//! old databases can be malformed; one of them does not cost the app its record.

use cluster::record::{AccessLevel, ExApp, Route, User};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use thiserror::Error;

/// A body that is not what the endpoint promises.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not JSON, or a field is missing or of another type.
    #[error("{endpoint}: unexpected body")]
    Shape {
        /// Which body it was.
        endpoint: &'static str,
        /// What was wrong and where.
        #[source]
        source: serde_json::Error,
    },
    /// A number Nextcloud does not define.
    #[error("user-info: access_level {found} is not known; expected 0, 1 or 2")]
    AccessLevel {
        /// The number.
        found: i64,
    },
}

/// Reads an `exapp-meta` or `exapp_storage` body as the record of `id`, which is lower-cased.
///
/// A route without a readable pattern is skipped. One whose level cannot be read is kept for
/// administrators only: leaving it out could let a later, more open route decide.
///
/// # Errors
/// [`MessageError::Shape`] when any other field is missing or wrong, or the port is not 1-65535.
pub fn exapp(id: &str, body: &[u8]) -> Result<ExApp, MessageError> {
    let body: ExAppBody = parse("exapp-meta", body)?;
    let routes = body.routes.unwrap_or_default();
    Ok(ExApp {
        id: id.to_lowercase(),
        token: body.exapp_token,
        version: body.exapp_version,
        host: body.host,
        port: body.port,
        routes: routes.iter().filter_map(|value| route(id, value)).collect(),
    })
}

/// Reads a `user-info` body. An empty id is an anonymous visitor.
///
/// # Errors
/// [`MessageError`] when the id is null or the level is not 0, 1 or 2.
pub fn user(body: &[u8]) -> Result<User, MessageError> {
    let body: UserBody = parse("user-info", body)?;
    let found = body.access_level;
    let level = AccessLevel::from_number(found).ok_or(MessageError::AccessLevel { found })?;
    Ok(User { id: body.user_id, level })
}

#[derive(Deserialize)]
struct ExAppBody {
    exapp_token: String,
    exapp_version: String,
    host: String,
    #[serde(deserialize_with = "port")]
    port: u16,
    routes: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct UserBody {
    #[serde(default)]
    user_id: String,
    #[serde(deserialize_with = "number")]
    access_level: i64,
}

fn parse<T: DeserializeOwned>(endpoint: &'static str, body: &[u8]) -> Result<T, MessageError> {
    serde_json::from_slice(body).map_err(|source| MessageError::Shape { endpoint, source })
}

fn route(app_id: &str, value: &Value) -> Option<Route> {
    let Some(url) = value.get("url").and_then(Value::as_str) else {
        tracing::warn!(app_id, "route without a pattern skipped");
        return None;
    };
    let level = value.get("access_level").and_then(as_number).and_then(AccessLevel::from_number);
    if level.is_none() {
        tracing::warn!(app_id, route = url, "route without a known access level: admins only");
    }
    let statuses = value.get("bruteforce_protection").and_then(Value::as_array);
    let status = |status: &Value| u16::try_from(as_number(status)?).ok();
    Some(Route {
        url: url.to_owned(),
        access_level: level.unwrap_or(AccessLevel::Admin),
        bruteforce_protection: statuses.into_iter().flatten().filter_map(status).collect(),
    })
}

/// A whole number, also when it arrives as a string or with a zero fraction.
fn as_number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64().or_else(|| {
            let text = number.to_string();
            text.strip_suffix(".0")?.parse().ok()
        }),
        _ => None,
    }
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    as_number(&value).ok_or_else(|| D::Error::custom("expected a whole number"))
}

fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = u16::try_from(number(deserializer)?).ok().filter(|port| *port != 0);
    port.ok_or_else(|| D::Error::custom("port is out of range; expected 1-65535"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn meta() -> Value {
        json!({
            "exapp_token": "tok", "exapp_version": "1.2.3", "host": "127.0.0.1", "port": 23001,
            "routes": [
                {"url": "^/public$", "access_level": 0, "bruteforce_protection": [401, 429]},
                {"url": ".*", "access_level": 2, "bruteforce_protection": []},
            ],
        })
    }

    fn read(value: &Value) -> Result<ExApp, MessageError> {
        exapp("Demo", value.to_string().as_bytes())
    }

    fn with(key: &str, value: Value) -> Value {
        let mut body = meta();
        body[key] = value;
        body
    }

    fn route(url: &str, access_level: AccessLevel, statuses: &[u16]) -> Route {
        Route { url: url.into(), access_level, bruteforce_protection: statuses.to_vec() }
    }

    #[test]
    fn a_record_is_read_under_its_lower_cased_id() {
        let app = read(&meta()).unwrap();
        assert_eq!((app.id.as_str(), app.host.as_str(), app.port), ("demo", "127.0.0.1", 23001));
        assert_eq!((app.token.as_str(), app.version.as_str()), ("tok", "1.2.3"));
        let expected = [
            route("^/public$", AccessLevel::Public, &[401, 429]),
            route(".*", AccessLevel::Admin, &[]),
        ];
        assert_eq!(app.routes, expected);
    }

    #[test]
    fn numbers_may_be_strings_and_unknown_keys_are_ignored() {
        assert_eq!(read(&with("port", json!("23001"))).unwrap().port, 23001);
        assert_eq!(read(&with("port", json!(23001.0))).unwrap().port, 23001);
        assert!(read(&with("verb", json!("GET"))).is_ok());
        let routes = json!([{"url": "/a", "access_level": "1", "bruteforce_protection": ["401"]}]);
        let app = read(&with("routes", routes)).unwrap();
        assert_eq!(app.routes, [route("/a", AccessLevel::User, &[401])]);
    }

    #[test]
    fn routes_are_optional() {
        let mut body = meta();
        body.as_object_mut().unwrap().remove("routes");
        assert!(read(&body).unwrap().routes.is_empty());
        assert!(read(&with("routes", Value::Null)).unwrap().routes.is_empty());
    }

    #[test]
    fn a_malformed_route_costs_neither_the_app_nor_its_neighbours() {
        let app = read(&with(
            "routes",
            json!([
                {"access_level": 0},
                {"url": null, "access_level": 0},
                "nonsense",
                {"url": "/odd-statuses", "access_level": 0, "bruteforce_protection": [401, "x", -1, 70000]},
                {"url": "/no-statuses", "access_level": 1},
                {"url": "/statuses-not-a-list", "access_level": 1, "bruteforce_protection": "401"},
                {"url": "/unknown-level", "access_level": 7},
                {"url": "/no-level"},
            ]),
        ));
        let expected = [
            route("/odd-statuses", AccessLevel::Public, &[401]),
            route("/no-statuses", AccessLevel::User, &[]),
            route("/statuses-not-a-list", AccessLevel::User, &[]),
            route("/unknown-level", AccessLevel::Admin, &[]),
            route("/no-level", AccessLevel::Admin, &[]),
        ];
        assert_eq!(app.unwrap().routes, expected);
    }

    #[test]
    fn anything_else_wrong_is_an_error() {
        let wrong = [
            with("port", json!(0)),
            with("port", json!(65536)),
            with("port", json!(-1)),
            with("port", json!("http")),
            with("port", json!(1.5)),
            with("port", Value::Null),
            with("host", Value::Null),
            with("host", json!(1)),
            with("exapp_token", json!(1)),
            with("exapp_version", Value::Null),
            with("routes", json!("none")),
            json!({}),
            json!([]),
            json!(null),
        ];
        for body in wrong {
            assert!(matches!(read(&body), Err(MessageError::Shape { .. })), "{body}");
        }
        for body in [&b""[..], b"<html>", b"{\"exapp_token\":\"\xff\"}"] {
            assert!(exapp("demo", body).is_err());
        }
    }

    #[test]
    fn users_are_read_with_their_level() {
        let rows = [
            (r#"{"user_id":"alice","access_level":1}"#, "alice", AccessLevel::User),
            (r#"{"user_id":"admin","access_level":2}"#, "admin", AccessLevel::Admin),
            (r#"{"user_id":"","access_level":0}"#, "", AccessLevel::Public),
            (r#"{"user_id":"disabled","access_level":0}"#, "disabled", AccessLevel::Public),
            (r#"{"access_level":0}"#, "", AccessLevel::Public),
            (r#"{"user_id":"a","access_level":"1","more":[]}"#, "a", AccessLevel::User),
        ];
        for (body, id, level) in rows {
            assert_eq!(user(body.as_bytes()).unwrap(), User { id: id.into(), level }, "{body}");
        }
    }

    #[test]
    fn a_user_without_a_clear_identity_is_an_error() {
        for body in [
            r#"{"user_id":null,"access_level":1}"#,
            r#"{"user_id":7,"access_level":1}"#,
            r#"{"user_id":"a"}"#,
            r#"{"user_id":"a","access_level":null}"#,
            r#"{"user_id":"a","access_level":"two"}"#,
            r#"{"message":""}"#,
            "",
            "<html></html>",
        ] {
            assert!(matches!(user(body.as_bytes()), Err(MessageError::Shape { .. })), "{body}");
        }
        for found in [3, -1] {
            let body = format!(r#"{{"user_id":"a","access_level":{found}}}"#);
            let error = user(body.as_bytes()).unwrap_err();
            assert!(matches!(error, MessageError::AccessLevel { found: named } if named == found));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = exapp("demo", &body);
            let _ = user(&body);
        }
    }
}
