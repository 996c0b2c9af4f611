//! Reading the path: parent segments, the id, and what is left for the ExApp (contract 1.2, steps
//! 3 to 5).

use crate::row::{Row, dropped, get, raw, reached, refused, row, status};

pub(crate) fn parent_segments() -> Vec<Row> {
    let spelled = [
        ("a parent segment is dropped", "/exapps/demo{n}/../x"),
        ("a parent segment at the end", "/exapps/demo{n}/.."),
        ("a parent segment in front of everything", "/../exapps/demo{n}/public"),
        ("both dots encoded", "/exapps/demo{n}/%2e%2e/x"),
        ("one dot encoded, the other in capitals", "/exapps/demo{n}/.%2E/x"),
        ("the first dot encoded", "/exapps/demo{n}/%2E./x"),
        ("encoded separators on both sides", "/exapps/demo{n}/public%2f..%2fadmin"),
        ("encoded separator in front, end behind", "/exapps/demo{n}/public%2F%2e%2e"),
        ("behind a route everybody may use", "/exapps/demo{n}/public/../admin"),
        ("towards the control API", "/exapps/app_api/../demo{n}/x"),
        ("in the place of the id", "/exapps/../x{n}"),
    ];
    let mut rows: Vec<Row> = spelled
        .into_iter()
        .map(|(name, path)| row(name, get(path), dropped()).strikes(1))
        .collect();
    rows.extend([
        row(
            "a parent segment with the right key costs nothing",
            get("/exapps/demo{n}/../x").key(),
            dropped(),
        ),
        row("a signed one neither", get("/exapps/demo{n}/../x").signed(), dropped()),
        row(
            "a parent segment with a wrong key",
            get("/exapps/demo{n}/../x").with("harp-shared-key", "guess"),
            dropped(),
        )
        .strikes(1),
        row(
            "a parent segment of an administrator",
            get("/exapps/demo{n}/../x").session("admin"),
            dropped(),
        )
        .strikes(1),
    ]);
    let harmless = [
        ("dots encoded twice are none", "/%252e%252e/x"),
        ("three dots are a name", "/.../x"),
        ("two dots within a name", "/a..b/..c"),
        ("a parameter behind two dots", "/..;/x"),
        ("a backslash is no separator", "/..\\x"),
        ("two dots in the query", "/x?file=../../etc"),
        ("a single dot travels on", "/./x"),
    ];
    rows.extend(
        harmless
            .into_iter()
            .map(|(name, tail)| row(name, get(&format!("/exapps/open{{n}}{tail}")), reached(tail))),
    );
    rows
}

pub(crate) fn ids() -> Vec<Row> {
    let none = [
        ("no id: another path", "/foo{n}"),
        ("no id: the root", "/"),
        ("no id: no slash behind exapps", "/exapps"),
        ("no id: nothing behind the slash", "/exapps/"),
        ("no id: an empty segment", "/exapps//x"),
        ("no id: exapps in capitals", "/Exapps/demo{n}/public"),
        ("no id: exapps encoded", "/%65xapps/demo{n}/public"),
        ("no id: part of a longer name", "/xexapps/demo{n}/public"),
    ];
    let mut rows: Vec<Row> = none
        .into_iter()
        .map(|(name, path)| row(name, get(path), refused(404)).strikes(1))
        .collect();
    rows.extend([
        row("no id but the right key costs nothing", get("/exapps/").key(), refused(404)),
        row("an unknown ExApp", get("/exapps/ghost{n}/public"), refused(404).asked(1, 0))
            .strikes(1),
        row(
            "an unknown ExApp asked with the right key",
            get("/exapps/ghost{n}/x").key(),
            refused(404).asked(1, 0),
        ),
        row(
            "an unknown ExApp's internal endpoint",
            get("/exapps/ghost{n}/heartbeat"),
            refused(404),
        )
        .strikes(1),
        row(
            "an id is looked up in lower case and passed on as typed",
            get("/exapps/DeMo{n}/public"),
            reached("/public").saw("ex-app-id", "DeMo{n}").asked(1, 0),
        ),
        row("an id is not decoded", get("/exapps/dem%6f{n}/public"), refused(404).asked(1, 0))
            .strikes(1),
        row("only app_api is the control API", get("/exapps/APP_API/info"), refused(404))
            .strikes(1),
        row(
            "APP_API with the right key is an unknown ExApp",
            get("/exapps/APP_API/info").key(),
            refused(404),
        ),
        row(
            "app_apix is an ExApp",
            get("/exapps/app_apix{n}/info").key(),
            refused(404).asked(1, 0),
        ),
    ]);
    rows
}

