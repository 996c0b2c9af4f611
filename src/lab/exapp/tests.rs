use http_body_util::Empty;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::*;

async fn stream() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_tcp(listener));
    TcpStream::connect(address).await.unwrap()
}

async fn ask<B>(
    over: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(over)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "app").header("x-probe", "1").body(Empty::new()).unwrap()
}

async fn body(answer: Response<Incoming>) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn the_same_pages_stand_below_every_access_level() {
    for (path, status) in [
        ("/", 200),
        ("/public", 200),
        ("/user/", 200),
        ("/admin/headers", 200),
        ("/publicity", 404),
        ("/public/nothing", 404),
        ("/sink", 404),
    ] {
        assert_eq!(ask(stream().await, get(path)).await.status(), status, "{path}");
    }
    assert_eq!(body(ask(stream().await, get("/public/")).await).await, PAGE);
}

#[tokio::test]
async fn headers_come_back_as_received() {
    let text = body(ask(stream().await, get("/user/headers?a=b")).await).await;
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["path"], "/user/headers?a=b");
    assert_eq!(value["method"], "GET");
    assert_eq!(value["headers"], serde_json::json!([["host", "app"], ["x-probe", "1"]]));
}

#[tokio::test]
async fn source_and_sink_agree_on_what_was_carried() {
    for length in [0u64, 1, 65_536, 200_001] {
        let answer = ask(stream().await, get(&format!("/source?bytes={length}"))).await;
        assert_eq!(answer.headers()["content-length"], length.to_string().as_str());
        let bytes = body(answer).await;
        let request = Request::post("/sink").header("host", "app");
        let request = request.body(Full::new(bytes)).unwrap();
        let text = body(ask(stream().await, request).await).await;
        let told: Value = serde_json::from_slice(&text).unwrap();
        let expected = serde_json::json!({"length": length, "sha256": source_sha256(length)});
        assert_eq!(told, expected);
    }
    // Of no bytes at all, SHA-256 is known by heart.
    assert!(source_sha256(0).starts_with("e3b0c44298fc1c14"));
    assert_eq!(ask(stream().await, get("/source")).await.status(), 400);
}

#[tokio::test]
async fn a_websocket_echoes_text_and_binary() {
    let (mut socket, _) = client_async("ws://app/public/ws", stream().await).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0, 1, 2])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn events_tell_the_time_one_by_one() {
    let answer = ask(stream().await, get("/public/events")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer.into_body();
    for _ in 0..2 {
        let data = events.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        let time = text.strip_prefix("data: ").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 1_600_000_000_000);
    }
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_and_replaces_an_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exapp.sock");
    drop(UnixListener::bind(&path).unwrap());
    let served = path.clone();
    let server = tokio::spawn(async move { serve_unix(&served).await });
    let stream = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => break stream,
            Err(_not_yet) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(body(ask(stream, get("/")).await).await, PAGE);
    server.abort();
}
