//! Who was recognised a moment ago need not be asked about again (contract 2.2). The subject's
//! session lifetime is its longest, ten seconds.

use crate::row::{Row, get, reached, refused, story};

pub(crate) fn remembered() -> Vec<Row> {
    vec![
        story("a session is asked about once")
            .then(get("/exapps/demo{n}/user").session("alice"), reached("/user").asked(1, 1))
            .then(
                get("/exapps/demo{n}/user").session("alice"),
                reached("/user").by("alice").asked(0, 0),
            ),
        story("for all ExApps together")
            .then(get("/exapps/demo{n}/user").session("alice"), reached("/user").asked(1, 1))
            .then(get("/exapps/wide{n}/x").session("alice"), reached("/x").by("alice").asked(1, 0)),
        story("that nobody is meant is remembered too")
            .then(get("/exapps/demo{n}/public").session("stranger"), reached("/public").asked(1, 1))
            .then(
                get("/exapps/demo{n}/public").session("stranger"),
                reached("/public").by("").asked(0, 0),
            ),
        story("credentials without a session are asked about every time")
            .then(
                get("/exapps/demo{n}/user").with("authorization", "Bearer token-of-alice-{n}"),
                reached("/user").asked(1, 1),
            )
            .then(
                get("/exapps/demo{n}/user").with("authorization", "Bearer token-of-alice-{n}"),
                reached("/user").asked(0, 1),
            ),
        story("refused credentials are asked about again")
            .then(
                get("/exapps/demo{n}/user").with("authorization", "Bearer wrong"),
                refused(403).asked(1, 1),
            )
            .then(
                get("/exapps/demo{n}/user").with("authorization", "Bearer wrong"),
                refused(403).asked(0, 1),
            )
            .strikes(2),
        story("a failure of Nextcloud is not remembered")
            .change(|stage, n| stage.user_says(&format!("demo{n}"), 500, "text/html", "<html>"))
            .then(
                get("/exapps/demo{n}/public").session("alice"),
                reached("/public").by("").asked(1, 1),
            )
            .harp("401 on every route when Nextcloud fails (W15)", refused(401).asked(1, 1))
            .change(|stage, n| stage.heal(&format!("demo{n}")))
            .then(
                get("/exapps/demo{n}/user").session("alice"),
                reached("/user").by("alice").asked(0, 1),
            ),
    ]
}

/// A passphrase outlives logout and login in one browser (weakness W11).
pub(crate) fn mixed_up() -> Vec<Row> {
    const PASSPHRASE: &str = "the passphrase alone names the session (W11)";
    const COOKIE: &str =
        "oc_sessionPassphrase=passphrase-of-alice-{n}; nc_sameSiteCookielax=true; nc_session_id=";
    let browser =
        |session: &str| get("/exapps/demo{n}/user").with("cookie", &format!("{COOKIE}{session}"));
    vec![
        story("another session under the same passphrase is asked about")
            .then(browser("one"), reached("/user").asked(1, 1))
            .then(browser("two"), reached("/user").asked(0, 1))
            .harp(PASSPHRASE, reached("/user").asked(0, 0)),
        story("so is another Authorization")
            .then(browser("one"), reached("/user").asked(1, 1))
            .then(browser("one").with("authorization", "Bearer x"), reached("/user").asked(0, 1))
            .harp(PASSPHRASE, reached("/user").asked(0, 0)),
        story("who logs out and in as somebody else is somebody else at once")
            .then(browser("one"), reached("/user").by("alice"))
            .change(|stage, n| {
                stage.nextcloud.change(|directory| {
                    let admin = directory.sessions[&format!("passphrase-of-admin-{n}")].clone();
                    directory.sessions.insert(format!("passphrase-of-alice-{n}"), admin);
                });
            })
            .then(browser("two"), reached("/user").by("admin"))
            .harp(PASSPHRASE, reached("/user").by("alice")),
    ]
}
