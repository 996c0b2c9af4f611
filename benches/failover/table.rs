//! From outages to the table of `docs/performance.md`.

use std::time::Duration;

use crate::Fault;
use crate::contender::Kind;

/// All outages of one kind.
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) fault: Fault,
    pub(crate) interval: Duration,
    pub(crate) outages: Vec<Duration>,
}

impl Cell {
    /// Smallest, middle (of an even number the mean of the two in the middle) and largest,
    /// milliseconds.
    fn spread(&self) -> [f64; 3] {
        let mut values: Vec<f64> = self.outages.iter().map(|o| o.as_secs_f64() * 1000.0).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        [at(0), (at(last / 2) + at(values.len() / 2)) / 2.0, at(last)]
    }
}

/// One line for each interval and fault, both contenders beside each other.
pub(crate) fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| interval | fault | rounds | keepalived median (min-max) | Trigon median (min-max) | \
         ratio of medians |\n|---|---|---|---|---|---|\n",
    );
    let mut told = Vec::new();
    for Cell { interval, fault, outages, .. } in cells {
        if told.contains(&(interval, fault)) {
            continue;
        }
        told.push((interval, fault));
        let of = |kind| {
            let found = cells.iter().find(|cell| {
                cell.kind == kind && cell.interval == *interval && cell.fault == *fault
            });
            found.map(Cell::spread)
        };
        let shown = |spread: Option<[f64; 3]>| match spread {
            Some([min, median, max]) => format!("{median:.1} ({min:.1}-{max:.1})"),
            None => "-".to_owned(),
        };
        let (keepalived, trigon) = (of(Kind::Keepalived), of(Kind::Trigon));
        let ratio = match (keepalived, trigon) {
            (Some([_, theirs, _]), Some([_, ours, _])) if ours > 0.0 => {
                format!("{:.2}", theirs / ours)
            }
            // Nothing was missed at all.
            (Some(_), Some(_)) => "no outage".to_owned(),
            _ => "-".to_owned(),
        };
        let fault = match fault {
            Fault::Kill => "power cut",
            Fault::Stop => "clean stop",
        };
        text += &format!(
            "| {} ms | {fault} | {} | {} ms | {} ms | {ratio} |\n",
            interval.as_millis(),
            outages.len(),
            shown(keepalived),
            shown(trigon)
        );
    }
    text
}
