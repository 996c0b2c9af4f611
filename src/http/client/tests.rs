//! The client between a hyper server, which lends it request bodies, and a bare socket as upstream.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::net::{BoxFuture, Stream, TcpDial};

const LONG: Duration = Duration::from_secs(30);
const LARGE: usize = 16 << 20;

fn client() -> Client {
    let dial = TcpDial { within: LONG, refuse_loopback: false };
    Client::new(Arc::new(dial), Config::default())
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Target::Tcp { host: "127.0.0.1".into(), port })
}

/// A server that sends everything on through `client`.
async fn proxy(client: Client, to: Target) -> SocketAddr {
    let (listener, _) = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, to) = (client.clone(), to.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (client, to) = (client.clone(), to.clone());
                async move {
                    let request = request.map(|body| Body::stream(body, LONG));
                    Ok::<_, Infallible>(client.send(&to, request).await.unwrap())
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Reads to the end of a head.
async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// The answer fills every buffer on its way while the visitor is still uploading and does not
/// read: the upload has to arrive all the same.
#[tokio::test]
async fn an_early_answer_does_not_stop_the_upload() {
    let (listener, to) = listen().await;
    let (tell, uploaded) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let (mut read, mut write) = stream.into_split();
        tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            let _ = write.write_all(&vec![b'a'; LARGE]).await;
        });
        let mut upload = vec![0; LARGE];
        read.read_exact(&mut upload).await.unwrap();
        let _ = tell.send(());
        // Until the answer is out.
        let _ = read.read_u8().await;
    });
    let mut visitor = TcpStream::connect(proxy(client(), to).await).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {LARGE}\r\n\r\n");
    visitor.write_all(head.as_bytes()).await.unwrap();
    read_head(&mut visitor).await;
    timeout(LONG, async {
        visitor.write_all(&vec![b'u'; LARGE]).await.unwrap();
        uploaded.await.unwrap();
        let mut answer = vec![0; LARGE];
        visitor.read_exact(&mut answer).await.unwrap();
    })
    .await
    .expect("the upload waited for a visitor who reads afterwards");
}

/// A POST is never sent twice, so it must not be sent on a connection the upstream has closed.
#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_not_used() {
    let (listener, to) = listen().await;
    let (tell, mut closed) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            drop(stream);
            tell.send(()).await.unwrap();
        }
    });
    let client = client();
    for _ in 0..2 {
        let request = Request::post("/").header("host", "h").body(Body::full("x")).unwrap();
        let response = client.send(&to, request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        closed.recv().await.unwrap();
        // The runtime looks at its sockets.
        tokio::task::yield_now().await;
    }
}

/// A name that leads to one machine and later to another; each answers with its letter.
struct Moving(Mutex<u8>);

impl Dial for Moving {
    fn dial<'a>(&'a self, _to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        let letter = *self.0.lock().unwrap();
        Box::pin(async move {
            let (near, mut far) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let mut request = [0; 512];
                while far.read(&mut request).await.is_ok_and(|length| length > 0) {
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", letter as char);
                    if far.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
            Ok(Stream::new(near))
        })
    }
}

async fn ask(client: &Client) -> u8 {
    let to = Target::Tcp { host: "demo".into(), port: 23000 };
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("host", "demo".parse().unwrap());
    let answer = client.send(&to, request).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()[0]
}

#[tokio::test]
async fn w17_a_recreated_container_is_looked_up_again_once_its_connections_are_idle() {
    let dial = Arc::new(Moving(Mutex::new(b'a')));
    let config = Config { idle: Duration::from_millis(20), ..Config::default() };
    let client = Client::new(Arc::<Moving>::clone(&dial), config.clone());
    assert_eq!(ask(&client).await, b'a');
    *dial.0.lock().unwrap() = b'b';
    tokio::time::sleep(config.idle + Duration::from_millis(1)).await;
    assert_eq!(ask(&client).await, b'b');
}
