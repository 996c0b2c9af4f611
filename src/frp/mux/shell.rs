//! Moves the bytes of one session: a task that owns the connection, and the shared state the
//! handles work on. Decides nothing.
//!
//! Reading and writing are polled side by side in that one task, so neither waits for the other
//! and the connection needs no lock of its own.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
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

/// Once this much is gathered it is written; a ping reply waits behind no more than this and one
/// more frame.
const WRITE_SIZE: usize = 32 * 1024;

/// Most frames of one write.
const WRITE_FRAMES: usize = 64;

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
    /// Frames on their way out, written together.
    output: VecDeque<Bytes>,
    unflushed: bool,
    /// Whoever was ready has had a turn, or will have before the next poll, since there was last
    /// nothing to send.
    gathered: bool,
    /// That turn has not come yet.
    deferred: bool,
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
            output: VecDeque::new(),
            unflushed: false,
            gathered: false,
            deferred: false,
            // Fires at once and is then set to the session's first timeout.
            timer: Box::pin(sleep_until(Instant::now())),
            parting: None,
        }
    }

    /// Ready when the session is over: it then has no timeout any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.with(|state| state.retired.extend(park(&mut state.driver, cx)));
        self.deferred = false;
        for _ in 0..TURNS {
            let timer = self.poll_timer(cx);
            let input = self.poll_input(cx);
            let output = self.poll_output(cx, input.is_ready());
            let Some(due) = self.shared.with(|state| state.session.poll_timeout()) else {
                return self.poll_parting(cx);
            };
            if Instant::from_std(due) < self.timer.deadline() {
                self.timer.as_mut().reset(due.into());
                continue;
            }
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
        // TLS hands out one record at a time, and frpc puts every header into one of its own.
        let end = loop {
            let before = buffer.filled().len();
            match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
                Poll::Pending => break None,
                Poll::Ready(Err(error)) => break Some(lost(&error)),
                Poll::Ready(Ok(())) if buffer.filled().len() == before => {
                    break Some(CloseReason::PeerClosed);
                }
                Poll::Ready(Ok(())) if buffer.remaining() == 0 => break None,
                Poll::Ready(Ok(())) => {}
            }
        };
        let bytes = buffer.filled();
        if bytes.is_empty() && end.is_none() {
            return Poll::Pending;
        }
        self.shared.with(|state| {
            if !bytes.is_empty() {
                state.session.input(Instant::now().into_std(), bytes);
            }
            if let Some(reason) = end {
                state.session.close(reason);
            }
        });
        Poll::Ready(())
    }

    /// Ready when something was written; pending when all is flushed, the connection is full, or
    /// others have to add to what there is to write: those who were `fed` are likely to.
    fn poll_output(&mut self, cx: &mut Context<'_>, fed: bool) -> Poll<()> {
        if self.output.is_empty() {
            let complete = self.gathered && !self.deferred;
            let output = &mut self.output;
            let wanted = self.shared.with(|state| {
                let wanted = fed || state.session.wants_transmit();
                state.driver_idle = !wanted;
                if complete {
                    gather(&mut state.session, output);
                }
                wanted
            });
            if wanted && !self.gathered {
                self.deferred = true;
                after_everybody_else(cx);
            }
            self.gathered = wanted;
            if self.deferred {
                return Poll::Pending;
            }
        }
        self.write_or_flush(cx)
    }

    fn write_or_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = &mut self.io else { return Poll::Pending };
        let result = if !self.output.is_empty() {
            match write(Pin::new(io), cx, &self.output) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    consume(&mut self.output, n);
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
            self.output.clear();
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
        (self.gathered, self.deferred) = (true, false);
        while self.poll_output(cx, false).is_ready() {}
        if self.output.is_empty() && !self.unflushed { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Has `cx` woken once all tasks that are ready now have had their turn. What they send then
/// leaves in one write and one TLS record instead of many.
fn after_everybody_else(cx: &mut Context<'_>) {
    let mut turn = pin!(tokio::task::yield_now());
    if turn.as_mut().poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
}

/// Takes frames to send until they make a good write.
fn gather(session: &mut Session, output: &mut VecDeque<Bytes>) {
    let mut length = 0;
    while length < WRITE_SIZE && output.len() < WRITE_FRAMES {
        let Some(frame) = session.poll_transmit() else { break };
        length += frame.len();
        output.push_back(frame);
    }
}

fn write(
    io: Pin<&mut Stream>,
    cx: &mut Context<'_>,
    output: &VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); WRITE_FRAMES];
    for (slice, frame) in slices.iter_mut().zip(output) {
        *slice = IoSlice::new(frame);
    }
    io.poll_write_vectored(cx, &slices[..output.len().min(WRITE_FRAMES)])
}

/// Takes `n` written bytes off the front.
fn consume(output: &mut VecDeque<Bytes>, mut n: usize) {
    while let Some(frame) = output.front_mut() {
        if n < frame.len() {
            frame.advance(n);
            return;
        }
        n -= frame.len();
        output.pop_front();
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
