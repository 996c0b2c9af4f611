//! The access log: one line for each request that is over. Written by a thread of its own from a
//! bounded queue, so that a slow disk costs lines, which are counted, and never a request.
//!
//! `line` makes the text. One log per process, as with metrics.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

pub use line::{Record, Style};

use super::metrics::metrics;

/// Lines that may wait.
const QUEUE: usize = 8192;

/// Bytes that are written at once.
const BUFFER: usize = 64 * 1024;

/// How long lines may stay in memory while more keep coming in.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How a line looks.
    pub style: Style,
    /// The file; standard output when there is none.
    pub file: Option<PathBuf>,
}

/// What the writing thread is told.
enum Told {
    Line(Box<Record>),
    Reopen,
    /// Write everything and say so.
    Flush(SyncSender<()>),
}

static QUEUE_IN: OnceLock<SyncSender<Told>> = OnceLock::new();
static ON: AtomicBool = AtomicBool::new(false);

/// Whether requests are logged. One relaxed load.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Starts logging; only the first call of a process counts.
///
/// # Errors
/// The file cannot be opened, or there are no more threads; the text names the file.
pub fn start(config: Config) -> io::Result<()> {
    let mut sink = Sink::open(config.file)?;
    let (queue, told) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("access-log".to_owned());
    thread.spawn(move || run(&told, config.style, &mut sink))?;
    if QUEUE_IN.set(queue).is_ok() {
        ON.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Opens the file again, as after it was moved away.
pub fn reopen() {
    tell(Told::Reopen);
}

/// Waits until what was handed in before is written, at most `within`.
pub fn flush(within: Duration) {
    let (done, finished) = sync_channel(1);
    if tell(Told::Flush(done)) {
        let _ = finished.recv_timeout(within);
    }
}

/// Hands a line in. Never waits: under pressure it is dropped and counted.
pub(super) fn write(record: Record) {
    if !tell(Told::Line(Box::new(record))) {
        metrics().access_line_dropped();
    }
}

fn tell(what: Told) -> bool {
    QUEUE_IN.get().is_some_and(|queue| queue.try_send(what).is_ok())
}

fn run(told: &Receiver<Told>, style: Style, sink: &mut Sink) {
    let mut text = String::new();
    loop {
        // Whatever is there is written in one go; then the file is brought up to date.
        let next = match told.try_recv() {
            Ok(next) => next,
            Err(_) => {
                sink.flush();
                match told.recv_timeout(FLUSH_EVERY) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        match next {
            Told::Line(record) => {
                text.clear();
                record.write(style, &mut text);
                sink.write(&text);
            }
            Told::Reopen => sink.reopen(),
            Told::Flush(done) => {
                sink.flush();
                let _ = done.try_send(());
            }
        }
    }
}

/// Where lines go.
struct Sink {
    path: Option<PathBuf>,
    out: BufWriter<Box<dyn Write + Send>>,
    /// Told once until the file is opened again.
    is_broken: bool,
}

impl Sink {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let out = open(path.as_ref())?;
        Ok(Self { path, out: BufWriter::with_capacity(BUFFER, out), is_broken: false })
    }

    fn write(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes());
        self.note(written);
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn reopen(&mut self) {
        self.flush();
        match open(self.path.as_ref()) {
            Ok(out) => {
                self.replace(out);
                self.is_broken = false;
            }
            Err(error) => tracing::error!(%error, "the access log goes on in the old file"),
        }
    }

    /// What could not be written to the old file is lost.
    fn replace(&mut self, out: Box<dyn Write + Send>) {
        let old = std::mem::replace(&mut self.out, BufWriter::with_capacity(BUFFER, out));
        // Dropping it whole would try once more.
        drop(old.into_parts());
    }

    fn note(&mut self, outcome: io::Result<()>) {
        let Err(error) = outcome else { return };
        metrics().access_line_dropped();
        if !self.is_broken {
            tracing::error!(%error, "the access log cannot be written; lines are lost");
        }
        self.is_broken = true;
        // A full buffer would fail for ever.
        if let Ok(out) = open(self.path.as_ref()) {
            self.replace(out);
        }
    }
}

fn open(path: Option<&PathBuf>) -> io::Result<Box<dyn Write + Send>> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path);
    let file: File = file.map_err(|error| {
        io::Error::new(error.kind(), format!("log.access_file {}: {error}", path.display()))
    })?;
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_reopen_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let mut sink = Sink::open(Some(path.clone())).unwrap();
        sink.write("one\n");
        sink.flush();
        std::fs::rename(&path, &old).unwrap();
        sink.write("two\n");
        sink.reopen();
        sink.write("three\n");
        sink.flush();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let Err(error) = Sink::open(Some("/nowhere/access.log".into())) else { panic!("opened") };
        assert!(error.to_string().starts_with("log.access_file /nowhere/access.log: "), "{error}");
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_told_once() {
        let Ok(mut sink) = Sink::open(Some("/dev/full".into())) else { return };
        for _ in 0..3 {
            sink.write("line\n");
            sink.flush();
            assert!(sink.is_broken);
        }
    }
}
