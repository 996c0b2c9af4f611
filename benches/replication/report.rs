//! From samples to the table, and the bounds that must be kept. Sans-io.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::usage::Usage;

/// Most entries a second sharing sessions may put into the log: each costs every voter an fsync.
const MAX_ENTRIES: f64 = 50.0;

/// A witness stays below this, in MiB.
const MAX_WITNESS: f64 = 50.0;

/// `cluster.session_replication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Batch,
    Off,
}

impl Sharing {
    /// As the configuration names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Off => "off",
        }
    }
}

/// The members at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Of the two nodes and the witness.
    pub(crate) usage: [Usage; 3],
    /// Index of the last applied entry.
    pub(crate) applied: f64,
    /// Sessions the nodes share.
    pub(crate) sessions: f64,
    /// Sessions that were not shared because too many came at once.
    pub(crate) dropped: f64,
}

/// What one run was like.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    sharing: Sharing,
    visitors: f64,
    sessions: f64,
    dropped: f64,
    entries: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Share of a core, of the nodes and the witness.
    cpu: [f64; 3],
    peak_mib: [f64; 3],
    /// Share of the visitors shown to the other node that it did not ask Nextcloud about.
    known: f64,
}

impl Figures {
    pub(crate) fn new(
        sharing: Sharing,
        window: Duration,
        before: &Sample,
        after: &Sample,
        latency: Histogram<u64>,
        known: f64,
    ) -> Self {
        let seconds = window.as_secs_f64();
        let milliseconds = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        let cpu = |at: usize| after.usage[at].cpu_seconds - before.usage[at].cpu_seconds;
        Self {
            sharing,
            visitors: latency.len() as f64 / seconds,
            sessions: after.sessions,
            dropped: after.dropped - before.dropped,
            entries: (after.applied - before.applied) / seconds,
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
            cpu: [0, 1, 2].map(|at| cpu(at) / seconds),
            peak_mib: after.usage.map(|usage| usage.peak_mib),
            known,
        }
    }
}

/// One line for each run.
pub(crate) fn table(measured: &[Figures], rate: u32) -> String {
    let mut text = String::from(
        "| session_replication | new visitors/s | live sessions | not shared | known to the other \
         node | entries/s | p50 ms | p99 ms | CPU node 1, node 2, witness | RSS MiB node 1, node \
         2, witness |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for run in measured {
        let [cpu, rss] = [run.cpu.map(|share| share * 100.0), run.peak_mib];
        let _ = writeln!(
            text,
            "| `{}` | {:.0} | {:.0} | {:.0} | {:.0} % | {:.1} | {:.2} | {:.2} | {:.0} %, {:.0} %, \
             {:.0} % | {:.0}, {:.0}, {:.0} |",
            run.sharing.name(),
            run.visitors,
            run.sessions,
            run.dropped,
            run.known * 100.0,
            run.entries,
            run.p50_ms,
            run.p99_ms,
            cpu[0],
            cpu[1],
            cpu[2],
            rss[0],
            rss[1],
            rss[2],
        );
    }
    for run in measured.iter().filter(|run| run.visitors < 0.95 * f64::from(rate)) {
        let _ = writeln!(
            text,
            "\nWith `{}` this machine came to {:.0} of the {rate} visitors a second that were \
             wanted: the figures are those of a machine at its limit.",
            run.sharing.name(),
            run.visitors
        );
    }
    text
}

/// What was not kept; empty is good.
pub(crate) fn broken_bounds(measured: &[Figures]) -> Vec<String> {
    let mut broken = Vec::new();
    for run in measured {
        let with = format!("with session_replication = {:?}", run.sharing.name());
        if run.entries > MAX_ENTRIES {
            broken.push(format!("{:.1} entries/s {with}, at most {MAX_ENTRIES}", run.entries));
        }
        let witness = run.peak_mib[2];
        if witness >= MAX_WITNESS {
            broken.push(format!("witness of {witness:.1} MiB {with}, below {MAX_WITNESS}"));
        }
        if run.sharing == Sharing::Batch && run.known < 0.5 {
            let known = run.known * 100.0;
            broken.push(format!("{known:.0} % known to the other node {with}: hardly any shared"));
        }
    }
    broken
}
