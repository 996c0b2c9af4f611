//! From samples to the tables. Sans-io.
//!
//! Each figure is the median over the rounds. A ratio is taken within each round, between
//! neighbours in time, and then the median of those: the machine's speed drifts.

use std::fmt::Write;

/// One contender under one load in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) contender: usize,
    pub(crate) load: &'static str,
    pub(crate) round: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU seconds of its processes for 1,000 requests; `None` if they are not ours.
    pub(crate) cpu: Option<f64>,
    /// Resident memory of its processes; `None` if they are not ours.
    pub(crate) resident_mib: Option<f64>,
}

/// One table: every load, every contender of a group, ratios to `baseline`.
pub(crate) fn table(
    names: &[(usize, &str)],
    baseline: Option<usize>,
    loads: &[&'static str],
    samples: &[Sample],
) -> String {
    let mut text = String::from(
        "| load, connections | contender | requests/s | p50 ms | p99 ms | CPU s / 1,000 | RSS MiB \
         | requests/s | p99 | CPU |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for load in loads {
        for (contender, name) in names {
            let own = |sample: &&Sample| sample.contender == *contender && sample.load == *load;
            let own: Vec<&Sample> = samples.iter().filter(own).collect();
            if own.is_empty() {
                continue;
            }
            let figure = |of: fn(&Sample) -> Option<f64>| median(own.iter().filter_map(|s| of(s)));
            let ratio = |of: fn(&Sample) -> Option<f64>| {
                let base = |round| {
                    samples.iter().find(|sample| {
                        Some(sample.contender) == baseline
                            && sample.load == *load
                            && sample.round == round
                    })
                };
                let ratios =
                    own.iter().filter_map(|own| Some(of(own)? / base(own.round).and_then(of)?));
                if baseline == Some(*contender) { None } else { median(ratios) }
            };
            let _ = writeln!(
                text,
                "| {load} | {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                shown(figure(|s| Some(s.per_second)), 0, ""),
                shown(figure(|s| Some(s.p50_ms)), 2, ""),
                shown(figure(|s| Some(s.p99_ms)), 2, ""),
                shown(figure(|s| s.cpu), 3, ""),
                shown(figure(|s| s.resident_mib), 0, ""),
                shown(ratio(|s| Some(s.per_second)), 2, "x"),
                shown(ratio(|s| Some(s.p99_ms)), 2, "x"),
                shown(ratio(|s| s.cpu), 2, "x"),
            );
        }
    }
    text
}

fn shown(figure: Option<f64>, digits: usize, unit: &str) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}{unit}"))
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}
