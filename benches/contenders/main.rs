//! Trigon beside others under the same load, on one machine, in turn: `tests/run --bench`, or
//! `cargo bench --bench contenders -- --help`. What came out: `docs/performance.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table and its progress")]

mod bare;
mod head;
mod load;
mod options;
mod process;
mod report;
mod target;
mod world;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::load::{LOADS, Load};
use self::options::Options;
use self::report::Sample;
use self::world::{Contender, Group, World};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let (Some(to), Some(listen)) = (options.bare_proxy_to, options.listen) {
        return bare::run(listen, to);
    }
    let stop = listen_for_stop()?;
    let world = World::start(&options)?;
    let loads: Vec<Load> = LOADS.into_iter().filter(|load| options.wants_load(load.name)).collect();
    let mut samples = Vec::new();
    for round in 0..options.rounds() {
        for load in &loads {
            // The first to go may meet a colder machine: everybody is first in turn.
            for turn in 0..world.contenders.len() {
                if stop.load(Ordering::Relaxed) {
                    bail!("stopped");
                }
                let contender = (round + turn) % world.contenders.len();
                let one = &world.contenders[contender];
                let sample = measure(one, contender, *load, round, options.window())
                    .with_context(|| format!("{} under {}", one.name, load.name))?;
                eprintln!(
                    "round {}: {:<26} {:<22} {:>9.0}/s  p99 {:>7.2} ms",
                    round + 1,
                    load.name,
                    one.name,
                    sample.per_second,
                    sample.p99_ms,
                );
                samples.push(sample);
            }
        }
    }
    print_report(&options, &world, &loads, &samples)
}

/// From now on signals do not end this program: it still has to clean up.
fn listen_for_stop() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
    });
    Ok(stop)
}

fn measure(
    one: &Contender,
    contender: usize,
    load: Load,
    round: usize,
    window: Duration,
) -> anyhow::Result<Sample> {
    let usage = || process::usage(one.processes.iter().map(|process| &**process));
    let (count, [before, after]) = load.run(one.address, &one.prefix, window, usage)?;
    let ms = |quantile| {
        let microseconds = count.latency.value_at_quantile(quantile);
        Duration::from_micros(microseconds).as_secs_f64() * 1e3
    };
    let requests = f64::from(u32::try_from(count.requests)?);
    let ours = !one.processes.is_empty();
    let cpu = (after.cpu_seconds - before.cpu_seconds) / requests * 1e3;
    Ok(Sample {
        contender,
        load: load.name,
        round,
        per_second: requests / count.took.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        cpu: ours.then_some(cpu),
        resident_mib: ours.then_some(f64::from(after.resident_kib) / 1024.0),
    })
}

fn print_report(
    options: &Options,
    world: &World,
    loads: &[Load],
    samples: &[Sample],
) -> anyhow::Result<()> {
    let loads: Vec<&'static str> = loads.iter().map(|load| load.name).collect();
    println!("{}", machine(options, world)?);
    for (group, heading, base) in [
        (Group::Tunnel, "## Through a tunnel to stock frpc", "HAProxy + frps + frpc"),
        (Group::Direct, "## Without a tunnel", "bare hyper"),
    ] {
        let of_group = |(_, one): &(usize, &Contender)| one.group == group;
        let members: Vec<(usize, &Contender)> =
            world.contenders.iter().enumerate().filter(of_group).collect();
        if members.is_empty() {
            continue;
        }
        let names: Vec<(usize, &str)> =
            members.iter().map(|(at, one)| (*at, one.name.as_str())).collect();
        let baseline = names.iter().find(|(_, name)| *name == base).map(|(at, _)| *at);
        println!("{heading}\n\nThe last three columns are ratios to {base}.\n");
        println!("{}", report::table(&names, baseline, &loads, samples));
    }
    Ok(())
}

/// Where, when and how: figures of different machines or runs do not compare.
fn machine(options: &Options, world: &World) -> anyhow::Result<String> {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        found.map_or_else(String::new, |line| line.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let cores = std::thread::available_parallelism()?;
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let mut rows = vec![
        ("processor", format!("{} ({cores} cores)", line("/proc/cpuinfo", "model name"))),
        ("memory", line("/proc/meminfo", "MemTotal")),
        ("kernel", line("/proc/sys/kernel/osrelease", "")),
        ("command", format!("tests/run --bench {}", arguments.join(" ")).trim_end().to_owned()),
        (
            "measured",
            format!("{} rounds of {:?} each, in turn", options.rounds(), options.window()),
        ),
    ];
    let date = std::process::Command::new("date").args(["-u", "+%F"]).output()?;
    rows.push(("date", String::from_utf8_lossy(&date.stdout).trim().to_owned()));
    rows.extend(world.versions.iter().map(|(name, version)| (*name, version.clone())));
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        text += &format!("| {name} | {value} |\n");
    }
    Ok(text)
}
