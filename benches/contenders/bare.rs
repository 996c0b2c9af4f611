//! A reverse proxy on hyper that checks nothing and changes nothing: what the HTTP library alone
//! costs. One connection to the target for each connection of a client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// Serves until the process is ended.
pub(crate) fn run(listen: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // Either side may end it at any time.
                let _ = serve(stream, to).await;
            });
        }
    })
}

async fn serve(stream: TcpStream, to: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let upstream = TcpStream::connect(to).await?;
    upstream.set_nodelay(true)?;
    let (sender, connection) = client::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection.with_upgrades());
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(|request| {
        let sender = Arc::clone(&sender);
        async move { Ok::<_, Infallible>(forward(request, &sender).await) }
    });
    server::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

async fn forward(
    mut request: Request<Incoming>,
    sender: &Mutex<client::SendRequest<Incoming>>,
) -> Response<Either<Incoming, Empty<Bytes>>> {
    let client = hyper::upgrade::on(&mut request);
    let mut sender = sender.lock().await;
    let answer = match sender.ready().await {
        Ok(()) => sender.send_request(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let target = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                let (Ok(client), Ok(target)) = (client.await, target.await) else { return };
                let (mut client, mut target) = (TokioIo::new(client), TokioIo::new(target));
                let _ = copy_bidirectional(&mut client, &mut target).await;
            });
            response.map(|_nothing| Either::Right(Empty::new()))
        }
        Ok(response) => response.map(Either::Left),
        Err(_) => {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}
