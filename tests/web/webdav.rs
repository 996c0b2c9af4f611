//! WebDAV as litmus asks for it, over HTTP/1.1 and HTTP/2, and paths byte for byte.

use crate::client::{HOST, Speaks, ask, json, request};
use crate::rig::{Extras, Rig};

#[tokio::test]
async fn every_verb_does_what_it_says_over_both_versions_of_http() {
    let rig = Rig::start(Extras::default()).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let base = format!("/remote.php/dav/files/alice/{speaks:?}");
        let to = |name: &str| format!("http://{HOST}{base}/{name}");
        type Row<'a> = (&'a str, &'a str, Vec<(&'a str, String)>, &'a str, u16);
        let rows: Vec<Row<'_>> = vec![
            ("OPTIONS", "", vec![], "", 200),
            ("MKCOL", "", vec![], "", 201),
            ("MKCOL", "", vec![], "", 405),
            ("MKCOL", "/none/below", vec![], "", 409),
            ("PUT", "/a", vec![("x-oc-mtime", "1".into())], "hello", 201),
            ("PUT", "/a", vec![], "hello again", 204),
            ("GET", "/a", vec![], "", 200),
            ("HEAD", "/a", vec![], "", 200),
            ("GET", "/a", vec![("range", "bytes=6-".into())], "", 206),
            ("GET", "/none", vec![], "", 404),
            ("PROPFIND", "", vec![("depth", "1".into())], "<x/>", 207),
            ("PROPFIND", "", vec![("depth", "0".into())], "", 207),
            ("REPORT", "", vec![], "<x/>", 207),
            ("PROPPATCH", "/a", vec![], "<x/>", 207),
            ("COPY", "/a", vec![("destination", to("b%20c"))], "", 201),
            ("COPY", "/a", vec![("destination", to("b%20c")), ("overwrite", "F".into())], "", 412),
            ("MOVE", "/b%20c", vec![("destination", to("d"))], "", 201),
            ("MOVE", "/a", vec![("destination", "http://elsewhere.example/x".into())], "", 502),
            ("LOCK", "/d", vec![], "<x/>", 200),
            ("UNLOCK", "/d", vec![("lock-token", "<opaquelocktoken:1>".into())], "", 204),
            ("DELETE", "/d", vec![], "", 204),
            ("DELETE", "/d", vec![], "", 404),
            ("DELETE", "", vec![], "", 204),
        ];
        for (method, path, headers, body, expected) in rows {
            let headers: Vec<_> = headers.iter().map(|(name, v)| (*name, v.as_str())).collect();
            let asked = request(method, &format!("{base}{path}"), &headers, body.to_owned());
            let answer = ask(rig.front, speaks, asked).await.unwrap();
            assert_eq!(answer.status(), expected, "{speaks:?} {method} {path} {headers:?}");
            match (method, expected) {
                ("GET", 200) => assert_eq!(answer.body(), "hello again"),
                ("GET", 206) => assert_eq!(answer.body(), "again"),
                ("HEAD", _) => assert_eq!(answer.headers()["content-length"], "11"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn paths_arrive_byte_for_byte() {
    let rig = Rig::start(Extras::default()).await;
    for target in [
        "/echo/a%2Fb%23c%3Fd",
        "/echo//a//b/./c",
        "/echo/%C3%A4%20x?y=%26&&z",
        "/echo/x?",
        "/echo/x?a?b",
        "/echo/%41%62",
    ] {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let answer = ask(rig.front, speaks, request("GET", target, &[], "")).await.unwrap();
            assert_eq!(json(&answer)["target"], target, "{speaks:?}");
        }
    }
}