pub(crate) fn targets() -> Vec<Row> {
    const EMPTY: &str = "the ExApp gets an empty path, which is invalid HTTP";
    vec![
        row(
            "without a slash the ExApp is asked for its root",
            get("/exapps/open{n}"),
            reached("/"),
        )
        .harp(EMPTY, status(400)),
        row("so it is with a query", get("/exapps/open{n}?x=1"), reached("/?x=1"))
            .harp(EMPTY, status(400)),
        row("with a slash it is the root", get("/exapps/open{n}/"), reached("/")),
        row(
            "escapes and query arrive as typed",
            get("/exapps/open{n}/a%2Fb%20c?x=%20&y"),
            reached("/a%2Fb%20c?x=%20&y"),
        ),
        row("an empty query stays", get("/exapps/open{n}/a?"), reached("/a?")),
        row(
            "a question mark within the query stays",
            get("/exapps/open{n}/a?b?c"),
            reached("/a?b?c"),
        ),
        row("empty segments stay", get("/exapps/open{n}//x//y"), reached("//x//y")),
        row(
            "an id later in the path is not taken off",
            get("/foo/exapps/open{n}/x"),
            reached("/foo/exapps/open{n}/x"),
        ),
        row("nor behind two slashes", get("//exapps/open{n}/x"), reached("//exapps/open{n}/x")),
        row("such a path usually has no route", get("//exapps/demo{n}/public"), refused(404))
            .strikes(1),
        row(
            "a second exapps belongs to the ExApp",
            get("/exapps/open{n}/exapps/demo/x"),
            reached("/exapps/demo/x"),
        ),
        row(
            "an absolute target counts by its path",
            raw(
                "GET http://cloud.example/exapps/open{n}/x?y HTTP/1.1\r\nHost: cloud.example\r\nX-Forwarded-For: {client}\r\n\r\n",
            ),
            reached("/x?y").saw("host", "cloud.example"),
        )
        .harp("the ExApp gets an absolute target too", reached("http://cloud.example/x?y")),
        row(
            "a target of 6 KB",
            get(&format!("/exapps/open{{n}}/{}", "a".repeat(6000))),
            reached(&format!("/{}", "a".repeat(6000))),
        ),
    ]
}

/// Measured ways around a stricter route, and into the internal endpoints.
pub(crate) fn encoded() -> Vec<Row> {
    const W9: &str = "only the path as typed is compared with routes and endpoints (W9)";
    let mut rows = Vec::new();
    for (name, tail) in [
        ("an encoded letter does not hide an admin path", "/%61dmin/x"),
        ("all letters encoded, mixed case", "/%61%64%6D%69%6e"),
        ("an empty segment in front does not hide it", "//admin"),
        ("a single dot in front does not hide it", "/./admin"),
        ("an encoded single dot does not hide it", "/%2e/admin"),
        ("both at once do not hide it", "/%2E//%61dmin"),
    ] {
        let path = format!("/exapps/wide{{n}}{tail}");
        rows.push(
            row(name, get(&path).session("alice"), refused(403))
                .strikes(1)
                .harp(W9, reached(tail).by("alice"))
                .harp_strikes(W9, Some(0)),
        );
    }
    for (name, tail) in [
        ("an encoded heartbeat is the heartbeat", "/%68eartbeat"),
        ("an encoded enabled is enabled", "/%65nabled?enabled=0"),
        ("init behind two slashes is init", "//init"),
        ("init behind a single dot is init", "/./init"),
    ] {
        let path = format!("/exapps/open{{n}}{tail}");
        rows.push(
            row(name, get(&path), dropped())
                .strikes(1)
                .harp(W9, reached(tail))
                .harp_strikes(W9, Some(0)),
        );
    }
    rows.extend([
        row(
            "an administrator may spell it as he likes",
            get("/exapps/wide{n}/%61dmin/x").session("admin"),
            reached("/%61dmin/x").by("admin"),
        ),
        row(
            "what is open in both forms stays open",
            get("/exapps/wide{n}//x").session("alice"),
            reached("//x"),
        ),
        row(
            "an encoded public path has no route as typed",
            get("/exapps/demo{n}/%70ublic"),
            refused(404),
        )
        .strikes(1),
        row(
            "a path that is open as typed only is closed",
            get("/exapps/demo{n}/exact/%2e"),
            refused(404),
        )
        .strikes(1),
    ]);
    rows
}
