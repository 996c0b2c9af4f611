//! Moves the bytes of one session: a task that owns the connection, and the shared state the
//! handles work on. Decides nothing.
//!
//! Reading and writing are polled side by side in that one task, so neither waits for the other
//! and the connection needs no lock of its own.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::session::{Event, Session, StreamKey};
use super::{CloseReason, Config, Control, Incoming};
use crate::net::Stream;

/// Most bytes taken off the connection at once.
const READ_SIZE: usize = 32 * 1024;

/// Reads and writes of one poll before other tasks get their turn.
const TURNS: usize = 16;

/// How long the last words to a peer that broke the protocol may take.
const PARTING: Duration = Duration::from_secs(1);

/// Runs a session over `io` in a task of its own until either side ends it. Must be called inside
/// a tokio runtime.
pub fn serve(io: Stream, config: Config) -> (Incoming, Control) {
    let session = Session::new(config, Instant::now().into_std());
    let state = State {
        session,
        waiting: HashMap::new(),
        accept: None,
        driver: None,
        driver_idle: false,
        retired: Vec::new(),
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), closed: watch::Sender::new(None) });
    let mut driver = Driver::new(io, Arc::clone(&shared));
    tokio::spawn(async move { poll_fn(|cx| driver.poll(cx)).await });
    (Incoming::new(Arc::clone(&shared)), Control::new(shared))
}

/// What the connection's task and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Set once the connection is gone.
    pub(super) closed: watch::Sender<Option<CloseReason>>,
}

/// The session, and who waits for which of its events.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    waiting: HashMap<StreamKey, Waiting>,
    accept: Option<Waker>,
    driver: Option<Waker>,
    /// The connection's task found nothing to send and wants to hear of it.
    driver_idle: bool,
    /// Replaced wakers. Dropping one may drop a task and with it a handle, whose own drop needs
    /// the lock: so not under the lock.
    retired: Vec<Waker>,
}

/// The reader and the writer of one stream; they may be different tasks.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Shared {
    /// Works on the state under its lock, then, without it, wakes whom that concerns.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state);
        let wakers = state.wakers();
        let retired = std::mem::take(&mut state.retired);
        drop(state);
        drop(retired);
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl State {
    /// Has `cx` woken for the next incoming stream or the end.
    pub(super) fn park_accept(&mut self, cx: &Context<'_>) {
        self.retired.extend(park(&mut self.accept, cx));
    }

    /// Has `cx` woken when a read of the stream may try again.
    pub(super) fn park_reader(&mut self, key: StreamKey, cx: &Context<'_>) {
        self.retired.extend(park(&mut self.waiting.entry(key).or_default().read, cx));
    }

    /// Has `cx` woken when a write to the stream may try again.
    pub(super) fn park_writer(&mut self, key: StreamKey, cx: &Context<'_>) {
        self.retired.extend(park(&mut self.waiting.entry(key).or_default().write, cx));
    }

    /// Forgets who waited for a stream; drop the answer outside the lock.
    #[must_use]
    pub(super) fn unpark(&mut self, key: StreamKey) -> Option<Waiting> {
        self.waiting.remove(&key)
    }

    fn wakers(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Incoming => wakers.extend(self.accept.take()),
                Event::Readable(key) => {
                    wakers.extend(self.waiting.get_mut(&key).and_then(|one| one.read.take()));
                }
                Event::Writable(key) => {
                    wakers.extend(self.waiting.get_mut(&key).and_then(|one| one.write.take()));
                }
                Event::Closed => {
                    let all = std::mem::take(&mut self.waiting).into_values();
                    wakers.extend(all.flat_map(|one| [one.read, one.write]).flatten());
                    wakers.extend(self.accept.take());
                    wakers.extend(self.driver.take());
                }
            }
        }
        if self.driver_idle && self.session.wants_transmit() {
            self.driver_idle = false;
            wakers.extend(self.driver.take());
        }
        wakers
    }
}

/// Stores `cx`'s waker and returns the one it replaces.
fn park(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    slot.replace(cx.waker().clone())
}

