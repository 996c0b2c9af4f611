//! What sharing sessions costs: two nodes and a witness, every request a visitor nobody has seen,
//! once with `session_replication = "batch"` and once with `"off"`. `tests/run --bench-replication`,
//! or `cargo bench --bench replication -- --help`. What it measures: `docs/performance.md`.
//!
//! Ends with 1 when a bound of [`report`] is not kept.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table and its progress")]

mod crowd;
#[path = "../contenders/head.rs"]
mod head;
mod load;
mod report;
mod site;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use self::load::{Load, Visitors};
use self::report::{Figures, Sharing, broken_bounds, table};
use self::site::Site;

/// What sharing sessions between two nodes and a witness costs.
///
/// Everything runs on this machine, in network namespaces, and shares its cores. Needs root.
#[derive(Debug, Parser)]
#[command(name = "replication")]
struct Options {
    /// Visitors a second, each new.
    #[arg(long, default_value_t = 3000)]
    rate: u32,
    /// Sessions a second of visitors who come to a further member, which only tells the others.
    #[arg(long, default_value_t = 7000)]
    elsewhere: u32,
    /// How long a session lives: as long as the fill takes. At most 10.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10))]
    lifetime: u64,
    /// Length of the measurement after the fill.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections the visitors come over.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Few visitors, a few seconds: shows that everything works, measures nothing.
    #[arg(long)]
    quick: bool,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut options = Options::parse();
    if options.quick {
        options = Options {
            rate: 200,
            elsewhere: 200,
            lifetime: 2,
            seconds: 3,
            connections: 8,
            ..options
        };
    }
    let mut measured = Vec::new();
    for sharing in [Sharing::Batch, Sharing::Off] {
        eprintln!("session_replication = {:?}", sharing.name());
        let figures = measure(sharing, &options).await;
        measured.push(figures.with_context(|| format!("with {:?}", sharing.name()))?);
    }
    println!("{}", table(&measured, options.rate));
    let broken = broken_bounds(&measured);
    for bound in &broken {
        println!("FAILED: {bound}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Longer than sharing takes and shorter than half of any lifetime measured.
const ON_THEIR_WAY: Duration = Duration::from_millis(500);

/// One run, from an empty cluster to its end.
async fn measure(sharing: Sharing, options: &Options) -> anyhow::Result<Figures> {
    let lifetime = Duration::from_secs(options.lifetime);
    let window = Duration::from_secs(options.seconds);
    let visitors = Visitors::expected(options.rate, lifetime + window);
    let site = Site::start(sharing, lifetime, visitors, options.elsewhere).await?;
    let load = Load { rate: options.rate, connections: options.connections };
    let running = load.start(&site.client, site.http(0))?;
    tokio::time::sleep(lifetime).await;
    let before = site.sample()?;
    running.measure(true);
    tokio::time::sleep(window).await;
    running.measure(false);
    let after = site.sample()?;
    let served = running.end().await?;
    // The last visitors came a moment ago and are on their way to the other node.
    tokio::time::sleep(ON_THEIR_WAY).await;
    let known = site.known_to_the_other(served.visitors, lifetime / 2).await?;
    Ok(Figures::new(sharing, window, &before, &after, served.latency, known))
}
