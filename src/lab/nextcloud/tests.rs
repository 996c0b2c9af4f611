//! Each row is a line of the contract with AppAPI (calls 2.1 and 2.2).

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use tokio::net::TcpStream;

use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn user(id: &str, level: u8) -> User {
    User { user_id: id.into(), access_level: level }
}

fn directory() -> Directory {
    let mut directory = Directory::new(Secret::new("right"));
    let route = Route { url: "^/public".into(), access_level: 0, bruteforce_protection: vec![401] };
    directory.apps.insert(
        "demo".into(),
        App {
            exapp_token: "token".into(),
            exapp_version: "1.2.3".into(),
            host: "127.0.0.1".into(),
            port: 23_000,
            routes: vec![route],
        },
    );
    directory.sessions.insert("alice-cookie".into(), user("alice", 1));
    directory.sessions.insert("locked-cookie".into(), user("locked", 0));
    directory.passwords.insert("root:pass".into(), user("root", 2));
    directory.tokens.insert("app-password".into(), user("alice", 1));
    directory
}

async fn start() -> (Nextcloud, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let nextcloud = Nextcloud::new(directory());
    tokio::spawn(nextcloud.clone().serve(listener));
    (nextcloud, address)
}

async fn call(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: Headers<'_>,
) -> (u16, HeaderMap, String) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "nextcloud");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

const KEY: (&str, &str) = ("harp-shared-key", "right");
const REFUSED: &str = r#"{"message":"Harp shared key is not valid"}"#;

#[tokio::test]
async fn exapp_meta_tells_the_record_to_the_right_key_only() {
    let (nextcloud, at) = start().await;
    let (status, headers, body) = call(at, "GET", &format!("{META}?appId=demo"), &[KEY]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        serde_json::json!({
            "exapp_token": "token", "exapp_version": "1.2.3", "host": "127.0.0.1", "port": 23000,
            "routes": [{"url": "^/public", "access_level": 0, "bruteforce_protection": [401]}],
        })
    );
    assert_eq!(nextcloud.calls().attempts, 0);
    // (query, key, attempts it costs)
    for (query, key, cost) in
        [("demo", "wrong", 2), ("nobody", "right", 0), ("nobody", "wrong", 0), ("Demo", "right", 0)]
    {
        let before = nextcloud.calls().attempts;
        let path = format!("{META}?appId={query}");
        let (status, _, body) = call(at, "GET", &path, &[("harp-shared-key", key)]).await;
        assert_eq!((status, body.as_str()), (401, REFUSED), "{query} {key}");
        assert_eq!(nextcloud.calls().attempts - before, cost, "{query} {key}");
    }
    assert_eq!(nextcloud.calls().exapp_meta, 5);
}

#[tokio::test]
async fn user_info_knows_visitors_by_cookie_password_and_token() {
    let (nextcloud, at) = start().await;
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let (right, wrong) = (basic("root:pass"), basic("root:nope"));
    let alice = r#"{"user_id":"alice","access_level":1}"#;
    let nobody = r#"{"user_id":"","access_level":0}"#;
    let table: [(Headers<'_>, u16, &str, u64); 9] = [
        (&[("cookie", "oc_sessionPassphrase=alice-cookie")], 200, alice, 0),
        (&[("cookie", "a=b; oc_sessionPassphrase=alice-cookie")], 200, alice, 0),
        (
            &[("cookie", "oc_sessionPassphrase=locked-cookie")],
            200,
            r#"{"user_id":"locked","access_level":0}"#,
            0,
        ),
        (&[("cookie", "oc_sessionPassphrase=ended")], 200, nobody, 0),
        (&[("cookie", "nc_session_id=alice-cookie")], 200, nobody, 0),
        (&[], 200, nobody, 0),
        (&[("authorization", &right)], 200, r#"{"user_id":"root","access_level":2}"#, 0),
        (&[("authorization", &wrong)], 401, r#"{"message":""}"#, 1),
        (&[("authorization", "Bearer app-password")], 200, alice, 0),
    ];
    for (headers, status, body, cost) in table {
        let before = nextcloud.calls().attempts;
        let headers = [&[KEY], headers].concat();
        let got = call(at, "GET", &format!("{USER}?appId=demo"), &headers).await;
        assert_eq!((got.0, got.2.as_str()), (status, body), "{headers:?}");
        assert_eq!(nextcloud.calls().attempts - before, cost, "{headers:?}");
        let cookies = got.1.get_all("set-cookie").iter().count();
        assert_eq!(cookies, if body == nobody { 4 } else { 0 }, "{headers:?}");
    }
    for (query, key) in [("demo", "wrong"), ("nobody", "right")] {
        let before = nextcloud.calls().attempts;
        let path = format!("{USER}?appId={query}");
        let (status, _, body) = call(at, "GET", &path, &[("harp-shared-key", key)]).await;
        assert_eq!((status, body.as_str()), (401, REFUSED));
        assert_eq!(nextcloud.calls().attempts - before, 1);
    }
}

#[tokio::test]
async fn other_methods_paths_and_maintenance_are_refused() {
    let (nextcloud, at) = start().await;
    let meta = format!("{META}?appId=demo");
    for (method, path, status) in [
        ("HEAD", meta.as_str(), 200),
        ("POST", &meta, 405),
        ("GET", META, 400),
        ("GET", "/index.php/login", 404),
        ("GET", &format!("{META}?appId=%64emo"), 200),
    ] {
        assert_eq!(call(at, method, path, &[KEY]).await.0, status, "{method} {path}");
    }
    nextcloud.change(|directory| directory.maintenance = true);
    let (status, headers, _) = call(at, "GET", &meta, &[KEY]).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "120"));
}
