//! Drives one logged-in client: carries bytes, users and work connections to its [`Control`] and
//! the control's decisions back. Decides nothing itself.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::control::{Control, ControlAction, ControlEvent, Refused, UserId, WorkId};
use super::message::{Message, NewProxy};
use super::ports::SessionId;
use super::tunnels::Tunnels;
use super::wire::{Codec, WireError};
use crate::net::Stream;

/// Bytes that may wait for a client that does not read its control connection.
const MAX_BACKLOG: usize = 256 * 1024;

/// A work connection and the name of the proxy it is to be started for.
pub(super) type Started = (Stream, String);

/// What reaches a session from outside its control connection.
#[derive(Debug)]
pub(super) enum Input {
    /// The client delivered a work connection.
    Work(Stream),
    /// Somebody wants one; a dropped reply means the session is gone.
    User { port: u16, attempt: usize, reply: oneshot::Sender<Result<Started, Refused>> },
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionEnd {
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the client broke the protocol: {0}")]
    Wire(#[from] WireError),
    #[error("the client does not read its control connection")]
    Backlog,
    #[error("{0}")]
    Control(&'static str),
    #[error("replaced or stopped")]
    Killed,
}

/// One session, ready to run. Dropping it gives its ports back.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) tunnels: Tunnels,
    pub(super) control: Control,
    pub(super) codec: Codec,
    pub(super) stream: Stream,
    /// Bytes to send first: the login's answer.
    pub(super) out: BytesMut,
    pub(super) input: mpsc::Receiver<Input>,
    pub(super) kill: CancellationToken,
}

/// What the control knows by number only.
#[derive(Default)]
struct Held {
    users: HashMap<UserId, oneshot::Sender<Result<Started, Refused>>>,
    works: HashMap<WorkId, Stream>,
    next: u64,
}

impl Session {
    /// Runs until either side ends it. Ports are free when this returns.
    pub(super) async fn run(mut self) -> SessionEnd {
        let mut held = Held::default();
        self.drive(&mut held).await.err().unwrap_or(SessionEnd::Closed)
    }

    async fn drive(&mut self, held: &mut Held) -> Result<(), SessionEnd> {
        let stream = std::mem::replace(&mut self.stream, Stream::new(tokio::io::empty()));
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut inbox = BytesMut::with_capacity(4096);
        let mut unsent = true;
        self.read_messages()?;
        loop {
            unsent |= self.carry_out(held)?;
            let due = self.control.poll_timeout();
            let alarm = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.kill.cancelled() => return Err(SessionEnd::Killed),
                () = alarm => self.control.handle_timeout(Instant::now()),
                sent = send(&mut writer, &mut self.out), if unsent => {
                    sent?;
                    unsent = false;
                }
                read = reader.read_buf(&mut inbox) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.codec.push(&inbox);
                    inbox.clear();
                    self.read_messages()?;
                }
                input = self.input.recv() => match input {
                    Some(input) => self.take_in(held, input),
                    None => return Err(SessionEnd::Killed),
                },
            }
        }
    }

    fn read_messages(&mut self) -> Result<(), SessionEnd> {
        while let Some(message) = self.codec.next()? {
            self.control.handle(Instant::now(), ControlEvent::Message(message));
        }
        Ok(())
    }

    fn take_in(&mut self, held: &mut Held, input: Input) {
        held.next += 1;
        let id = held.next;
        let event = match input {
            Input::Work(stream) => {
                held.works.insert(id, stream);
                ControlEvent::Work(id)
            }
            Input::User { port, attempt, reply } => {
                held.users.insert(id, reply);
                ControlEvent::User { user: id, port, attempt }
            }
        };
        self.control.handle(Instant::now(), event);
    }

    /// Does what the control wants done; whether there is something to send.
    fn carry_out(&mut self, held: &mut Held) -> Result<bool, SessionEnd> {
        let mut sends = false;
        while let Some(action) = self.control.poll_action() {
            match action {
                ControlAction::Send(message) => {
                    self.tell_refusal(&message);
                    self.codec.encode(&message, &mut self.out);
                    sends = true;
                    if self.out.len() > MAX_BACKLOG {
                        return Err(SessionEnd::Backlog);
                    }
                }
                ControlAction::Open(proxy) => self.open(proxy),
                ControlAction::Close(name) => {
                    self.tunnels.release(self.id, &name);
                    tracing::info!(name: "tunnel_down", proxy = name, "tunnel closed by its client");
                }
                ControlAction::Join { user, work, proxy } => self.join(held, user, work, proxy),
                ControlAction::Refuse { user, why } => {
                    if let Some(reply) = held.users.remove(&user) {
                        // A user that has left needs no answer.
                        let _ = reply.send(Err(why));
                    }
                }
                ControlAction::Drop(work) => {
                    held.works.remove(&work);
                }
                ControlAction::Shutdown(why) => return Err(SessionEnd::Control(why)),
            }
        }
        Ok(sends)
    }

    fn open(&mut self, proxy: NewProxy) {
        let claimed = self.tunnels.claim(self.id, &proxy);
        let port = claimed.map_err(|refusal| refusal.to_string()).and_then(|()| {
            u16::try_from(proxy.remote_port).map_err(|_range| "port not allowed".to_owned())
        });
        if let Ok(port) = port {
            tracing::info!(name: "tunnel_up", port, proxy = proxy.proxy_name, "tunnel up");
        }
        self.control.handle(Instant::now(), ControlEvent::Opened { proxy, port });
    }

    fn join(&mut self, held: &mut Held, user: UserId, work: WorkId, proxy: String) {
        let Some(stream) = held.works.remove(&work) else { return };
        let unused = match held.users.remove(&user) {
            Some(reply) => reply.send(Ok((stream, proxy))),
            None => Err(Ok((stream, proxy))),
        };
        if let Err(Ok((stream, _))) = unused {
            held.works.insert(work, stream);
            self.control.handle(Instant::now(), ControlEvent::Returned(work));
        }
    }

    fn tell_refusal(&self, message: &Message) {
        if let Message::NewProxyResp(response) = message
            && !response.error.is_empty()
        {
            tracing::warn!(
                proxy = response.proxy_name,
                error = response.error,
                "tunnel refused; its client asks again after 30 s"
            );
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tunnels.detach(self.id);
    }
}

/// Sends everything; safe to be cancelled, what was sent is off `out`.
async fn send(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> io::Result<()> {
    while !out.is_empty() {
        writer.write_buf(out).await?;
    }
    writer.flush().await
}
