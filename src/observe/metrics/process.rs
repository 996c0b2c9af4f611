//! What the kernel says about this process, under the names every exporter gives it.

use std::fs;

use super::sheet::Sheet;

/// Of the times in `/proc`: what every architecture shows to programs.
const TICKS_PER_SECOND: u64 = 100;

/// Puts it on the sheet; what cannot be read is left out.
pub(super) fn fill(sheet: &mut Sheet) {
    if let Some(times) = fs::read_to_string("/proc/self/stat").ok().and_then(|t| Times::parse(&t)) {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ticks")]
        let seconds = times.cpu as f64 / TICKS_PER_SECOND as f64;
        sheet.seconds_spent("cpu_seconds", "Processor time used by this process", seconds);
        if let Some(boot) = boot_time() {
            let help = "When this process started, seconds since the Unix epoch";
            let started = boot + times.started / TICKS_PER_SECOND;
            sheet.count("start_time_seconds", help, &[], started);
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, field, unit) in [
        ("resident_memory_bytes", "Memory of this process that is in RAM", "VmRSS:", 1024),
        ("virtual_memory_bytes", "Address space of this process", "VmSize:", 1024),
        ("threads", "Threads of this process", "Threads:", 1),
    ] {
        if let Some(value) = field_of(&status, field) {
            sheet.count(name, help, &[], value * unit);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is read.
        let open = open.count().saturating_sub(1) as u64;
        sheet.count("open_fds", "File descriptors this process has open", &[], open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        sheet.count("max_fds", "File descriptors this process may open", &[], limit);
    }
}

/// Of `/proc/self/stat` (proc(5)), in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    /// In user and system mode.
    cpu: u64,
    /// After boot.
    started: u64,
}

impl Times {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program may hold spaces and parentheses.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self { cpu: number(14)? + number(15)?, started: number(22)? })
    }
}

fn field_of(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<u64> {
    field_of(&fs::read_to_string("/proc/stat").ok()?, "btime ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_confuses_nobody() {
        let text = "7 (tri) gon) S 1 7 7 0 -1 4194560 900 0 0 0 30 12 0 0 20 0 9 0 555 730976256\n";
        assert_eq!(Times::parse(text), Some(Times { cpu: 42, started: 555 }));
        assert_eq!(Times::parse("7 (trigon"), None);
        assert_eq!(Times::parse("7 (trigon) S 1"), None);
        assert_eq!(field_of("Name:\ttrigon\nVmRSS:\t  40540 kB\n", "VmRSS:"), Some(40_540));
        assert_eq!(field_of("Name:\ttrigon\n", "VmRSS:"), None);
    }
}
