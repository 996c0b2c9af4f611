//! What Nextcloud's answers mean. Sans-io.
//!
//! A wrong key costs two brute-force attempts of our address, and Nextcloud answers 401 both to a
//! wrong key and to an unknown ExApp. So the key is shown once, for an ExApp that is on record
//! where there is one, and not at all when something cheaper has failed already.

use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;

use super::judge::{Answer, CallError};
use super::report::Verdict;

/// Clocks that differ by more are worth a look, seconds.
const SKEW: u64 = 30;

/// The ExApp that is asked for, and how sure it is that Nextcloud knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// On record in the cluster, or named by the operator.
    Known(&'a str),
    /// Nobody is: the answer then says nothing about the key.
    Nobody(&'a str),
}

impl<'a> Asked<'a> {
    pub(super) fn id(self) -> &'a str {
        let (Self::Known(id) | Self::Nobody(id)) = self;
        id
    }
}

/// Nextcloud's public `status.php`.
#[derive(Deserialize)]
struct StatusPhp {
    installed: bool,
    maintenance: bool,
    #[serde(default, rename = "needsDbUpgrade")]
    needs_upgrade: bool,
    #[serde(default)]
    versionstring: String,
}

/// What `status.php` says; `skew` is the difference of the clocks in seconds. The flag tells
/// whether it makes sense to ask AppAPI.
pub(super) fn status(answer: &Result<Answer, CallError>, skew: Option<u64>) -> (Verdict, bool) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let advice = "see whether the web server of Nextcloud answers at nextcloud.url";
            return (Verdict::fail(error.to_string(), advice), false);
        }
    };
    if let Some(verdict) = redirect(answer) {
        return (verdict, false);
    }
    let parsed = serde_json::from_slice::<StatusPhp>(&answer.body);
    let (StatusCode::OK, Ok(page)) = (answer.status, parsed) else {
        let advice = if answer.status == StatusCode::BAD_REQUEST {
            "the host in nextcloud.url is missing in Nextcloud's trusted_domains"
        } else {
            "nextcloud.url has to be the base URL of Nextcloud, without /index.php, with its \
             folder if it has one"
        };
        let found = format!("{}, and not Nextcloud's status page", answer.status);
        return (Verdict::fail(found, advice), false);
    };
    let version = page.versionstring;
    let verdict = if !page.installed {
        return (Verdict::fail("Nextcloud is not installed yet", "finish its setup"), false);
    } else if page.maintenance || page.needs_upgrade {
        let advice = "visitors who are logged in get 503 meanwhile; occ maintenance:mode --off, \
                      or occ upgrade";
        return (Verdict::warn(format!("Nextcloud {version} is in maintenance"), advice), false);
    } else if let Some(skew) = skew.filter(|skew| *skew > SKEW) {
        let advice = "let both machines follow a time server: sessions and bans carry times";
        Verdict::warn(format!("Nextcloud {version}; clocks differ by {skew} s"), advice)
    } else {
        Verdict::ok(format!("Nextcloud {version}"))
    };
    (verdict, true)
}

/// The one call of `exapp-meta`.
pub(super) fn meta(answer: &Result<Answer, CallError>, asked: Asked<'_>) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Verdict::fail(error.to_string(), "ask again"),
    };
    if let Some(verdict) = redirect(answer) {
        return verdict;
    }
    match (answer.status, asked) {
        (StatusCode::OK, asked) => {
            match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&answer.body)
            {
                Ok(_) => Verdict::ok(format!("knows {} and accepts the key", asked.id())),
                Err(_) => Verdict::fail(
                    "200, and not JSON",
                    "something in front of Nextcloud answers in its place, such as a login page",
                ),
            }
        }
        (StatusCode::UNAUTHORIZED, Asked::Nobody(_)) => Verdict::ok(
            "AppAPI answers; no ExApp is on record, so the key is not proved (name one: --app ID)",
        ),
        (StatusCode::UNAUTHORIZED, Asked::Known(id)) => Verdict::fail(
            format!("401: the shared key is not the one of {id}'s deploy daemon, or {id} is gone"),
            "compare the key with the daemon's in Nextcloud (Administration settings, AppAPI) \
             before asking again: each wrong call counts two brute-force attempts of this address \
             (occ security:bruteforce:reset ADDRESS takes them back)",
        ),
        (StatusCode::NOT_FOUND, _) => Verdict::fail(
            "404: AppAPI is not enabled, or too old to know HaRP",
            "occ app:enable app_api; AppAPI 32 or newer is needed",
        ),
        (StatusCode::TOO_MANY_REQUESTS, _) => Verdict::fail(
            "429: Nextcloud throttles this address",
            "occ security:bruteforce:reset ADDRESS, and add this node to trusted_proxies",
        ),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Verdict::fail(
            "503: maintenance or overload",
            "occ maintenance:mode --off; records that are known are served meanwhile",
        ),
        (status, _) => Verdict::fail(status.to_string(), "see Nextcloud's log"),
    }
}

