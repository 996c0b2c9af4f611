//! The built-in tunnel client: one tcp proxy, wire v1, no mux.
//!
//! Differs from frpc in what matters during a failover: it dials again at once and keeps trying
//! several times a second. Every work connection is a TCP connection of its own.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use rustls::ClientConfig as TlsConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::crypto::cfb::{IV_LEN, Key};
use super::login::{self, privilege_key};
use super::message::{Login, Message, NewProxy, NewWorkConn, Ping};
use super::pki::SERVER_NAME;
use super::wire::{Codec, WireError};
use crate::net::Stream;
use crate::secret::Secret;

/// Longest time for connecting, and for the TLS handshake after it.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of the FRP port.
    pub server: String,
    /// Name the server's certificate must carry.
    pub server_name: String,
    /// How to speak TLS, usually [`Pki::client_config`](super::Pki::client_config); `None` = not.
    pub tls: Option<Arc<TlsConfig>>,
    /// The shared key, sent as `metas.token`.
    pub token: Secret,
    /// frp's `auth.token`.
    pub auth_token: String,
    /// Name of the proxy.
    pub proxy_name: String,
    /// Port to register.
    pub remote_port: u16,
    /// Where users are led.
    pub local: LocalTarget,
    /// Work connections to keep ready.
    pub pool: u8,
    /// When to try again.
    pub retry: Retry,
}

impl ClientConfig {
    /// A client with the usual settings and without TLS.
    pub fn new(
        server: impl Into<String>,
        token: Secret,
        proxy_name: impl Into<String>,
        remote_port: u16,
        local: LocalTarget,
    ) -> Self {
        Self {
            server: server.into(),
            server_name: SERVER_NAME.into(),
            tls: None,
            token,
            auth_token: String::new(),
            proxy_name: proxy_name.into(),
            remote_port,
            local,
            pool: 2,
            retry: Retry::default(),
        }
    }
}

/// Where the client leads its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalTarget {
    /// `host:port`.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// Waits between attempts: none after a connection that worked for a second, then a few short
/// ones, then doubling up to a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The short wait.
    pub first: Duration,
    /// How often it is used before it doubles.
    pub quick: u32,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), quick: 3, cap: Duration::from_secs(2) }
    }
}

impl Retry {
    /// How long the TCP connection may take after `failures` failed attempts. Short at first: a
    /// SYN sent while the virtual IP is between two nodes is lost, and the kernel would repeat it
    /// only after a second.
    fn patience(failures: u32) -> Duration {
        (Duration::from_millis(500) * failures.saturating_add(1).min(6)).min(CONNECT_WITHIN)
    }

    /// The wait before the attempt that follows `failures` failed ones.
    pub fn wait(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = failures.saturating_sub(self.quick).min(16);
        (self.first * 2_u32.pow(doublings)).min(self.cap)
    }
}

/// What the client tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Logged in under this run id.
    Connected {
        /// The run id.
        run_id: String,
    },
    /// The server serves the proxy.
    Started,
    /// The server refuses the proxy.
    Refused(String),
    /// The connection is gone or could not be made.
    Lost(String),
}

/// Why a connection ended or was never made.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The server closed it.
    #[error("server closed the connection")]
    Closed,
    /// TCP or TLS failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// What came is not frp.
    #[error("server broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// A message that has no place here.
    #[error("server sent {0} where it does not belong")]
    Unexpected(&'static str),
    /// The server refuses the login; its words.
    #[error("login refused: {0}")]
    Login(String),
    /// The configured server name is none.
    #[error("server name is not usable: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// Nothing came in time.
    #[error("server did not answer in time")]
    Silent,
    /// The system has no random numbers.
    #[error("no random numbers are to be had")]
    Random,
}

/// A connection that ended sooner counts as a failed attempt: two clients that take a port from
/// each other must not do so in a tight loop.
const WORKED: Duration = Duration::from_secs(1);

