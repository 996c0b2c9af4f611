//! One connection of the FRP port from its first byte to its first message: TLS or not, mux or
//! not, then a login or a work connection.
//!
//! Every step has a deadline, because nobody has proved anything yet. What a logged-in client may
//! do is `session.rs`'s business.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cluster::flows::Recorded;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::admission::{Ticket, Turn};
use super::config::{Config, TlsMode};
use super::control::{Control, Start};
use super::credential::Credentials;
use super::crypto::cfb::{IV_LEN, Key};
use super::entitlement::Proof;
use super::login;
use super::message::{Login, LoginResp, Message, NewWorkConn, StartWorkConn};
use super::mux;
use super::preface::{Preface, Refusal};
use super::registry::Seat;
use super::rejected::{Rejected, STEP};
use super::session::{Input, Session, SessionEnd};
use super::sieve::Sieve;
use super::tunnels::Tunnels;
use super::wire::Codec;
use super::work::Users;
use crate::guard::Guard;
use crate::net::{Grip, Socket, Stream};
use crate::observe::failure;
use crate::observe::metrics::metrics;

/// Stream data a mux session may send before its login was accepted. A Login is at most 10 KiB;
/// nothing else may come before the answer.
const PROBATION: u32 = 64 * 1024;

/// Unsent bytes the kernel may hold: a ping reply behind more than this would miss frpc's 10 s on
/// a slow line.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Bytes taken off a TLS connection at once.
const READ_AHEAD: usize = 32 * 1024;

/// Longest silence of a client without mux (frps `heartbeatTimeout`).
const HEARTBEAT: Duration = Duration::from_secs(90);

/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// Users and work connections that may wait for a session's attention.
const INPUTS: usize = 256;

/// Longest run id taken over from a client; its own are 16 characters.
const MAX_RUN_ID: usize = 64;

/// What all connections share.
pub(super) struct Door {
    pub(super) config: Config,
    pub(super) tls: watch::Receiver<Arc<ServerConfig>>,
    pub(super) key: Key,
    pub(super) tunnels: Tunnels,
    pub(super) guard: Guard,
    pub(super) credentials: Credentials,
    pub(super) sieve: Mutex<Sieve>,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
struct Origin {
    client: SocketAddr,
    server: SocketAddr,
    grip: Grip,
    /// Whether the layer below is a mux, which does its own heartbeat.
    mux: bool,
}

/// What a first message led to.
enum First {
    Login(Box<LoggedIn>),
    /// A work connection, handed to its session.
    Work,
}

/// A client that has a seat and waits for its answer.
struct LoggedIn {
    session: Session,
    run_id: String,
    client: SocketAddr,
    _recorded: Recorded,
}

impl LoggedIn {
    async fn run(self) {
        let Self { session, run_id, client, _recorded } = self;
        let end = session.run().await;
        if matches!(end, SessionEnd::Killed) {
            tracing::debug!(run_id, client.addr = %client, "session ended by this side");
        } else {
            tracing::info!(
                name: "tunnel_down",
                run_id, client.addr = %client, reason = %end,
                "tunnel client lost"
            );
        }
    }
}

impl Door {
    /// Serves one accepted connection until it ends.
    pub(super) async fn serve(&self, tcp: TcpStream, client: SocketAddr, ticket: Ticket) {
        if let Err(rejected) = self.enter(tcp, client, ticket).await {
            self.tell(client, &rejected);
        }
    }

    async fn enter(
        &self,
        tcp: TcpStream,
        client: SocketAddr,
        ticket: Ticket,
    ) -> Result<(), Rejected> {
        // The tunnel works without the option, only worse.
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
        let socket = Socket::new(tcp, client);
        socket.remember_start();
        let grip = socket.grip();
        if !self.tunnels.sockets().track(&socket) {
            return Err(Rejected::Ended);
        }
        let server = socket.local_addr()?;
        let mut first = [0];
        if within(socket.peek(&mut first)).await?? == 0 {
            return Err(Rejected::Ended);
        }
        let [first] = first;
        // Only now: one that says nothing needs no turn, and must not keep others from theirs.
        let turn = within(ticket.turn()).await?.ok_or(Rejected::Ended)?;
        let (stream, inside) = match Preface::of(first) {
            preface @ (Preface::Tls | Preface::CustomTls) => {
                self.handshake(socket, preface == Preface::CustomTls).await?
            }
            Preface::Refused(refusal) => return Err(refusal.into()),
            Preface::Mux | Preface::V1 if self.config.tls == TlsMode::Required => {
                return Err(Rejected::NoTls);
            }
            plain => (Stream::new(socket), plain),
        };
        let origin = Origin { client, server, grip, mux: inside == Preface::Mux };
        match inside {
            Preface::Mux => self.multiplexed(stream, &origin, turn).await,
            Preface::V1 => match self.first_message(stream, &origin).await? {
                First::Login(session) => {
                    drop(turn);
                    session.run().await;
                    Ok(())
                }
                First::Work => Ok(()),
            },
            Preface::Refused(refusal) => Err(refusal.into()),
            // TLS within TLS.
            Preface::Tls => Err(Refusal::Garbage(0x16).into()),
            Preface::CustomTls => Err(Refusal::Garbage(0x17).into()),
        }
    }

