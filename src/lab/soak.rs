//! `--soak`: nothing goes wrong, but nobody has time. Every processor is kept busy and requests
//! keep coming; an address that moves all the same has moved for no reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::configs::VIP;
use super::console::Console;
use super::load::Load;
use super::probe::Probe;
use super::report::{Soak, milliseconds};
use super::tally::failures;
use super::topology::Lab;
use super::trace::largest_hole;
use super::{Error, Options};

/// Often enough to see any move of the address, and no load worth the name.
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// With every processor busy a late reply says nothing; a missing one does.
const LATE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Runs it for `seconds`.
pub(super) async fn run(
    lab: &mut Lab,
    options: &Options,
    seconds: u32,
    console: &Console,
) -> Result<Soak, Error> {
    lab.settle(console).await?;
    let before = lab.transitions();
    let probe = Probe::start(&lab.client, VIP, PROBE_EVERY)
        .map_err(Error::network("the probe of the virtual IP could not be started"))?;
    let load = Load::start(&lab.client, Lab::exapp().at_pace(options.request_every()))?;
    let busy = Busy::start().map_err(Error::network("a busy thread could not be started"))?;
    console.progress(&format!(
        "{} processors busy, {} requests/s wanted, for {seconds} s",
        busy.threads.len(),
        options.rate
    ));
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds.into());
    let mut told = start;
    while Instant::now() < end {
        sleep(LOOK_EVERY.min(end - Instant::now().min(end))).await;
        lab.check_alive()?;
        let now = Instant::now();
        if now.duration_since(told) >= TELL_EVERY {
            told = now;
            console.progress(&format!(
                "{} s: {} requests ended, {} changes of state",
                now.duration_since(start).as_secs(),
                load.ended(),
                lab.transitions().saturating_sub(before)
            ));
        }
    }
    drop(busy);
    let now = Instant::now();
    let hole = largest_hole(&probe.samples(), LATE, start, now);
    drop(probe);
    let harvest = load.finish().await;
    for (failure, count) in failures(&harvest.records) {
        console.progress(&format!("{count} requests failed: {failure}"));
    }
    let failed = harvest.records.iter().filter(|record| record.failure.is_some()).count();
    Ok(Soak {
        seconds,
        requests: harvest.records.len() as u64,
        failed: failed as u64,
        transitions: lab.transitions().saturating_sub(before),
        vip_outage_ms: milliseconds(hole.map_or(Duration::ZERO, |hole| hole.length(now))),
    })
}

/// A loop on every processor, with the priority of any other program.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start() -> std::io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut busy = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let stop = Arc::clone(&busy.stop);
            let thread = thread::Builder::new().name("busy".into()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
            busy.threads.push(thread);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