/// Redirects are never followed: the key would travel to wherever they lead.
fn redirect(answer: &Answer) -> Option<Verdict> {
    if !answer.status.is_redirection() {
        return None;
    }
    let to = answer.headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
    let to: String = to.unwrap_or_default().chars().take(200).collect();
    Some(Verdict::fail(
        format!("{} to {to}", answer.status.as_u16()),
        "redirects are not followed, because the shared key travels with the call: set \
         nextcloud.url to the final address",
    ))
}

/// The host name's addresses.
pub(super) fn resolved(host: &str, addresses: &Result<Vec<String>, String>) -> Verdict {
    match addresses {
        Ok(addresses) if !addresses.is_empty() => Verdict::ok(addresses.join(", ")),
        Ok(_) => Verdict::fail("no address", format!("see what DNS or /etc/hosts says of {host}")),
        Err(error) => {
            Verdict::fail(error.clone(), format!("see what DNS or /etc/hosts says of {host}"))
        }
    }
}

/// A connection that did not come up.
pub(super) fn unreachable(error: &CallError) -> Verdict {
    Verdict::fail(
        error.to_string(),
        "see whether Nextcloud's web server runs, and whether a packet filter lets this node pass",
    )
}

/// A TLS session that did not come up.
pub(super) fn untrusted(error: &CallError) -> Verdict {
    let text = error.to_string();
    let advice = if text.contains("UnknownIssuer") {
        "put the authority that signed Nextcloud's certificate into this machine's store \
         (/usr/local/share/ca-certificates, update-ca-certificates) and restart the node"
    } else if text.contains("NotValidForName") {
        "the certificate is for another name: use its name in nextcloud.url"
    } else if text.to_lowercase().contains("expired") {
        "renew Nextcloud's certificate"
    } else {
        "see whether the port in nextcloud.url speaks TLS"
    };
    Verdict::fail(text, advice)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::super::report::Outcome;
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("https://other.example/x"));
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Answer { status, headers, body: body.into() })
    }

    #[test]
    fn the_status_page_decides_whether_the_key_is_shown_at_all() {
        let page = |maintenance: bool, installed: bool| {
            format!(
                r#"{{"installed":{installed},"maintenance":{maintenance},"needsDbUpgrade":false,
                    "version":"32.0.1.2","versionstring":"32.0.1","edition":""}}"#
            )
        };
        for (answered, skew, outcome, found, ask) in [
            (answer(200, &page(false, true)), None, Outcome::Ok, "Nextcloud 32.0.1", true),
            (answer(200, &page(false, true)), Some(31), Outcome::Warn, "differ by 31 s", true),
            (answer(200, &page(true, true)), None, Outcome::Warn, "in maintenance", false),
            (answer(200, &page(false, false)), None, Outcome::Fail, "not installed", false),
            (answer(200, "<html>"), None, Outcome::Fail, "not Nextcloud's status page", false),
            (answer(404, ""), None, Outcome::Fail, "404", false),
            (answer(301, ""), None, Outcome::Fail, "301 to https://other.example/x", false),
            (Err(CallError::Silent), None, Outcome::Fail, "no answer in time", false),
        ] {
            let (verdict, asks) = status(&answered, skew);
            assert_eq!((verdict.outcome, asks), (outcome, ask), "{found}");
            assert!(verdict.found.contains(found), "{found}: {verdict:?}");
        }
        let (verdict, _) = status(&answer(400, ""), None);
        assert!(verdict.advice.contains("trusted_domains"));
    }

    #[test]
    fn a_401_is_about_the_key_only_when_the_app_is_known() {
        for (status, body, asked, outcome, found) in [
            (200, "{}", Asked::Known("demo"), Outcome::Ok, "knows demo and accepts the key"),
            (200, "<html>", Asked::Known("demo"), Outcome::Fail, "not JSON"),
            (401, "{}", Asked::Known("demo"), Outcome::Fail, "the shared key is not the one"),
            (401, "{}", Asked::Nobody("x"), Outcome::Ok, "the key is not proved"),
            (404, "", Asked::Known("demo"), Outcome::Fail, "AppAPI is not enabled"),
            (429, "", Asked::Known("demo"), Outcome::Fail, "throttles"),
            (503, "", Asked::Known("demo"), Outcome::Fail, "maintenance"),
            (500, "", Asked::Known("demo"), Outcome::Fail, "500"),
            (302, "", Asked::Known("demo"), Outcome::Fail, "302 to https://other.example/x"),
        ] {
            let verdict = meta(&answer(status, body), asked);
            assert_eq!(verdict.outcome, outcome, "{status} {body}");
            assert!(verdict.found.contains(found), "{found}: {verdict:?}");
        }
        let advice = meta(&answer(401, "{}"), Asked::Known("demo")).advice;
        assert!(advice.contains("two brute-force attempts"), "{advice}");
    }

    #[test]
    fn tls_failures_name_their_cure() {
        let failed = |text: &str| {
            let error = std::io::Error::other(format!("invalid peer certificate: {text}"));
            untrusted(&CallError::Tls(error)).advice
        };
        assert!(failed("UnknownIssuer").contains("update-ca-certificates"));
        assert!(failed("certificate not valid for name \"a\"; NotValidForName").contains("name"));
        assert!(failed("certificate expired: verification time").contains("renew"));
        assert!(failed("HandshakeFailure").contains("speaks TLS"));
    }
}