/// How long a refused proxy waits before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Runs until `stop`; reconnects for ever. `report` is called from the client's task and must
/// not block.
pub async fn run(
    config: ClientConfig,
    stop: CancellationToken,
    mut report: impl FnMut(ClientEvent) + Send,
) {
    let config = Arc::new(config);
    let mut run_id = String::new();
    let mut failures = 0;
    loop {
        let mut since = None;
        let mut tell = |event: ClientEvent| {
            if let ClientEvent::Connected { .. } = event {
                since = Some(Instant::now());
            }
            report(event);
        };
        let Err(loss) = tokio::select! {
            loss = connection(&config, failures, &mut run_id, &mut tell) => loss,
            () = stop.cancelled() => return,
        };
        report(ClientEvent::Lost(loss.to_string()));
        let worked = since.is_some_and(|since| since.elapsed() >= WORKED);
        failures = if worked { 0 } else { failures + 1 };
        tokio::select! {
            () = sleep(config.retry.wait(failures)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One control connection, from dialling to its end. Its work connections end with it.
async fn connection(
    config: &Arc<ClientConfig>,
    failures: u32,
    run_id: &mut String,
    report: &mut (impl FnMut(ClientEvent) + Send),
) -> Result<Infallible, Loss> {
    const HEARTBEAT: Duration = Duration::from_secs(30);
    const HEARTBEAT_LIMIT: Duration = Duration::from_secs(90);

    let (stream, mut codec) = log_in(config, Retry::patience(failures), run_id).await?;
    let mut out = BytesMut::new();
    let key = Key::derive(config.auth_token.as_bytes());
    let mut iv = [0; IV_LEN];
    aws_lc_rs::rand::fill(&mut iv).map_err(|_unspecified| Loss::Random)?;
    codec.start_reading_cipher(&key);
    codec.start_writing_cipher(&key, iv);
    report(ClientEvent::Connected { run_id: run_id.clone() });
    codec.encode(&Message::NewProxy(new_proxy(config)), &mut out);

    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut inbox = BytesMut::with_capacity(4096);
    let mut works = JoinSet::new();
    let mut last_pong = Instant::now();
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut ask_again = None;
    loop {
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
        tokio::select! {
            read = reader.read_buf(&mut inbox) => {
                if read? == 0 {
                    return Err(Loss::Closed);
                }
            }
            _ = beat.tick() => {
                if last_pong.elapsed() > HEARTBEAT_LIMIT {
                    return Err(Loss::Silent);
                }
                codec.encode(&Message::Ping(Ping::default()), &mut out);
            }
            Some(_) = works.join_next() => {}
            () = alarm(ask_again) => {
                ask_again = None;
                codec.encode(&Message::NewProxy(new_proxy(config)), &mut out);
            }
        }
        codec.push(&inbox);
        inbox.clear();
        while let Some(message) = codec.next()? {
            match message {
                Message::ReqWorkConn(_) => {
                    works.spawn(work(config.clone(), run_id.clone()));
                }
                Message::NewProxyResp(answer) if answer.error.is_empty() => {
                    report(ClientEvent::Started);
                }
                Message::NewProxyResp(answer) => {
                    ask_again = Some(tokio::time::Instant::now() + ASK_AGAIN);
                    report(ClientEvent::Refused(answer.error));
                }
                Message::Pong(pong) if pong.error.is_empty() => last_pong = Instant::now(),
                Message::Pong(pong) => return Err(Loss::Login(pong.error)),
                other => return Err(Loss::Unexpected(other.name())),
            }
        }
    }
}

/// Logs in once, registers nothing and leaves: whether a tunnel client would get in.
///
/// # Errors
/// What keeps it out.
pub async fn try_login(config: &ClientConfig) -> Result<(), Loss> {
    log_in(config, CONNECT_WITHIN, &mut String::new()).await.map(|_session| ())
}

/// Dials and logs in; the run id is the one the server gave.
async fn log_in(
    config: &ClientConfig,
    within: Duration,
    run_id: &mut String,
) -> Result<(Stream, Codec), Loss> {
    let mut stream = dial(config, within).await?;
    let mut codec = Codec::new();
    let mut out = BytesMut::new();
    codec.encode(&Message::Login(login(config, run_id)), &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    match soon(ANSWER_WITHIN, read(&mut stream, &mut codec)).await?? {
        Message::LoginResp(answer) if answer.error.is_empty() => *run_id = answer.run_id,
        Message::LoginResp(answer) => return Err(Loss::Login(answer.error)),
        other => return Err(Loss::Unexpected(other.name())),
    }
    Ok((stream, codec))
}

async fn alarm(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One work connection, from dialling to its user's end. A failure is the server's to notice: it
/// asks for another one.
async fn work(config: Arc<ClientConfig>, run_id: String) {
    if let Err(error) = carry(&config, run_id).await {
        tracing::debug!(proxy = config.proxy_name, %error, "work connection ended");
    }
}

async fn carry(config: &ClientConfig, run_id: String) -> Result<(), Loss> {
    let mut stream = dial(config, CONNECT_WITHIN).await?;
    let mut codec = Codec::new();
    let mut out = BytesMut::new();
    let hello = NewWorkConn { run_id, ..NewWorkConn::default() };
    codec.encode(&Message::NewWorkConn(hello), &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    // No deadline: a pooled connection may wait for hours.
    match read(&mut stream, &mut codec).await? {
        Message::StartWorkConn(start) if start.error.is_empty() => {}
        Message::StartWorkConn(start) => return Err(Loss::Login(start.error)),
        other => return Err(Loss::Unexpected(other.name())),
    }
    let mut user = stream.put_back(codec.into_rest());
    let connect = async {
        match &config.local {
            LocalTarget::Tcp(address) => {
                let local = TcpStream::connect(address).await?;
                local.set_nodelay(true)?;
                Ok::<_, io::Error>(Stream::new(local))
            }
            LocalTarget::Unix(path) => Ok(Stream::new(UnixStream::connect(path).await?)),
        }
    };
    let mut local = soon(CONNECT_WITHIN, connect).await??;
    copy_bidirectional(&mut user, &mut local).await?;
    Ok(())
}

async fn dial(config: &ClientConfig, within: Duration) -> Result<Stream, Loss> {
    let tcp = soon(within, TcpStream::connect(&config.server)).await??;
    tcp.set_nodelay(true)?;
    let Some(tls) = &config.tls else { return Ok(Stream::new(tcp)) };
    let name = ServerName::try_from(config.server_name.clone())?;
    let tls = TlsConnector::from(tls.clone());
    Ok(Stream::new(soon(CONNECT_WITHIN, tls.connect(name, tcp)).await??))
}

async fn soon<T>(within: Duration, step: impl Future<Output = T>) -> Result<T, Loss> {
    timeout(within, step).await.map_err(|_elapsed| Loss::Silent)
}

async fn read(stream: &mut Stream, codec: &mut Codec) -> Result<Message, Loss> {
    let mut inbox = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut inbox).await? == 0 {
            return Err(Loss::Closed);
        }
        codec.push(&inbox);
        inbox.clear();
        if let Some(message) = codec.next()? {
            return Ok(message);
        }
    }
}

fn login(config: &ClientConfig, run_id: &str) -> Login {
    let timestamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let token = String::from_utf8_lossy(config.token.expose()).into_owned();
    Login {
        version: login::VERSION.into(),
        os: std::env::consts::OS.into(),
        arch: std::env::consts::ARCH.into(),
        privilege_key: privilege_key(&config.auth_token, timestamp),
        timestamp,
        run_id: run_id.into(),
        metas: [("token".to_owned(), token)].into(),
        pool_count: config.pool.into(),
        ..Login::default()
    }
}

fn new_proxy(config: &ClientConfig) -> NewProxy {
    NewProxy {
        proxy_name: config.proxy_name.clone(),
        proxy_type: "tcp".into(),
        remote_port: config.remote_port.into(),
        ..NewProxy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_quick_first_and_never_rarer_than_the_cap() {
        let retry = Retry::default();
        let waits: Vec<_> = (0..9).map(|n| retry.wait(n).as_millis()).collect();
        assert_eq!(waits, [0, 200, 200, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(retry.wait(u32::MAX), retry.cap);
    }
}
