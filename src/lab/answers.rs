//! Whether everything behind the address answers steadily, asked between the rounds from the
//! client's host without a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::Error;
use super::load::{Target, answers};
use super::namespaces::{Entered, Host};
use super::transactions::{Access, writes};

/// Answers in a row that count as steady.
const IN_A_ROW: u32 = 20;
const EVERY: Duration = Duration::from_millis(25);

/// Asks again and again.
pub(super) struct AnswerWatch {
    shared: Arc<WatchState>,
    _thread: Entered<()>,
}

#[derive(Default)]
struct WatchState {
    asking: AtomicBool,
    in_a_row: AtomicU32,
}

impl AnswerWatch {
    /// Of these services and, if there is one, of the database.
    pub(super) fn start(
        client: &Host,
        services: Vec<Target>,
        database: Option<Access>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(WatchState::default());
        let state = Arc::clone(&shared);
        let thread = client
            .enter_thread(move || async move {
                loop {
                    if state.asking.load(Ordering::Relaxed) {
                        if all_answer(&services, database.as_ref()).await {
                            state.in_a_row.fetch_add(1, Ordering::Relaxed);
                        } else {
                            state.in_a_row.store(0, Ordering::Relaxed);
                        }
                    }
                    sleep(EVERY).await;
                }
            })
            .map_err(Error::network("client"))?;
        Ok(Self { shared, _thread: thread })
    }

    /// Counts from now on.
    pub(super) fn begin(&self) {
        self.shared.in_a_row.store(0, Ordering::Relaxed);
        self.shared.asking.store(true, Ordering::Relaxed);
    }

    /// Asks no more.
    pub(super) fn pause(&self) {
        self.shared.asking.store(false, Ordering::Relaxed);
    }

    /// Whether all have answered many times in a row.
    pub(super) fn is_steady(&self) -> bool {
        self.shared.in_a_row.load(Ordering::Relaxed) >= IN_A_ROW
    }
}

async fn all_answer(services: &[Target], database: Option<&Access>) -> bool {
    for service in services {
        if !answers(service).await {
            return false;
        }
    }
    match database {
        Some(access) => writes(access).await,
        None => true,
    }
}
