//! WebSockets that stay open through the fault, each with a periodic echo.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

const PACE: Duration = Duration::from_millis(100);
/// An echo that takes longer is a broken connection, however open it may look.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the last echo, asked when service has long been back.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How many were opened, and how many of them broke.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    opened: AtomicU64,
    broken: AtomicU64,
}

impl Sockets {
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

/// Opens one and echoes until `quit`; a last echo then decides whether it lived.
pub(super) async fn keep_open(
    to: SocketAddr,
    path: String,
    count: Arc<Sockets>,
    quit: CancellationToken,
) {
    let Some(mut socket) = open(to, &path).await else { return };
    count.opened.fetch_add(1, Ordering::Relaxed);
    let mut number = 0u64;
    loop {
        let last = quit.is_cancelled();
        number += 1;
        let patience = if last { LAST_PATIENCE } else { PATIENCE };
        let alive = tokio::select! {
            // Asked to end in the middle of a long wait: the short patience counts from now.
            () = async { quit.cancelled().await; sleep(LAST_PATIENCE).await }, if !last => false,
            alive = timeout(patience, echo(&mut socket, number)) => alive == Ok(true),
        };
        if !alive {
            count.broken.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if last {
            return;
        }
        tokio::select! {
            () = quit.cancelled() => {}
            () = sleep(PACE) => {}
        }
    }
}

async fn open(to: SocketAddr, path: &str) -> Option<WebSocketStream<TcpStream>> {
    let connect = async {
        let stream = TcpStream::connect(to).await.ok()?;
        client_async(format!("ws://{to}{path}"), stream).await.ok()
    };
    let (socket, _answer) = timeout(PATIENCE, connect).await.ok()??;
    Some(socket)
}

async fn echo(socket: &mut WebSocketStream<TcpStream>, number: u64) -> bool {
    let message = Message::text(number.to_string());
    if socket.send(message.clone()).await.is_err() {
        return false;
    }
    matches!(socket.next().await, Some(Ok(echoed)) if echoed == message)
}
