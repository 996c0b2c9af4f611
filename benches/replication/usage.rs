//! What processes have cost, out of `/proc`.

use std::fs;

use anyhow::Context;
use rustix::process::Pid;

/// Unit of CPU time in `/proc`: USER_HZ, which is 100 on every architecture Trigon runs on.
const TICKS: f64 = 100.0;

/// Of all processes of one member: the node or witness and its guardian.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Since the start.
    pub(crate) cpu_seconds: f64,
    /// The most that was ever resident.
    pub(crate) peak_mib: f64,
}

/// What these have cost together.
pub(crate) fn of(processes: &[Pid]) -> anyhow::Result<Usage> {
    let mut sum = Usage::default();
    for process in processes {
        let pid = process.as_raw_nonzero();
        let gone = || format!("process {pid} ended by itself");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(gone)?;
        // The name, field 2, may hold blanks; utime and stime are fields 14 and 15 (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
        let (user, system) = ticks(12).zip(ticks(13)).with_context(gone)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(gone)?;
        let peak: Option<u32> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        sum.cpu_seconds += f64::from(user + system) / TICKS;
        sum.peak_mib += f64::from(peak.with_context(gone)?) / 1024.0;
    }
    Ok(sum)
}
