//! Strangers on the FRP port: nothing they send harms the tunnel beside them, and the node's
//! memory stays where it was.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::frpc::{Frpc, Setup, Transport, VERSIONS};
use crate::support::node::{A_MOMENT, Node};

/// First bytes a stranger may send, on a port that takes plain connections as well.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = 0x2545_f491_u32;
    let mut random = || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise.to_le_bytes()[0]
    };
    let mut login_of_2_63 = vec![b'o'];
    login_of_2_63.extend((1_u64 << 63).to_be_bytes());
    let mut oversized = vec![b'o'];
    oversized.extend(10_241_u64.to_be_bytes());
    oversized.extend([b'{'; 4096]);
    let mut bad_json = vec![b'o'];
    bad_json.extend(7_u64.to_be_bytes());
    bad_json.extend(b"{\"a\":1,");
    let mut beyond_window = vec![0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    beyond_window.extend([0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
    beyond_window.extend([0; 4096]);
    vec![
        ("random bytes", (0..4096).map(|_| random()).collect()),
        ("half a TLS hello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03]),
        ("the head byte and nothing", vec![0x17]),
        ("a frame of 2^63 bytes", login_of_2_63),
        ("a message over the limit", oversized),
        ("broken JSON", bad_json),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("wire v2", b"FRP\x00\x02\r\n".to_vec()),
        ("yamux of another version", vec![9, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("yamux beyond its window", beyond_window),
        ("one byte", vec![b'o']),
        ("nothing", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_cut_off_and_harm_nobody() {
    let node = Node::start("tls = false").await;
    let setup = Setup { transport: Transport::Plain, ..Setup::default() };
    let _frpc = Frpc::start(VERSIONS[0], &node, &setup);
    node.page_answers().await;
    let before = node.resident_kib();
    let mut open = Vec::new();
    for round in 0..40 {
        for (what, bytes) in shapes() {
            let mut stream = TcpStream::connect(node.frp).await.unwrap();
            // A refusal may arrive while we still write: that is the point.
            let _ = stream.write_all(&bytes).await;
            open.push((round, what, stream));
        }
    }
    node.page_answers().await;
    for (_, what, mut stream) in open {
        let mut rest = Vec::new();
        let ended = timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut rest));
        assert!(ended.await.is_ok(), "{what} was left connected");
    }
    node.page_answers().await;
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_partial_frames_do_not_fill_the_memory() {
    let node = Node::start("tls = false").await;
    let before = node.resident_kib();
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(node.frp).await.unwrap();
        // A yamux stream whose announced data never ends.
        let mut bytes = vec![0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 0]);
        bytes.extend([b'o'; 1000]);
        let _ = stream.write_all(&bytes).await;
        streams.push(stream);
    }
    tokio::time::sleep(A_MOMENT).await;
    for stream in &mut streams {
        let _ = stream.write_all(&[b'o'; 1000]).await;
    }
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown < 96 << 10, "memory grew by {grown} KiB");
    let setup = Setup { transport: Transport::Plain, ..Setup::default() };
    let _frpc = Frpc::start(VERSIONS[1], &node, &setup);
    node.page_answers().await;
}
