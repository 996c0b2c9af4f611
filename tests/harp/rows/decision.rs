//! Who may pass: levels, credentials and internal endpoints (contract 1.2, step 8, and 1.4).

use crate::row::{Row, dropped, get, reached, refused, row, send, status};

pub(crate) fn levels() -> Vec<Row> {
    const ASKS_FIRST: &str = "user-info is asked before routes are looked at";
    vec![
        row(
            "a public route, anonymous",
            get("/exapps/demo{n}/public"),
            reached("/public")
                .by("")
                .saw("ex-app-id", "demo{n}")
                .saw("ex-app-version", "1.2.3")
                .saw("aa-version", "32")
                .asked(1, 0),
        ),
        row(
            "a public route tells who is logged in",
            get("/exapps/demo{n}/public").session("alice"),
            reached("/public").by("alice").asked(1, 1),
        ),
        row(
            "a public route for a disabled account",
            get("/exapps/demo{n}/public").session("disabled"),
            reached("/public").by("disabled"),
        ),
        row(
            "a public route for an unknown session",
            get("/exapps/demo{n}/public").session("stranger"),
            reached("/public").by("").asked(1, 1),
        ),
        row(
            "a user's name travels as UTF-8",
            get("/exapps/demo{n}/public").session("zoe"),
            reached("/public").by("zo\u{eb}"),
        ),
        row("a user route, anonymous", get("/exapps/demo{n}/user"), refused(403).asked(1, 0))
            .strikes(1),
        row(
            "a user route for a user",
            get("/exapps/demo{n}/user").session("alice"),
            reached("/user").by("alice").asked(1, 1),
        ),
        row(
            "a user route for an administrator",
            get("/exapps/demo{n}/user").session("admin"),
            reached("/user").by("admin"),
        ),
        row(
            "a user route for a disabled account",
            get("/exapps/demo{n}/user").session("disabled"),
            refused(403),
        )
        .strikes(1),
        row(
            "a user route for an unknown session",
            get("/exapps/demo{n}/user").session("stranger"),
            refused(403).asked(1, 1),
        )
        .strikes(1),
        row("a user route with the shared key", get("/exapps/demo{n}/user").key(), refused(403))
            .strikes(1),
        row("an admin route, anonymous", get("/exapps/demo{n}/admin"), refused(403)).strikes(1),
        row(
            "an admin route for a user",
            get("/exapps/demo{n}/admin").session("alice"),
            refused(403),
        )
        .strikes(1),
        row(
            "an admin route for an administrator",
            get("/exapps/demo{n}/admin").session("admin"),
            reached("/admin").by("admin"),
        ),
        row("no route, anonymous", get("/exapps/demo{n}/none"), refused(404).asked(1, 0))
            .strikes(1),
        row("no route with the shared key", get("/exapps/demo{n}/none").key(), refused(404))
            .strikes(1),
        row(
            "no route for an administrator",
            get("/exapps/demo{n}/none").session("admin"),
            refused(404).asked(1, 0),
        )
        .strikes(1)
        .harp(ASKS_FIRST, refused(404).asked(1, 1)),
        row("an ExApp without routes", get("/exapps/closed{n}/x").session("admin"), refused(404))
            .strikes(1),
        row("HEAD is judged alike", send("HEAD", "/exapps/demo{n}/user"), status(403).body(""))
            .strikes(1),
    ]
}

pub(crate) fn credentials() -> Vec<Row> {
    vec![
        row(
            "an account password",
            get("/exapps/demo{n}/user")
                .with("authorization", "Basic {basic:alice:password-of-alice-{n}}"),
            reached("/user").by("alice").asked(1, 1),
        ),
        row(
            "an app password as a bearer",
            get("/exapps/demo{n}/user").with("authorization", "Bearer token-of-alice-{n}"),
            reached("/user").by("alice").asked(1, 1),
        ),
        row(
            "a wrong password on a user route",
            get("/exapps/demo{n}/user").with("authorization", "Basic {basic:alice:wrong}"),
            refused(403).asked(1, 1),
        )
        .strikes(1),
        row(
            "a wrong password on a public route is nobody",
            get("/exapps/demo{n}/public").with("authorization", "Basic {basic:alice:wrong}"),
            reached("/public").by(""),
        ),
        row(
            "an Authorization that is empty is asked about",
            get("/exapps/demo{n}/public").with("authorization", ""),
            reached("/public").asked(1, 1),
        ),
        row(
            "a session id alone is nobody, and not asked about",
            get("/exapps/demo{n}/user").with("cookie", "nc_session_id=id-alice-{n}"),
            refused(403).asked(1, 0),
        )
        .strikes(1),
        row(
            "an empty passphrase is none",
            get("/exapps/demo{n}/user").with("cookie", "oc_sessionPassphrase=; nc_session_id=x"),
            refused(403).asked(1, 0),
        )
        .strikes(1),
        row(
            "of two passphrases the last counts",
            get("/exapps/demo{n}/public").with(
                "cookie",
                "oc_sessionPassphrase=passphrase-of-alice-{n}; oc_sessionPassphrase=",
            ),
            reached("/public").asked(1, 0),
        )
        .harp("the cookie is found in every spelling of the list", reached("/public").asked(1, 0)),
        row(
            "the cookie's name is exact",
            get("/exapps/demo{n}/user")
                .with("cookie", "oc_sessionpassphrase=passphrase-of-alice-{n}"),
            refused(403).asked(1, 0),
        )
        .strikes(1),
    ]
}

pub(crate) fn internal_endpoints() -> Vec<Row> {
    let closed = [
        ("the heartbeat is AppAPI's", "/heartbeat"),
        ("init is AppAPI's", "/init"),
        ("enabled is AppAPI's", "/enabled"),
        ("enabled with a query is AppAPI's", "/enabled?enabled=0"),
    ];
    let mut rows: Vec<Row> = closed
        .into_iter()
        .map(|(name, tail)| {
            row(name, get(&format!("/exapps/open{{n}}{tail}")), dropped()).strikes(1)
        })
        .collect();
    rows.extend([
        row(
            "the heartbeat is closed to administrators",
            get("/exapps/open{n}/heartbeat").session("admin"),
            dropped(),
        )
        .strikes(1),
        row("and to holders of the key", get("/exapps/open{n}/heartbeat").key(), dropped())
            .strikes(1),
        row("PUT enabled is closed", send("PUT", "/exapps/open{n}/enabled?enabled=1"), dropped())
            .strikes(1),
        row(
            "a slash behind it makes it a path",
            get("/exapps/open{n}/heartbeat/"),
            reached("/heartbeat/"),
        ),
        row("capitals make it a path", get("/exapps/open{n}/Init"), reached("/Init")),
        row("deeper down it is a path", get("/exapps/open{n}/x/enabled"), reached("/x/enabled")),
    ]);
    rows
}

pub(crate) fn methods() -> Vec<Row> {
    let any = [
        ("HaRP never learns verbs: PATCH passes", "PATCH"),
        ("DELETE passes", "DELETE"),
        ("OPTIONS passes", "OPTIONS"),
        ("PROPFIND passes", "PROPFIND"),
    ];
    any.into_iter()
        .map(|(name, method)| {
            row(name, send(method, "/exapps/demo{n}/public"), reached("/public").saw_method(method))
        })
        .collect()
}
