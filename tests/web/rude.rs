//! Web nodes that do not speak HTTP, and what stands beside Nextcloud.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Speaks, ask, request};
use crate::rig::{Extras, Rig};

/// Answers every connection with these bytes, again and again if told so.
async fn answers(words: &'static [u8], for_ever: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                while stream.write_all(words).await.is_ok() && for_ever {}
            });
        }
    });
    address
}

#[tokio::test]
async fn a_node_that_talks_rubbish_or_never_ends_its_head_is_left_out() {
    for (what, words, for_ever) in [
        ("garbage", &b"SSH-2.0-OpenSSH_9.2\r\n"[..], false),
        ("an endless head", b"x-more: and more\r\n", true),
        ("half a head", b"HTTP/1.1 200 OK\r\nx-", false),
    ] {
        let rude = answers(words, for_ever).await;
        let extras = Extras { backends: &[("rude", rude)], config: "check = 'tcp'" };
        let rig = Rig::start(extras).await;
        for _ in 0..40 {
            let asked = request("GET", "/whoami", &[], "");
            let answer = ask(rig.front, Speaks::Http1, asked).await.unwrap();
            assert_eq!(answer.status(), 200, "{what}");
        }
        let member = rig.member("rude").await.unwrap();
        assert_eq!(member.failed, 3, "{what}: ejected after three");
        // What changes something is not sent twice: it fails, once, and says so.
        let log = rig.log();
        assert!(log.contains("is left out"), "{what}");
    }
}

#[tokio::test]
async fn a_route_strips_its_prefix_and_carries_websockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let push = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let line = head.lines().next().unwrap_or_default().to_owned();
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                     upgrade: websocket\r\nx-line: {line}\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let mut echo = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut echo).await {
                    let _ = stream.write_all(&echo[..read]).await;
                }
            });
        }
    });
    let config = format!("[[web.routes]]\npath = '/push/'\nbackends = ['{push}']\n");
    let rig = Rig::start(Extras { config: &config, ..Extras::default() }).await;
    rig.wait_for(&format!("push/{push}"), trigon::balance::roster::Condition::Up).await;
    let mut client = TcpStream::connect(rig.front).await.unwrap();
    let head = "GET /push/ws?a=b HTTP/1.1\r\nhost: cloud.example\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("x-line: GET /ws?a=b HTTP/1.1"), "{answer}");
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    let member = rig.member(&format!("push/{push}")).await.unwrap();
    assert_eq!(member.in_flight, 1, "a WebSocket is something to do");
}
