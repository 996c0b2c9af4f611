//! Contract 1.2 row by row: a request as it arrives, the facts asked for, and how it ends.

use cluster::record::Route;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::request::offered_key;
use super::*;

type Headers<'a> = &'a [(&'static str, &'static str)];

const KEY: (&str, &str) = ("harp-shared-key", "right");
const BAD_KEY: (&str, &str) = ("harp-shared-key", "wrong");
const ALICE: (&str, &str) = ("cookie", "oc_sessionPassphrase=alice");
const ADMIN: (&str, &str) = ("cookie", "nc_session_id=s; oc_sessionPassphrase=admin");
const DISABLED: (&str, &str) = ("cookie", "oc_sessionPassphrase=disabled");
const STRANGER: (&str, &str) = ("cookie", "oc_sessionPassphrase=stranger");
const LOGGED_OUT: (&str, &str) = ("cookie", "oc_sessionPassphrase=logged-out");
const OUTAGE: (&str, &str) = ("cookie", "oc_sessionPassphrase=outage");
const ENGINE: (&str, &str) = ("docker-engine-port", "24000");

/// AppAPI's six headers, with a key that is right or not.
fn signed(key: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
    vec![
        ("ex-app-version", "9.9"),
        ("ex-app-id", "demo"),
        ("ex-app-host", "10.1.2.3"),
        ("ex-app-port", "23009"),
        ("authorization-app-api", "c2lnbmVk"),
        key,
    ]
}

fn signed_but(
    name: &'static str,
    value: Option<&'static str>,
) -> Vec<(&'static str, &'static str)> {
    let others = signed(KEY).into_iter().filter(|(other, _)| *other != name);
    others.chain(value.map(|value| (name, value))).collect()
}

fn app(id: &str, routes: &[(&str, AccessLevel, &[u16])]) -> KnownApp {
    let routes = routes.iter().map(|(url, access_level, statuses)| Route {
        url: (*url).into(),
        access_level: *access_level,
        bruteforce_protection: statuses.to_vec(),
    });
    KnownApp::new(Arc::new(ExApp {
        id: id.into(),
        token: "token".into(),
        version: "1.0".into(),
        host: "127.0.0.1".into(),
        port: 23001,
        routes: routes.collect(),
    }))
}

/// What Nextcloud knows in these tests.
fn directory(id: &AppId) -> Result<Option<KnownApp>, LookupFailed> {
    use AccessLevel::{Admin, Public, User};
    let app = match id.as_str() {
        "demo" => app(
            "demo",
            &[
                ("^/public$", Public, &[401, 429]),
                ("/user", User, &[403]),
                ("/admin", Admin, &[]),
                ("bare", Public, &[]),
                ("(", Public, &[]),
                ("/user-public", Public, &[]),
                ("/shared", Public, &[]),
                ("/shared", Admin, &[]),
                ("/Case", Public, &[]),
                (r"^/api/v\d+/", User, &[]),
            ],
        ),
        // A catch-all behind a stricter route: what the encoding bypass of HaRP lived on.
        "wide" => app("wide", &[("^/admin", Admin, &[]), (".*", User, &[500])]),
        "open" => app("open", &[("", Public, &[])]),
        "closed" => app("closed", &[]),
        "slow" => app("slow", &[(r"^/(?:(a+)\1*)+$", Admin, &[]), (".*", Public, &[])]),
        "outage" => return Err(LookupFailed),
        _ => return Ok(None),
    };
    Ok(Some(app))
}

/// Whom Nextcloud recognises: the passphrase, or the credentials, name them.
fn nextcloud(headers: &HeaderMap) -> Result<Option<User>, LookupFailed> {
    let user = |id: &str, level| Ok(Some(User { id: id.into(), level }));
    let line = |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
    let credentials = format!("{}{}", line("cookie"), line("authorization"));
    match credentials.rsplit(['=', ' ']).next().unwrap_or_default() {
        "alice" => user("alice", AccessLevel::User),
        "admin" => user("admin", AccessLevel::Admin),
        "disabled" => user("disabled", AccessLevel::Public),
        "logged-out" => user("", AccessLevel::Public),
        "outage" => Err(LookupFailed),
        _ => Ok(None),
    }
}