    /// TLS, and what the first byte inside it announces.
    async fn handshake(
        &self,
        mut socket: Socket,
        custom: bool,
    ) -> Result<(Stream, Preface), Rejected> {
        if custom {
            socket.read_u8().await?;
        }
        // rustls takes 4 KiB at a time: one system call shall bring more than that.
        let socket = BufReader::with_capacity(READ_AHEAD, socket);
        let acceptor = TlsAcceptor::from(self.tls.borrow().clone());
        let mut tls = within(acceptor.accept(socket)).await?.map_err(Rejected::Tls)?;
        let first = match within(tls.read_u8()).await? {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Rejected::Ended);
            }
            // In TLS 1.3 this is where a refused client certificate shows on the client's side.
            Err(error) => return Err(Rejected::Tls(error)),
        };
        let stream = Stream::new(tls).put_back(Bytes::copy_from_slice(&[first]));
        Ok((stream, Preface::of(first)))
    }

    /// A mux session: its first stream logs in, every other one is a work connection.
    async fn multiplexed(
        &self,
        stream: Stream,
        origin: &Origin,
        turn: Turn,
    ) -> Result<(), Rejected> {
        let config = mux::Config { probation: Some(PROBATION), ..mux::Config::default() };
        let (mut incoming, control) = mux::serve(stream, config);
        let first = within(incoming.accept()).await?.ok_or(Rejected::Ended)?;
        // Further streams are left alone until this one has logged in.
        let First::Login(session) = self.first_message(Stream::new(first), origin).await? else {
            return Err(Rejected::Message("NewWorkConn"));
        };
        control.admit();
        drop(turn);
        let session = session.run();
        tokio::pin!(session);
        let mut works = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut session => break,
                Some(_) = works.join_next() => {}
                stream = incoming.accept() => match stream {
                    Some(stream) => {
                        works.spawn(deliver(Stream::new(stream), self.tunnels.clone()));
                    }
                    None => {
                        let reason = control.closed().await;
                        tracing::debug!(client.addr = %origin.client, %reason, "mux session ended");
                        session.await;
                        break;
                    }
                },
            }
        }
        // Work connections in users' hands end with the session.
        control.abort();
        Ok(())
    }

    /// Reads the first message of a connection or of a mux session's first stream.
    async fn first_message(&self, mut stream: Stream, origin: &Origin) -> Result<First, Rejected> {
        let mut codec = Codec::new();
        match within(read_message(&mut stream, &mut codec)).await?? {
            Message::Login(login) => {
                let client = self.login(stream, codec, login, origin).await?;
                Ok(First::Login(Box::new(client)))
            }
            Message::NewWorkConn(work) => {
                hand_over(stream, codec, &work, &self.tunnels).await.map(|()| First::Work)
            }
            other => Err(Rejected::Message(other.name())),
        }
    }

    /// Seats the client, or tells it why not.
    async fn login(
        &self,
        mut stream: Stream,
        mut codec: Codec,
        login: Login,
        origin: &Origin,
    ) -> Result<LoggedIn, Rejected> {
        let address = origin.client.ip();
        let banned = self.guard.is_banned(address);
        let verdict = login::verify(&login, &self.config.auth_token, banned, |offered| {
            self.proof_of(offered)
        });
        let mut response = LoginResp { version: login::VERSION.into(), ..LoginResp::default() };
        let mut out = BytesMut::new();
        metrics().login(verdict.as_ref().map_or_else(|error| error.word(), |_| "accepted"));
        let proof = match verdict {
            Ok(proof) => proof,
            Err(error) => {
                if error.is_strike() {
                    self.guard.strike(address);
                    failure::tell(address, error.word());
                }
                response.error = error.to_string();
                codec.encode(&Message::LoginResp(response), &mut out);
                // A client that does not want to know why may go without.
                let _ = timeout(LINGER, say_goodbye(&mut stream, &out)).await;
                return Err(error.into());
            }
        };
        let iv = random::<IV_LEN>()?;
        let run_id = match login.run_id {
            known
                if (1..=MAX_RUN_ID).contains(&known.len())
                    && self.tunnels.may_resume(&known, &proof) =>
            {
                known
            }
            _ => login::hex(&random::<8>()?),
        };
        let (input, inputs) = mpsc::channel(INPUTS);
        let kill = CancellationToken::new();
        let id = self.tunnels.attach(Seat {
            run_id: run_id.clone(),
            proof,
            client: origin.client,
            server: origin.server,
            input,
            kill: kill.clone(),
            grip: origin.grip.clone(),
            users: Users::default(),
        });
        let recorded = self.tunnels.record(origin.server, origin.client, &origin.grip);
        tracing::info!(
            run_id,
            client.addr = %origin.client,
            client.version = login.version,
            client.hostname = login.hostname,
            mux = origin.mux,
            "tunnel client logged in"
        );
        response.run_id = run_id.clone();
        codec.encode(&Message::LoginResp(response), &mut out);
        codec.start_reading_cipher(&self.key);
        codec.start_writing_cipher(&self.key, iv);
        let start = Start {
            pool_count: login.pool_count,
            heartbeat: (!origin.mux).then_some(HEARTBEAT),
            user_wait: self.config.work_connection_wait,
        };
        let control = Control::new(start, Instant::now());
        let tunnels = self.tunnels.clone();
        let session = Session { id, tunnels, control, codec, stream, out, input: inputs, kill };
        Ok(LoggedIn { session, run_id, client: origin.client, _recorded: recorded })
    }

    /// What the token of a login proves.
    fn proof_of(&self, offered: &str) -> Option<Proof> {
        // Both are always tried: the time taken tells nothing about either.
        let app = self.credentials.verify(offered);
        let tenant = self.guard.keys().tenant_of(offered.as_bytes());
        tenant.cloned().map(Proof::SharedKey).or(app.map(Proof::App))
    }

    fn tell(&self, client: SocketAddr, rejected: &Rejected) {
        let notable = matches!(
            rejected,
            Rejected::NoTls
                | Rejected::Tls(_)
                | Rejected::Login(_)
                | Rejected::Preface(Refusal::WireV2 | Refusal::WebSocket)
        );
        let mut sieve = self.sieve.lock().unwrap_or_else(PoisonError::into_inner);
        if notable && sieve.lets_through(Instant::now(), client.ip()) {
            tracing::warn!(client.addr = %client, reason = %rejected, "tunnel client turned away");
        } else {
            tracing::debug!(client.addr = %client, reason = %rejected, "connection turned away");
        }
    }
}

