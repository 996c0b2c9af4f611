//! Asks one node how it is, over a connection that is kept.
//!
//! An answer that is late is waited for, not asked for again: the connection stands, and what it
//! says then is about a moment that has passed, so it is thrown away and the node asked anew.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::connection::{Connection, ConnectionError};
use crate::balance::galera::Word;
use crate::balance::galera::reading::{self, Reading};

/// How long a node is left alone that does not let us in: each try is a line in its log, and
/// after many it blocks this machine.
const REFUSED: Duration = Duration::from_secs(5);

/// Late answers after which the connection is given up for a new one.
const LATE: u32 = 10;

/// What came of asking a node, and when it was asked.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) node: usize,
    pub(super) asked: Instant,
    pub(super) word: Word,
}

/// Until `stop`.
pub(super) async fn watch(
    inner: Arc<Inner>,
    node: usize,
    words: mpsc::Sender<Told>,
    stop: CancellationToken,
) {
    let monitor = Monitor { inner, node, words };
    tokio::select! {
        () = monitor.run() => {}
        () = stop.cancelled() => {}
    }
}

struct Monitor {
    inner: Arc<Inner>,
    node: usize,
    words: mpsc::Sender<Told>,
}

impl Monitor {
    async fn run(&self) {
        let config = &self.inner.config;
        let questions = [show("STATUS", &reading::STATUS), show("VARIABLES", &reading::VARIABLES)];
        loop {
            let asked = Instant::now();
            let opened =
                Connection::open(config.nodes[self.node].address, &config.user, &config.password);
            let pause = match timeout(config.timeout, opened).await {
                Err(_elapsed) => {
                    self.tell(asked, Word::Silent).await;
                    Duration::ZERO
                }
                Ok(Err(error)) => {
                    let word = word_of(error);
                    let refused = matches!(word, Word::Refused(_));
                    self.tell(asked, word).await;
                    if refused { REFUSED } else { config.interval }
                }
                Ok(Ok(connection)) => {
                    let (asked, word) = self.ask(connection, &questions).await;
                    let refused = matches!(word, Word::Refused(_));
                    self.tell(asked, word).await;
                    if refused { REFUSED } else { Duration::ZERO }
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.inner.kicks[self.node].notified(), if pause < REFUSED => {}
            }
        }
    }

    /// Asks again and again; what ended it.
    async fn ask(&self, mut connection: Connection, questions: &[String; 2]) -> (Instant, Word) {
        let config = &self.inner.config;
        loop {
            let asked = Instant::now();
            let mut answer = std::pin::pin!(read(&mut connection, questions));
            let mut late = 0;
            let read = loop {
                match timeout(config.timeout, &mut answer).await {
                    Ok(read) => break read,
                    Err(_elapsed) if late < LATE => {
                        late += 1;
                        self.tell(asked, Word::Silent).await;
                    }
                    Err(_elapsed) => return (asked, Word::Silent),
                }
            };
            match read {
                Ok(_) if late > 0 => continue,
                Ok(word) => self.tell(asked, word).await,
                Err(error) => return (asked, word_of(error)),
            }
            tokio::select! {
                () = sleep(config.interval) => {}
                () = self.inner.kicks[self.node].notified() => {}
            }
        }
    }

    async fn tell(&self, asked: Instant, word: Word) {
        // Whoever listened has been stopped, and we are about to be.
        let _ = self.words.send(Told { node: self.node, asked, word }).await;
    }
}

async fn read(
    connection: &mut Connection,
    questions: &[String; 2],
) -> Result<Word, ConnectionError> {
    let mut rows = Vec::new();
    for question in questions {
        for row in connection.query(question).await? {
            if let Ok([name, value]) = <[String; 2]>::try_from(row) {
                rows.push((name, value));
            }
        }
    }
    Ok(match Reading::from_rows(&rows) {
        Ok(reading) => Word::Said(Box::new(reading)),
        Err(no_galera) => Word::Refused(no_galera.to_string()),
    })
}

fn show(what: &str, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("SHOW GLOBAL {what} WHERE Variable_name IN ({})", names.join(", "))
}

fn word_of(error: ConnectionError) -> Word {
    match error {
        ConnectionError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Word::Silent,
        ConnectionError::Io(error) => Word::Gone(error.to_string()),
        ConnectionError::Wire(error) => Word::Refused(error.to_string()),
    }
}