fn header_map(headers: Headers<'_>) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(line) {
        map.append(name, value);
    }
    map
}

/// Runs a request to its end; returns the facts asked for and the verdict as a short text.
fn run(path: &str, headers: Headers<'_>, banned: bool) -> (Vec<String>, String) {
    let headers = header_map(headers);
    let key_valid = offered_key(&headers) == Some(b"right");
    let request = AccessRequest::new(path, &headers, key_valid);
    let (mut decision, mut step) = Decision::start(request, banned);
    let mut asked = Vec::new();
    loop {
        step = match step {
            Step::Need(Fact::ExApp(id)) => {
                asked.push(format!("app {id}"));
                decision.supply(Answer::ExApp(directory(&id)))
            }
            Step::Need(Fact::User(id)) => {
                asked.push(format!("user for {id}"));
                decision.supply(Answer::User(nextcloud(&headers)))
            }
            Step::Done(verdict) => return (asked, describe(&verdict)),
        };
    }
}

/// `drop`, `401`, …, with a `+` for a strike; or where the request goes.
fn describe(verdict: &Verdict<'_>) -> String {
    let text = match &verdict.outcome {
        Outcome::Forward(grant) => {
            let upstream = &grant.upstream;
            let (host, port, version) = (upstream.host(), upstream.port(), upstream.version());
            let to = format!("{} {} at {host}:{port} v{version}", grant.app_id, grant.path);
            let by = match &grant.authorization {
                Authorization::AsSigned => "as signed".to_owned(),
                Authorization::Visitor { user_id } => format!("by '{user_id}'"),
            };
            format!("{to} {by} {:?}", grant.bruteforce_statuses)
        }
        Outcome::ControlApi { path } => format!("control {path}"),
        Outcome::DockerEngine { port, path } => format!("engine {port} {path}"),
        Outcome::SilentDrop => "drop".into(),
        Outcome::Unauthorized => "401".into(),
        Outcome::Forbidden => "403".into(),
        Outcome::NotFound => "404".into(),
        Outcome::Unavailable => "503".into(),
    };
    if verdict.strike { text + "+" } else { text }
}