/// A work connection of a mux session.
async fn deliver(mut stream: Stream, tunnels: Tunnels) {
    let mut codec = Codec::new();
    let message = match within(read_message(&mut stream, &mut codec)).await {
        Ok(Ok(Message::NewWorkConn(work))) => work,
        Ok(Ok(other)) => {
            tracing::debug!(message = other.name(), "unexpected start of a mux stream");
            return;
        }
        Ok(Err(reason)) | Err(reason) => {
            tracing::debug!(%reason, "mux stream turned away");
            return;
        }
    };
    if let Err(reason) = hand_over(stream, codec, &message, &tunnels).await {
        tracing::debug!(%reason, "work connection turned away");
    }
}

/// Gives a work connection to the session it names.
async fn hand_over(
    mut stream: Stream,
    mut codec: Codec,
    work: &NewWorkConn,
    tunnels: &Tunnels,
) -> Result<(), Rejected> {
    let Some(seat) = tunnels.session_of(&work.run_id) else {
        let mut out = BytesMut::new();
        let error = Rejected::NoSession.to_string();
        let start = StartWorkConn { error, ..StartWorkConn::default() };
        codec.encode(&Message::StartWorkConn(start), &mut out);
        // The client only logs it.
        let _ = timeout(LINGER, say_goodbye(&mut stream, &out)).await;
        return Err(Rejected::NoSession);
    };
    let stream = stream.put_back(codec.into_rest());
    seat.input.send(Input::Work(stream)).await.map_err(|_closed| Rejected::NoSession)
}

async fn read_message(stream: &mut Stream, codec: &mut Codec) -> Result<Message, Rejected> {
    let mut inbox = BytesMut::with_capacity(1024);
    let mut checked = false;
    loop {
        if stream.read_buf(&mut inbox).await? == 0 {
            return Err(Rejected::Ended);
        }
        if let (false, Some(first)) = (checked, inbox.first()) {
            checked = true;
            match Preface::of(*first) {
                Preface::V1 => {}
                Preface::Refused(refusal) => return Err(refusal.into()),
                _ => return Err(Refusal::Garbage(*first).into()),
            }
        }
        codec.push(&inbox);
        inbox.clear();
        if let Some(message) = codec.next()? {
            return Ok(message);
        }
    }
}

/// Sends the last words and waits until the client has hung up: closing over unread bytes would
/// reset the connection and take the words back.
async fn say_goodbye(stream: &mut Stream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.shutdown().await?;
    let mut scrap = [0; 512];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, Rejected> {
    timeout(STEP, step).await.map_err(|_elapsed| Rejected::Silent)
}

fn random<const N: usize>() -> Result<[u8; N], Rejected> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| Rejected::Random)?;
    Ok(bytes)
}
