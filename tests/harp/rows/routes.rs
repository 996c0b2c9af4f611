//! Which route decides (contract 1.2, step 8): Python's `re.match` on the path as typed. The
//! fixtures in `tests/fixtures/routes` hold many more patterns.

use crate::row::{Row, get, reached, refused, row};

pub(crate) fn patterns() -> Vec<Row> {
    let open = [
        ("a pattern is a prefix", "/public/deep/down"),
        ("a pattern with an end is exact", "/exact"),
        ("a pattern without an anchor matches at the start", "/middle"),
        ("case counts: as written", "/Case"),
        ("an alternative", "/js/app.js"),
        ("the other alternative", "/css/app.css"),
        ("braces that count nothing are characters", "/item/{id}"),
        ("the first of two routes decides", "/shared"),
    ];
    let mut rows: Vec<Row> = open
        .into_iter()
        .map(|(name, tail)| row(name, get(&format!("/exapps/demo{{n}}{tail}")), reached(tail)))
        .collect();
    let closed = [
        ("an exact pattern has no more behind it", "/exactly"),
        ("nor a slash", "/exact/"),
        ("no match in the middle", "/a/middle"),
        ("a pattern without the leading slash never matches", "/bare"),
        ("case counts: otherwise", "/case"),
        ("an escape is not decoded for the pattern", "/js%2fapp.js"),
        ("the root has no route", "/"),
    ];
    rows.extend(closed.into_iter().map(|(name, tail)| {
        row(name, get(&format!("/exapps/demo{{n}}{tail}")), refused(404)).strikes(1)
    }));
    rows.extend([
        row("a stricter route in front wins", get("/exapps/demo{n}/twice-open"), refused(403))
            .strikes(1),
        row("digits", get("/exapps/demo{n}/api/v12/x").session("alice"), reached("/api/v12/x")),
        row("no digits", get("/exapps/demo{n}/api/vx/x").session("alice"), refused(404)).strikes(1),
        row("look-ahead lets pass", get("/exapps/clever{n}/shown"), reached("/shown")),
        row("look-ahead holds back", get("/exapps/clever{n}/private"), refused(404)).strikes(1),
        row("a back-reference matches", get("/exapps/clever{n}/a/a"), reached("/a/a")),
        row("a back-reference does not match", get("/exapps/clever{n}/a/b"), refused(404))
            .strikes(1),
        row(
            "an empty pattern matches everything",
            get("/exapps/open{n}/any/thing"),
            reached("/any/thing"),
        ),
    ]);
    rows
}

/// The visitor chooses the input, so the work must be bounded (weakness W10).
pub(crate) fn pathological() -> Vec<Row> {
    const STOPS: &str = "its engine has no limit: one such request stops all others (W10)";
    vec![
        row(
            "a pattern that would not end decides nothing",
            get(&format!("/exapps/slow{{n}}/{}!", "a".repeat(60))),
            refused(404),
        )
        .strikes(1)
        .not_for_harp(STOPS),
        row("and costs nobody else anything", get("/exapps/slow{n}/b"), reached("/b")),
    ]
}