fn check(rows: &[(&str, Headers<'_>, &str)]) {
    for (path, headers, expected) in rows {
        let (_, found) = run(path, headers, false);
        assert_eq!(found, *expected, "{path} {headers:?}");
    }
}

#[test]
fn step_2_a_banned_client_meets_silence_before_everything_else() {
    for path in ["/exapps/demo/public", "/exapps/demo/..", "/foo", "/exapps/app_api/heartbeat"] {
        for headers in [&[][..], &[KEY], &[BAD_KEY], &signed(KEY), &[ALICE]] {
            let (asked, found) = run(path, headers, true);
            assert_eq!((asked, found.as_str()), (Vec::new(), "drop"), "{path} {headers:?}");
        }
    }
}

#[test]
fn step_3_parent_segments_are_dropped_and_only_key_holders_spared() {
    check(&[
        ("/exapps/demo/../x", &[], "drop+"),
        ("/exapps/demo/..", &[], "drop+"),
        ("/exapps/demo/%2e%2E/x", &[], "drop+"),
        ("/exapps/demo%2f..%2fx", &[], "drop+"),
        ("/exapps/app_api/../x", &[], "drop+"),
        ("/../foo", &[], "drop+"),
        ("/exapps/demo/../x", &[BAD_KEY], "drop+"),
        ("/exapps/demo/../x", &[ADMIN], "drop+"),
        ("/exapps/demo/../x", &[KEY], "drop"),
        ("/exapps/demo/../x", &signed(KEY), "drop"),
        ("/exapps/app_api/../x", &[KEY], "drop"),
    ]);
}

#[test]
fn step_4_without_an_app_id_there_is_nothing() {
    check(&[
        ("/foo", &[], "404+"),
        ("/exapps", &[], "404+"),
        ("/exapps/", &[], "404+"),
        ("/exapps//x", &[], "404+"),
        ("", &[], "404+"),
        ("*", &[], "404+"),
        ("/exapps/", &[BAD_KEY], "404+"),
        ("/exapps/", &[ADMIN], "404+"),
        ("/exapps/", &[KEY], "404"),
        ("/exapps/", &signed(KEY), "404"),
    ]);
}

#[test]
fn step_4_ids_are_looked_up_lower_cased_and_forwarded_as_typed() {
    check(&[
        ("/exapps/DeMo/public", &[], "DeMo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]"),
        ("/exapps/open", &[], "open / at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/open/", &[], "open / at 127.0.0.1:23001 v1.0 by '' []"),
        ("/foo/exapps/open/x", &[], "open /foo/exapps/open/x at 127.0.0.1:23001 v1.0 by '' []"),
        ("//exapps/open/x", &[], "open //exapps/open/x at 127.0.0.1:23001 v1.0 by '' []"),
        ("//exapps/demo/public", &[], "404+"),
        ("/foo/exapps/demo/public", &[], "404+"),
        ("/exapps/dem%6f/public", &[], "404+"),
        ("/exapps/open/a%2Fb%20c", &[], "open /a%2Fb%20c at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/open//x/./y", &[], "open //x/./y at 127.0.0.1:23001 v1.0 by '' []"),
    ]);
    let (asked, _) = run("/exapps/DeMo/user", &[ALICE], false);
    assert_eq!(asked, ["app demo", "user for demo"]);
    let (asked, _) = run("/exapps/dem%6f/x", &[], false);
    assert_eq!(asked, ["app dem%6f"]);
}

#[test]
fn step_5_the_control_api_belongs_to_key_holders() {
    check(&[
        ("/exapps/app_api/heartbeat", &[KEY], "control /heartbeat"),
        ("/exapps/app_api/info", &[KEY], "control /info"),
        ("/exapps/app_api", &[KEY], "control /"),
        ("/exapps/app_api/", &[KEY], "control /"),
        ("/exapps/app_api/exapp_storage/demo", &signed(KEY), "control /exapp_storage/demo"),
        ("//exapps/app_api/info", &[KEY], "control //exapps/app_api/info"),
        ("/exapps/app_api/heartbeat", &[], "401+"),
        ("/exapps/app_api/heartbeat", &[BAD_KEY], "401+"),
        ("/exapps/app_api/heartbeat", &signed(BAD_KEY), "401+"),
        ("/exapps/app_api/heartbeat", &[ADMIN], "401+"),
        ("/exapps/app_api/heartbeat", &[("authorization", "Basic right")], "401+"),
        // Exactly this spelling; any other is an ExApp Nextcloud does not know.
        ("/exapps/APP_API/heartbeat", &[], "404+"),
        ("/exapps/APP_API/heartbeat", &[KEY], "404"),
        ("/exapps/app_apix/heartbeat", &[], "404+"),
    ]);
}

#[test]
fn step_5_engine_calls_are_control_calls_with_a_port() {
    check(&[
        ("/exapps/app_api/v1.44/_ping", &[KEY, ENGINE], "engine 24000 /v1.44/_ping"),
        ("/exapps/app_api/info", &[KEY, ENGINE], "engine 24000 /info"),
        ("/exapps/app_api/docker", &[KEY, ENGINE], "engine 24000 /docker"),
        ("/exapps/app_api", &[KEY, ENGINE], "engine 24000 /"),
        ("/exapps/app_api/docker/exapp/exists", &[KEY, ENGINE], "control /docker/exapp/exists"),
        ("/exapps/app_api/v1.44/_ping", &[KEY], "control /v1.44/_ping"),
        ("/exapps/app_api/v1.44/_ping", &[KEY, ("docker-engine-port", "")], "control /v1.44/_ping"),
        ("/exapps/app_api/_ping", &[KEY, ("docker-engine-port", "http")], "503"),
        ("/exapps/app_api/_ping", &[KEY, ("docker-engine-port", "0")], "503"),
        ("/exapps/app_api/_ping", &[KEY, ("docker-engine-port", "65536")], "503"),
        ("/exapps/app_api/_ping", &[KEY, ("docker-engine-port", "-1")], "503"),
        ("/exapps/app_api/docker/x", &[KEY, ("docker-engine-port", "http")], "control /docker/x"),
        (
            "/exapps/app_api/_ping",
            &[KEY, ENGINE, ("docker-engine-port", "24001")],
            "engine 24001 /_ping",
        ),
        ("/exapps/app_api/_ping", &[ENGINE], "401+"),
        ("/exapps/app_api/_ping", &[BAD_KEY, ENGINE], "401+"),
        // Only the control API has engines.
        ("/exapps/open/_ping", &[ENGINE], "open /_ping at 127.0.0.1:23001 v1.0 by '' []"),
    ]);
    let (asked, _) = run("/exapps/app_api/_ping", &[KEY, ENGINE], false);
    assert!(asked.is_empty());
}

#[test]
fn step_6_signed_requests_pass_every_route() {
    let known = "127.0.0.1:23001 v1.0 as signed []";
    for path in ["/public", "/admin", "/heartbeat", "/init", "/enabled", "/no/such/route"] {
        let (asked, found) = run(&format!("/exapps/demo{path}"), &signed(KEY), false);
        assert_eq!((asked, found), (vec!["app demo".into()], format!("demo {path} at {known}")));
    }
    // Nobody asks Nextcloud about a user either.
    let with_user: Vec<_> = signed(KEY).into_iter().chain([ALICE]).collect();
    let (asked, _) = run("/exapps/demo/user", &with_user, false);
    assert_eq!(asked, ["app demo"]);
    // `ex-app-id` is never compared with the id in the URL.
    let other = signed_but("ex-app-id", Some("other"));
    check(&[
        ("/exapps/demo/init", &other, "demo /init at 127.0.0.1:23001 v1.0 as signed []"),
        ("/exapps/closed/x", &signed(KEY), "closed /x at 127.0.0.1:23001 v1.0 as signed []"),
        ("/exapps/slow/aa", &signed(KEY), "slow /aa at 127.0.0.1:23001 v1.0 as signed []"),
    ]);
}

#[test]
fn step_6_until_nextcloud_describes_an_app_the_headers_do() {
    let announced = "new /init at 10.1.2.3:23009 v9.9 as signed []";
    check(&[
        ("/exapps/new/init", &signed(KEY), announced),
        ("/exapps/New/init", &signed(KEY), "New /init at 10.1.2.3:23009 v9.9 as signed []"),
        ("/exapps/outage/init", &signed(KEY), "outage /init at 10.1.2.3:23009 v9.9 as signed []"),
        ("/exapps/new/init", &signed_but("ex-app-port", Some("http")), "503"),
        ("/exapps/new/init", &signed_but("ex-app-port", Some("")), "503"),
        ("/exapps/new/init", &signed_but("ex-app-port", Some("0")), "503"),
        ("/exapps/new/init", &signed_but("ex-app-port", Some("70000")), "503"),
        ("/exapps/new/init", &signed_but("ex-app-port", Some(" 23009 ")), announced),
        ("/exapps/new/init", &signed_but("ex-app-host", Some("")), "404"),
        // A record wins over the headers, even over unreadable ones.
        (
            "/exapps/demo/init",
            &signed_but("ex-app-port", Some("http")),
            "demo /init at 127.0.0.1:23001 v1.0 as signed []",
        ),
    ]);
}

#[test]
fn step_6_a_wrong_key_on_a_signed_request_is_dropped_unasked() {
    for path in ["/exapps/demo/public", "/exapps/new/x", "/exapps/demo/heartbeat"] {
        let (asked, found) = run(path, &signed(BAD_KEY), false);
        assert_eq!((asked, found.as_str()), (Vec::new(), "drop+"), "{path}");
    }
}

#[test]
fn step_6_five_of_the_six_headers_are_no_signature() {
    for name in ["ex-app-version", "ex-app-id", "ex-app-host", "ex-app-port"] {
        let five = signed_but(name, None);
        let public = "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]";
        check(&[
            ("/exapps/demo/public", &five, public),
            ("/exapps/demo/heartbeat", &five, "drop+"),
            ("/exapps/demo/user", &five, "403+"),
            ("/exapps/new/x", &five, "404"),
        ]);
    }
    let without_key = signed_but("harp-shared-key", None);
    check(&[("/exapps/new/x", &without_key, "404+"), ("/exapps/demo/init", &without_key, "drop+")]);
}

#[test]
fn step_7_an_empty_signature_is_none_but_its_key_is_checked() {
    let empty = signed_but("authorization-app-api", Some(""));
    let wrong: Vec<_> =
        empty.iter().copied().map(|header| if header == KEY { BAD_KEY } else { header }).collect();
    check(&[
        ("/exapps/demo/public", &empty, "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]"),
        ("/exapps/demo/heartbeat", &empty, "drop+"),
        ("/exapps/demo/admin", &empty, "403+"),
        ("/exapps/new/init", &empty, "404"),
        ("/exapps/demo/public", &wrong, "drop+"),
    ]);
}

#[test]
fn step_7_unknown_apps_are_not_found_whatever_is_asked_of_them() {
    check(&[
        ("/exapps/new/x", &[], "404+"),
        ("/exapps/new/heartbeat", &[], "404+"),
        ("/exapps/new", &[], "404+"),
        ("/exapps/new/x", &[ADMIN], "404+"),
        ("/exapps/new/x", &[BAD_KEY], "404+"),
        ("/exapps/new/x", &[KEY], "404"),
        ("/exapps/outage/x", &[], "503"),
        ("/exapps/outage/heartbeat", &[], "503"),
        ("/exapps/outage/x", &[KEY], "503"),
    ]);
    let (asked, _) = run("/exapps/new/x", &[ALICE], false);
    assert_eq!(asked, ["app new"]);
}

#[test]
fn step_8_internal_endpoints_are_closed_even_to_key_holders() {
    check(&[
        ("/exapps/demo/heartbeat", &[], "drop+"),
        ("/exapps/demo/init", &[], "drop+"),
        ("/exapps/demo/enabled", &[], "drop+"),
        ("/exapps/open/heartbeat", &[], "drop+"),
        ("/exapps/open/heartbeat", &[ADMIN], "drop+"),
        ("/exapps/open/heartbeat", &[KEY], "drop+"),
        // Spellings a normalising ExApp would read as the same (W9).
        ("/exapps/open/%68eartbeat", &[], "drop+"),
        ("/exapps/open/%65nabled", &[ADMIN], "drop+"),
        ("/exapps/open//init", &[], "drop+"),
        ("/exapps/open/./init", &[], "drop+"),
        ("/exapps/open/%2e/ini%74", &[], "drop+"),
        // Others are ordinary paths.
        ("/exapps/open/heartbeat/", &[], "open /heartbeat/ at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/open/Init", &[], "open /Init at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/open/x/init", &[], "open /x/init at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/open/initial", &[], "open /initial at 127.0.0.1:23001 v1.0 by '' []"),
    ]);
    let (asked, _) = run("/exapps/open/heartbeat", &[ALICE], false);
    assert_eq!(asked, ["app open"]);
}

#[test]
fn step_8_levels_are_compared_with_the_first_matching_route() {
    let user = "demo /user at 127.0.0.1:23001 v1.0 by 'alice' [403]";
    check(&[
        // PUBLIC: everybody, and with their name when they have one.
        ("/exapps/demo/public", &[], "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]"),
        (
            "/exapps/demo/public",
            &[ALICE],
            "demo /public at 127.0.0.1:23001 v1.0 by 'alice' [401, 429]",
        ),
        (
            "/exapps/demo/public",
            &[ADMIN],
            "demo /public at 127.0.0.1:23001 v1.0 by 'admin' [401, 429]",
        ),
        (
            "/exapps/demo/public",
            &[DISABLED],
            "demo /public at 127.0.0.1:23001 v1.0 by 'disabled' [401, 429]",
        ),
        (
            "/exapps/demo/public",
            &[STRANGER],
            "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]",
        ),
        (
            "/exapps/demo/public",
            &[LOGGED_OUT],
            "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]",
        ),
        // USER.
        ("/exapps/demo/user", &[], "403+"),
        ("/exapps/demo/user", &[STRANGER], "403+"),
        ("/exapps/demo/user", &[LOGGED_OUT], "403+"),
        ("/exapps/demo/user", &[DISABLED], "403+"),
        ("/exapps/demo/user", &[KEY], "403+"),
        ("/exapps/demo/user", &[ALICE], user),
        ("/exapps/demo/user", &[ADMIN], "demo /user at 127.0.0.1:23001 v1.0 by 'admin' [403]"),
        ("/exapps/demo/user", &[("authorization", "Bearer alice")], user),
        ("/exapps/demo/user", &[("authorization", "Basic nobody")], "403+"),
        // ADMIN.
        ("/exapps/demo/admin", &[], "403+"),
        ("/exapps/demo/admin", &[ALICE], "403+"),
        ("/exapps/demo/admin", &[ALICE, KEY], "403+"),
        ("/exapps/demo/admin", &[ADMIN], "demo /admin at 127.0.0.1:23001 v1.0 by 'admin' []"),
        // Order: `/user` is met before `/user-public`, PUBLIC `/shared` before ADMIN `/shared`.
        ("/exapps/demo/user-public", &[], "403+"),
        ("/exapps/demo/shared", &[], "demo /shared at 127.0.0.1:23001 v1.0 by '' []"),
    ]);
}

#[test]
fn step_8_without_a_matching_route_there_is_nothing() {
    check(&[
        ("/exapps/demo", &[], "404+"),
        ("/exapps/demo/", &[], "404+"),
        ("/exapps/demo/public/", &[], "404+"),
        ("/exapps/demo/bare", &[], "404+"),
        ("/exapps/demo/case", &[], "404+"),
        ("/exapps/demo/Case", &[], "demo /Case at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/demo/api/v2/x", &[ALICE], "demo /api/v2/x at 127.0.0.1:23001 v1.0 by 'alice' []"),
        ("/exapps/demo/api/vx/x", &[ALICE], "404+"),
        ("/exapps/demo/x", &[ADMIN], "404+"),
        ("/exapps/demo/x", &[KEY], "404+"),
        ("/exapps/closed/x", &[ADMIN], "404+"),
        ("/exapps/closed", &[], "404+"),
        // A route that could not be judged ends the search (W10).
        ("/exapps/slow/b", &[], "slow /b at 127.0.0.1:23001 v1.0 by '' []"),
        ("/exapps/slow/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", &[], "404+"),
    ]);
}

#[test]
fn step_8_the_stricter_reading_of_a_path_decides() {
    check(&[
        ("/exapps/wide/x", &[ALICE], "wide /x at 127.0.0.1:23001 v1.0 by 'alice' [500]"),
        ("/exapps/wide/admin", &[ALICE], "403+"),
        // Measured bypasses of HaRP.
        ("/exapps/wide/%61dmin/x", &[ALICE], "403+"),
        ("/exapps/wide//admin", &[ALICE], "403+"),
        ("/exapps/wide/./admin", &[ALICE], "403+"),
        ("/exapps/wide/%2E/%61dmin", &[ALICE], "403+"),
        // Those who may, may in any spelling; the path travels as it came.
        (
            "/exapps/wide/%61dmin/x",
            &[ADMIN],
            "wide /%61dmin/x at 127.0.0.1:23001 v1.0 by 'admin' [500]",
        ),
        ("/exapps/wide//x", &[ALICE], "wide //x at 127.0.0.1:23001 v1.0 by 'alice' [500, 500]"),
        // The other way round: strict as typed, open once normalised.
        ("/exapps/demo/%70ublic", &[], "404+"),
        ("/exapps/demo//public", &[], "404+"),
        ("/exapps/demo/public/%2e", &[], "404+"),
    ]);
}

#[test]
fn step_8_nextcloud_is_asked_about_visitors_only_when_it_could_know_them() {
    let asked = |path: &str, headers: Headers<'_>| run(path, headers, false).0.len() == 2;
    for headers in [
        &[ALICE][..],
        &[("authorization", "Bearer x")],
        &[("authorization", "")],
        &[("cookie", "a=b; oc_sessionPassphrase=x;c=d")],
        &[("cookie", "a=b"), ("cookie", "oc_sessionPassphrase=x")],
        &[("cookie", "oc_sessionPassphrase=\"x\"")],
        &[("cookie", "oc_sessionPassphrase=; oc_sessionPassphrase=x")],
    ] {
        assert!(asked("/exapps/demo/user", headers), "{headers:?}");
        assert!(asked("/exapps/demo/public", headers), "{headers:?}");
        assert!(!asked("/exapps/demo/none", headers), "{headers:?}");
    }
    for headers in [
        &[][..],
        &[("cookie", "nc_session_id=s")],
        &[("cookie", "oc_sessionPassphrase=")],
        &[("cookie", "oc_sessionPassphrase")],
        &[("cookie", "oc_sessionpassphrase=x")],
        &[("cookie", "xoc_sessionPassphrase=x")],
        &[("cookie", "oc_sessionPassphrase=x; oc_sessionPassphrase=")],
        &[("proxy-authorization", "Basic x")],
    ] {
        assert!(!asked("/exapps/demo/user", headers), "{headers:?}");
    }
}

#[test]
fn step_8_an_outage_of_nextcloud_costs_public_routes_nothing_but_the_name() {
    check(&[
        ("/exapps/demo/public", &[OUTAGE], "demo /public at 127.0.0.1:23001 v1.0 by '' [401, 429]"),
        ("/exapps/demo/user", &[OUTAGE], "503"),
        ("/exapps/demo/admin", &[OUTAGE], "503"),
        ("/exapps/demo/none", &[OUTAGE], "404+"),
        ("/exapps/demo/heartbeat", &[OUTAGE], "drop+"),
    ]);
}

#[test]
fn repeated_headers_count_by_their_last_line() {
    check(&[
        ("/exapps/app_api/info", &[BAD_KEY, KEY], "control /info"),
        ("/exapps/app_api/info", &[KEY, BAD_KEY], "401+"),
        ("/exapps/app_api/info", &[("harp-shared-key", " right ")], "control /info"),
        ("/exapps/app_api/info", &[("harp-shared-key", "right,right")], "401+"),
    ]);
}

#[test]
fn an_answer_nobody_asked_for_ends_the_decision() {
    let headers = HeaderMap::new();
    let request = AccessRequest::new("/exapps/demo/user", &headers, false);
    let (mut decision, step) = Decision::start(request, false);
    assert_eq!(step, Step::Need(Fact::ExApp(AppId::from_display("demo"))));
    for answer in [Answer::User(Ok(None)), Answer::ExApp(Ok(None))] {
        let expected = refuse(Outcome::Unavailable, Reason::OutOfTurn);
        assert_eq!(decision.supply(answer), expected);
    }
}

#[test]
fn the_token_of_an_announced_app_is_empty() {
    let headers = header_map(&signed(KEY));
    let request = AccessRequest::new("/exapps/new/init", &headers, true);
    let (mut decision, _) = Decision::start(request, false);
    let Step::Done(verdict) = decision.supply(Answer::ExApp(Ok(None))) else { panic!() };
    let Outcome::Forward(grant) = verdict.outcome else { panic!() };
    assert_eq!(grant.upstream.token(), "");
    assert_eq!(verdict.reason, Reason::Signed);
}

proptest! {
    #[test]
    fn no_path_panics_and_every_decision_ends(
        path in "(/|exapps/|demo|wide|slow|app_api|%2e|%2f|\\.|\\PC){0,16}",
        pick in 0_usize..6,
        banned: bool,
    ) {
        let choices = [vec![], vec![KEY], vec![ALICE], vec![OUTAGE], signed(KEY), signed(BAD_KEY)];
        let (asked, _) = run(&path, &choices[pick], banned);
        prop_assert!(asked.len() <= 2);
    }

    #[test]
    fn nobody_below_a_route_gets_through_by_spelling_it_differently(
        lead in "(/|/\\./|/%2e/|/%2E/){1,3}",
        encode in proptest::collection::vec(any::<bool>(), 5),
        tail in "(/x)?",
    ) {
        let admin: String = "admin"
            .chars()
            .zip(encode)
            .map(|(letter, encode)| {
                if encode { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() }
            })
            .collect();
        let (_, found) = run(&format!("/exapps/wide{lead}{admin}{tail}"), &[ALICE], false);
        prop_assert_eq!(found, "403+");
    }

    #[test]
    fn the_stricter_reading_of_a_path_is_what_the_slow_model_says(
        path in "/(/|\\.|%2e|%2E|%2f|%41|%|admin|%61dmin|user|us%65r|public|heartbeat|%68eartbeat|init|x){0,7}",
    ) {
        const ROUTES: [(&str, AccessLevel); 4] = [
            ("/admin", AccessLevel::Admin),
            ("/user", AccessLevel::User),
            ("/public", AccessLevel::Public),
            ("/x", AccessLevel::Public),
        ];
        let model = slow_judge(&ROUTES, &path);
        let known = app("model", &ROUTES.map(|(url, level)| (url, level, &[][..])));
        let found = judge(&known.routes, &path).map(|access| access.needs);
        prop_assert_eq!(found, model, "{}", path);
    }
}

/// A step at a time: decode, take segments out, look at every route for both forms.
fn slow_judge(routes: &[(&str, AccessLevel)], path: &str) -> Result<AccessLevel, Reason> {
    let forms = [path.to_owned(), slow_canonical(path)];
    if forms.iter().any(|form| matches!(form.as_str(), "/heartbeat" | "/init" | "/enabled")) {
        return Err(Reason::InternalEndpoint);
    }
    let mut needs = AccessLevel::Public;
    for form in forms {
        let route = routes.iter().find(|(prefix, _)| form.starts_with(prefix));
        needs = needs.max(route.ok_or(Reason::NoRoute)?.1);
    }
    Ok(needs)
}

fn slow_canonical(path: &str) -> String {
    let mut decoded = path.to_owned();
    for byte in (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"-._~") {
        for escape in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
            decoded = decoded.replace(&escape, &char::from(byte).to_string());
        }
    }
    let parts: Vec<&str> = decoded.split('/').collect();
    let (last, middle) = parts.split_last().unwrap();
    let (first, middle) = middle.split_first().unwrap_or((last, &[]));
    if parts.len() == 1 {
        return decoded;
    }
    let kept = middle.iter().filter(|part| !matches!(**part, "" | "."));
    let last = if *last == "." { "" } else { last };
    let all: Vec<&str> = [*first].into_iter().chain(kept.copied()).chain([last]).collect();
    all.join("/")
}
