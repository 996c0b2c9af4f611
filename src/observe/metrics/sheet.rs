//! What is read when somebody asks, rather than counted as it happens.

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Values by name; filled anew for every reader.
#[derive(Debug, Default)]
pub struct Sheet {
    families: BTreeMap<&'static str, Read>,
}

#[derive(Debug)]
struct Read {
    help: &'static str,
    kind: Kind,
    samples: Vec<(Vec<(&'static str, String)>, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Gauge,
    Counter,
}

impl Sheet {
    /// A value that only goes up while the process lives.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.add(name, help, Kind::Counter, labels, value);
    }

    /// A value that goes up and down.
    pub fn count(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.add(name, help, Kind::Gauge, labels, value);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        let family =
            self.families.entry(name).or_insert_with(|| Read { help, kind, samples: Vec::new() });
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        family.samples.push((labels, value));
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, Read { help, kind, samples }) in &self.families {
            let kind = match kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in samples {
                let mut sample = family.encode_family(labels)?;
                match kind {
                    MetricType::Counter => {
                        sample.encode_counter::<NoLabelSet, u64, f64>(value, None)?
                    }
                    _ => sample.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}
