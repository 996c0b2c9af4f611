//! The control API under `/exapps/app_api/` (contract 1.5 and 3).

use crate::row::{Row, get, refused, row, send, status};

pub(crate) fn general() -> Vec<Row> {
    let json =
        |text: &str| status(200).says(text).has("content-type", "application/json; charset=utf-8");
    vec![
        row(
            "info names a version AppAPI accepts",
            get("/exapps/app_api/info").key(),
            json("0.4.4"),
        ),
        row(
            "info says whether there is Docker",
            get("/exapps/app_api/info").key(),
            json("\"docker\""),
        ),
        row(
            "info says whether there is Kubernetes",
            get("/exapps/app_api/info").key(),
            json("\"kubernetes\""),
        ),
        row(
            "info has a length",
            get("/exapps/app_api/info").key(),
            status(200).lacks("transfer-encoding"),
        ),
        row("the heartbeat is ok", get("/exapps/app_api/heartbeat").key(), json("\"ok\"")),
        row("HEAD of info", send("HEAD", "/exapps/app_api/info").key(), status(200).body("")),
        row(
            "the query is nothing to it",
            get("/exapps/app_api/heartbeat?x=1").key(),
            json("\"ok\""),
        ),
        row(
            "POST info",
            send("POST", "/exapps/app_api/info").key(),
            status(405).has("allow", "GET,HEAD"),
        ),
        row(
            "DELETE heartbeat",
            send("DELETE", "/exapps/app_api/heartbeat").key(),
            status(405).has("allow", "GET,HEAD"),
        ),
        row(
            "GET of a record",
            get("/exapps/app_api/exapp_storage/demo{n}").key(),
            status(405).has("allow", "DELETE,POST"),
        ),
        row(
            "a slash behind it is another path",
            get("/exapps/app_api/info/").key(),
            status(404).body("404: Not Found"),
        ),
        row(
            "an unknown path",
            get("/exapps/app_api/nothing").key(),
            status(404).body("404: Not Found"),
        ),
        row("the bare root", get("/exapps/app_api/").key(), status(404)),
        row("not even a slash", get("/exapps/app_api").key(), status(404))
            .harp("the empty path is invalid for its control server", status(400)),
    ]
}

pub(crate) fn keys() -> Vec<Row> {
    let refused = || refused(401);
    vec![
        row("the control API without a key", get("/exapps/app_api/info"), refused()).strikes(1),
        row(
            "with a wrong key",
            get("/exapps/app_api/info").with("harp-shared-key", "guess"),
            refused(),
        )
        .strikes(1),
        row(
            "with an empty key",
            get("/exapps/app_api/info").with("harp-shared-key", ""),
            refused(),
        )
        .strikes(1),
        row(
            "with the start of the key",
            get("/exapps/app_api/info").with("harp-shared-key", "a-shared-key"),
            refused(),
        )
        .strikes(1),
        row(
            "with the key twice in one line",
            get("/exapps/app_api/info").with("harp-shared-key", "{key},{key}"),
            refused(),
        )
        .strikes(1),
        row(
            "with the key as Basic only",
            get("/exapps/app_api/info")
                .with("authorization", "Basic {basic:app_api_haproxy_user:{key}}"),
            refused(),
        )
        .strikes(1),
        row("for an administrator", get("/exapps/app_api/info").session("admin"), refused())
            .strikes(1),
        row("unknown paths are as closed", get("/exapps/app_api/nothing"), refused()).strikes(1),
        row(
            "of two keys the last counts: right",
            get("/exapps/app_api/info").with("harp-shared-key", "guess").key(),
            status(200),
        ),
        row(
            "of two keys the last counts: wrong",
            get("/exapps/app_api/info").key().with("harp-shared-key", "guess"),
            refused(),
        )
        .strikes(1),
        row(
            "spaces around the key",
            get("/exapps/app_api/info").with("harp-shared-key", "  {key}  "),
            status(200),
        ),
        row(
            "the header's name in capitals",
            get("/exapps/app_api/info").with("HARP-SHARED-KEY", "{key}"),
            status(200),
        ),
        row(
            "AppAPI's Basic beside the key",
            get("/exapps/app_api/info")
                .key()
                .with("authorization", "Basic {basic:app_api_haproxy_user:{key}}"),
            status(200),
        ),
    ]
}