/// The task that owns the connection.
struct Driver {
    /// Taken only when the driver is dropped.
    io: Option<Stream>,
    shared: Arc<Shared>,
    input: Box<[u8]>,
    /// Bytes on their way out.
    output: Bytes,
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
    /// Runs once the session is over and has last words.
    parting: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    fn new(io: Stream, shared: Arc<Shared>) -> Self {
        Self {
            io: Some(io),
            shared,
            input: vec![0; READ_SIZE].into_boxed_slice(),
            output: Bytes::new(),
            unflushed: false,
            // Fires at once and is then set to the session's first timeout.
            timer: Box::pin(sleep_until(Instant::now())),
            parting: None,
        }
    }

    /// Ready when the session is over: it then has no timeout any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.with(|state| state.retired.extend(park(&mut state.driver, cx)));
        for _ in 0..TURNS {
            let timer = self.poll_timer(cx);
            let output = self.poll_output(cx);
            let Some(due) = self.shared.with(|state| state.session.poll_timeout()) else {
                return self.poll_parting(cx);
            };
            if Instant::from_std(due) < self.timer.deadline() {
                self.timer.as_mut().reset(due.into());
                continue;
            }
            let input = self.poll_input(cx);
            if timer.is_pending() && output.is_pending() && input.is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let due = self.shared.with(|state| {
            state.session.handle_timeout(Instant::now().into_std());
            state.session.poll_timeout()
        });
        if let Some(due) = due {
            self.timer.as_mut().reset(due.into());
        }
        Poll::Ready(())
    }

    /// Ready when the session got input or the news that there will be none.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = &mut self.io else { return Poll::Pending };
        let mut buffer = ReadBuf::new(&mut self.input);
        let result = match Pin::new(io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        let bytes = buffer.filled();
        self.shared.with(|state| match result {
            Ok(()) if bytes.is_empty() => state.session.close(CloseReason::PeerClosed),
            Ok(()) => state.session.input(Instant::now().into_std(), bytes),
            Err(error) => state.session.close(lost(&error)),
        });
        Poll::Ready(())
    }

    /// Ready when something was written; pending when all is flushed or the connection is full.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = &mut self.io else { return Poll::Pending };
        if self.output.is_empty() {
            self.output = self.shared.with(|state| {
                let output = state.session.poll_transmit();
                state.driver_idle = output.is_none();
                output.unwrap_or_default()
            });
        }
        let result = if !self.output.is_empty() {
            match Pin::new(io).poll_write(cx, &self.output) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.output.advance(n);
                    self.unflushed = true;
                    Ok(())
                }
                Poll::Ready(Err(error)) => Err(error),
            }
        } else if self.unflushed {
            match Pin::new(io).poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => {
                    self.unflushed = false;
                    result
                }
            }
        } else {
            return Poll::Pending;
        };
        if let Err(error) = result {
            self.output = Bytes::new();
            self.unflushed = false;
            self.shared.with(|state| state.session.close(lost(&error)));
        }
        Poll::Ready(())
    }

    /// Writes what a closed session still has to say, within [`PARTING`].
    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.parting.is_none() {
            let silent = !self.shared.with(|state| state.session.wants_transmit());
            if silent {
                return Poll::Ready(());
            }
        }
        let deadline = self.parting.get_or_insert_with(|| Box::pin(sleep(PARTING)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while self.poll_output(cx).is_ready() {}
        if self.output.is_empty() && !self.unflushed { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Driver {
    /// Also runs when the runtime drops the task: whoever waits must be told in any case.
    fn drop(&mut self) {
        drop(self.io.take());
        let reason = self.shared.with(|state| {
            state.session.close(CloseReason::Aborted);
            state.session.close_reason().cloned()
        });
        self.shared.closed.send_replace(reason);
    }
}

/// A TLS peer that just closes TCP shows as an unexpected end.
fn lost(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CloseReason::PeerClosed,
        kind => CloseReason::Io(kind),
    }
}

#[cfg(test)]
mod tests;
