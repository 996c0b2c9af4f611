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
    kind: MetricType,
    samples: Vec<(Vec<(&'static str, String)>, Value)>,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Durations { sum: f64, buckets: Vec<(f64, u64)> },
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Sheet {
    /// A value that only goes up while the process lives.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: u64,
    ) {
        self.add(name, help, MetricType::Counter, labels, Value::Whole(value));
    }

    /// Seconds that only grow in number while the process lives.
    pub fn seconds_spent(&mut self, name: &'static str, help: &'static str, seconds: f64) {
        self.add(name, help, MetricType::Counter, &[], Value::Real(seconds));
    }

    /// A value that goes up and down.
    pub fn count(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: u64,
    ) {
        self.add(name, help, MetricType::Gauge, labels, Value::Whole(value));
    }

    /// A length of time.
    pub fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        seconds: f64,
    ) {
        self.add(name, help, MetricType::Gauge, labels, Value::Real(seconds));
    }

    /// Durations that were counted elsewhere: their sum in seconds, and how many were up to each
    /// bound and above the one before.
    pub fn durations(
        &mut self,
        name: &'static str,
        help: &'static str,
        sum: f64,
        buckets: Vec<(f64, u64)>,
    ) {
        self.add(name, help, MetricType::Histogram, &[], Value::Durations { sum, buckets });
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: Labels<'_>,
        value: Value,
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
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                let mut sample = family.encode_family(labels)?;
                match (value, kind) {
                    (Value::Whole(value), MetricType::Counter) => {
                        sample.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
                    }
                    (Value::Real(value), MetricType::Counter) => {
                        sample.encode_counter::<NoLabelSet, f64, f64>(value, None)?;
                    }
                    (Value::Whole(value), _) => sample.encode_gauge(value)?,
                    (Value::Real(value), _) => sample.encode_gauge(value)?,
                    (Value::Durations { sum, buckets }, _) => {
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        sample.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
