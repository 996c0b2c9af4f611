//! The ExApp everybody leads to: as lean as it can be, because it shares the cores with those who
//! are measured. On TCP and on a unix socket, one thread for both.
//!
//! | last part of the path | answer |
//! |---|---|
//! | `small` | 28 bytes of JSON |
//! | `source` | 1 MiB |
//! | `sink` | takes any body with a length |
//! | `ws` | WebSocket that echoes short frames |

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::head;

/// Length of `/source`.
pub(crate) const LARGE: usize = 1 << 20;

const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\
    date: Mon, 05 Jan 2026 10:00:00 GMT\r\n\r\n{\"app\":\"bench\",\"answer\": 42}";

/// Serves until the process ends; returns the TCP address.
pub(crate) fn start(tcp: SocketAddr, unix: PathBuf) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(tcp).with_context(|| format!("target on {tcp}"))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("target".into()).spawn(move || {
        runtime.block_on(async move {
            let (Ok(tcp), Ok(unix)) = (TcpListener::from_std(listener), UnixListener::bind(unix))
            else {
                return;
            };
            tokio::join!(
                async {
                    while let Ok((stream, _)) = tcp.accept().await {
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(serve(stream));
                    }
                },
                async {
                    while let Ok((stream, _)) = unix.accept().await {
                        tokio::spawn(serve(stream));
                    }
                },
            );
        });
    })?;
    Ok(address)
}

/// Ends with the connection, whoever ends it.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let large = [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").into_bytes(),
        vec![b'x'; LARGE],
    ]
    .concat();
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    loop {
        let Some(length) = head::length(&buffer[..filled]) else {
            match stream.read(&mut buffer[filled..]).await {
                Ok(n) if n > 0 => filled += n,
                _ => return,
            }
            continue;
        };
        let request = &buffer[..length];
        let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let answer = if path.ends_with(b"/source") { &large[..] } else { SMALL };
        if path.ends_with(b"/ws") {
            let key = head::header(request, "sec-websocket-key").unwrap_or_default();
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                 connection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            if stream.write_all(switch.as_bytes()).await.is_ok() {
                let _ = echo(stream, &mut buffer).await;
            }
            return;
        }
        let mut body = head::content_length(request).unwrap_or(0);
        let rest = filled - length;
        if rest <= body {
            body -= rest;
            filled = 0;
        } else {
            buffer.copy_within(length + body..filled, 0);
            (filled, body) = (rest - body, 0);
        }
        while body > 0 {
            let most = buffer.len().min(body);
            match stream.read(&mut buffer[..most]).await {
                Ok(n) if n > 0 => body -= n,
                _ => return,
            }
        }
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Sends back every frame, unmasked. Frames are shorter than 126 bytes.
async fn echo(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    buffer: &mut [u8],
) -> io::Result<()> {
    const HEADER: usize = 2;
    const MASK: usize = 4;
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).await?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let (mut taken, mut kept) = (0, 0);
        while filled - taken >= HEADER {
            let payload = usize::from(buffer[taken + 1] & 0x7f);
            let frame = HEADER + MASK + payload;
            if filled - taken < frame {
                break;
            }
            let mask: [u8; MASK] = std::array::from_fn(|at| buffer[taken + HEADER + at]);
            buffer[kept] = buffer[taken];
            buffer[kept + 1] = buffer[taken + 1] & 0x7f;
            for at in 0..payload {
                buffer[kept + HEADER + at] = buffer[taken + HEADER + MASK + at] ^ mask[at % MASK];
            }
            taken += frame;
            kept += HEADER + payload;
        }
        stream.write_all(&buffer[..kept]).await?;
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}
