//! Somebody who uses the ExApp through an address all the time: a fresh connection every 25 ms,
//! and a note of what became of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use trigon::lab::exapp;
use trigon::lab::namespaces::{Entered, Host};

use crate::machine::HTTP_PORT;
use crate::place::APP;
use crate::support::{eventually, http};

const EVERY: Duration = Duration::from_millis(25);
/// A browser gives up much later; a request that waits for a tunnel has its answer by then.
const LIMIT: Duration = Duration::from_secs(15);
/// So many answers in a row are service.
const IN_A_ROW: usize = 20;

#[derive(Clone, Debug)]
struct Record {
    sent: Instant,
    /// What was seen instead of the page, once the request has ended.
    ended: Option<Result<(), String>>,
}

/// Ends with the value.
pub(crate) struct Users {
    book: Arc<Mutex<Vec<Record>>>,
    _thread: Entered<()>,
}

impl Users {
    /// Begins on that host.
    pub(crate) fn start(host: &Host, address: Ipv4Addr) -> Self {
        let book = Arc::<Mutex<Vec<Record>>>::default();
        let noted = Arc::clone(&book);
        let to = SocketAddr::from((address, HTTP_PORT));
        let thread = host.enter_thread(move || async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let number = {
                    let mut book = noted.lock().unwrap();
                    book.push(Record { sent: Instant::now(), ended: None });
                    book.len() - 1
                };
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let outcome = request(to).await;
                    noted.lock().unwrap()[number].ended = Some(outcome);
                });
            }
        });
        Self { book, _thread: thread.unwrap() }
    }

    /// Waits until the ExApp answers steadily; when that began.
    pub(crate) async fn are_served(&self, since: Instant) -> Instant {
        eventually("the ExApp answers steadily", || async { self.served_from(since) }).await
    }

    /// What failed among the requests sent since then.
    pub(crate) fn failures(&self, since: Instant) -> Vec<String> {
        let book = self.book.lock().unwrap();
        let failed = book.iter().filter(|record| record.sent >= since).filter_map(|record| {
            let reason = record.ended.as_ref()?.as_ref().err()?;
            let after = record.sent.duration_since(since).as_millis();
            Some(format!("{after} ms after: {reason}"))
        });
        failed.collect()
    }

    /// The first of so many in a row, sent since then, that were all answered.
    fn served_from(&self, since: Instant) -> Option<Instant> {
        let book = self.book.lock().unwrap();
        let start = book.partition_point(|record| record.sent < since);
        let well = |record: &Record| matches!(record.ended, Some(Ok(())));
        let row = book[start..].windows(IN_A_ROW).find(|row| row.iter().all(well))?;
        Some(row[0].sent)
    }
}

async fn request(to: SocketAddr) -> Result<(), String> {
    let page = http::send(to, http::get(&format!("/exapps/{APP}/public/"), &[]));
    let answer = timeout(LIMIT, page).await.map_err(|_| "no answer in time".to_owned())?;
    let answer = answer.ok_or_else(|| "no answer".to_owned())?;
    if answer.status() == 200 && answer.body() == exapp::PAGE {
        Ok(())
    } else {
        Err(format!("status {}", answer.status()))
    }
}
