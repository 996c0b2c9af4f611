//! Requests by listener, route, method and status, and how long they took. Counting looks nothing
//! up and takes no lock: the number of a series is its place in a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::histogram::{Histogram, PerRoute};
use super::open::Open;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `exapps.listen`.
    Plain,
    /// `exapps.tls_listen`.
    Tls,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An ExApp.
    ExApp,
    /// The control API.
    Control,
    /// A Docker engine.
    DockerEngine,
    /// The listener itself: a redirect, the answer to a challenge.
    Listener,
    /// Nothing of these: it was refused.
    Refused,
    /// Nextcloud itself, or a server beside it.
    Web,
}

impl Route {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        ROUTES[self as usize]
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// With this status.
    Status(u16),
    /// Not at all, on purpose.
    Dropped,
    /// Not at all: the client went away before.
    Aborted,
}

const LISTENERS: [&str; 2] = ["http", "https"];
pub(super) const ROUTES: [&str; 6] =
    ["exapp", "control", "docker_engine", "listener", "refused", "web"];
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "other"];

/// Statuses with a series of their own, sorted. An ExApp may answer what it likes; anything else
/// counts for its class, so that it cannot make series.
const STATUSES: [u16; 44] = [
    100, 101, 200, 201, 202, 203, 204, 205, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401,
    402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 422, 423, 425, 426, 429,
    431, 500, 501, 502, 503, 504,
];
const OTHERS: [&str; 7] = ["1xx", "2xx", "3xx", "4xx", "5xx", "dropped", "aborted"];
const CODES: usize = STATUSES.len() + OTHERS.len();
const SERIES: usize = LISTENERS.len() * ROUTES.len() * METHODS.len() * CODES;

/// The counters of the HTTP listeners.
pub struct Http {
    requests: Arc<Requests>,
    durations: PerRoute,
    first_byte: Histogram,
    /// Requests whose answer has not been sent whole.
    pub in_flight: Open,
    /// Bytes of request bodies that were taken.
    pub request_bytes: Counter,
    /// Bytes of response bodies that were sent.
    pub response_bytes: Counter,
    /// Requests that were sent to another backend after one had failed them.
    pub retries: Counter,
}

#[derive(Debug)]
struct Requests([AtomicU64; SERIES]);

impl Http {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let http = Self {
            requests: Arc::new(Requests(std::array::from_fn(|_| AtomicU64::new(0)))),
            durations: PerRoute::default(),
            first_byte: Histogram::default(),
            in_flight: Open::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            retries: Counter::default(),
        };
        registry.register_collector(Box::new(Shown(Arc::clone(&http.requests))));
        let help = "Time from a request's head to the last byte of its answer";
        registry.register("http_request_duration_seconds", help, http.durations.clone());
        let help = "Time from a request's head to the head of its answer";
        registry.register("http_first_byte_seconds", help, http.first_byte.clone());
        let help = "Requests whose answer has not been sent whole, upgraded connections included";
        registry.register("http_in_flight", help, http.in_flight.gauge());
        let help = "Bytes of request bodies taken, without those of the control API";
        registry.register("http_request_bytes", help, http.request_bytes.clone());
        let help = "Bytes of answers sent, heads not counted";
        registry.register("http_response_bytes", help, http.response_bytes.clone());
        let help = "Requests sent to another backend after one had failed them";
        registry.register("http_retries", help, http.retries.clone());
        http
    }

    /// The head of an answer was ready.
    pub(in crate::observe) fn answered(&self, took: Duration) {
        self.first_byte.observe(took);
    }

    /// A request is over.
    pub(in crate::observe) fn ended(
        &self,
        listener: Listener,
        route: Route,
        method: u8,
        code: Code,
        took: Duration,
    ) {
        let place = (listener as usize * ROUTES.len() + route as usize) * METHODS.len();
        let place = (place + usize::from(method).min(METHODS.len() - 1)) * CODES + number_of(code);
        if let Some(count) = self.requests.0.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.durations.observe(route, took);
    }
}

/// The number of a method among the labels.
pub(in crate::observe) fn method_number(method: &Method) -> u8 {
    let found = (0..).zip(METHODS).find(|(_, known)| *known == method.as_str());
    found.map_or(u8::MAX, |(number, _)| number)
}

fn number_of(code: Code) -> usize {
    let other = |index| STATUSES.len() + index;
    match code {
        Code::Status(status) => STATUSES
            .binary_search(&status)
            .unwrap_or_else(|_| other(usize::from(status / 100).clamp(1, 5) - 1)),
        Code::Dropped => other(5),
        Code::Aborted => other(6),
    }
}

/// A view of the table for the registry.
#[derive(Debug)]
struct Shown(Arc<Requests>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests that are over, by listener, route, method and status";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("http_requests", help, None, kind)?;
        for (place, count) in self.0.0.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let (rest, code) = (place / CODES, place % CODES);
            let (rest, method) = (rest / METHODS.len(), rest % METHODS.len());
            let (listener, route) = (rest / ROUTES.len(), rest % ROUTES.len());
            let code = match STATUSES.get(code) {
                Some(status) => status.to_string(),
                None => OTHERS[code - STATUSES.len()].to_owned(),
            };
            let labels = [
                ("listener", LISTENERS[listener]),
                ("route", ROUTES[route]),
                ("method", METHODS[method]),
                ("code", code.as_str()),
            ];
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_series_or_counts_for_its_class() {
        assert!(STATUSES.is_sorted(), "binary search");
        let word = |code| {
            let number = number_of(code);
            match STATUSES.get(number) {
                Some(status) => status.to_string(),
                None => OTHERS[number - STATUSES.len()].to_owned(),
            }
        };
        for (code, expected) in [
            (Code::Status(200), "200"),
            (Code::Status(504), "504"),
            (Code::Status(0), "1xx"),
            (Code::Status(299), "2xx"),
            (Code::Status(418), "4xx"),
            (Code::Status(999), "5xx"),
            (Code::Dropped, "dropped"),
            (Code::Aborted, "aborted"),
        ] {
            assert_eq!(word(code), expected, "{code:?}");
        }
        for method in [Method::GET, Method::CONNECT, Method::TRACE] {
            let found = METHODS.get(usize::from(method_number(&method)));
            let expected = if method == Method::TRACE { None } else { Some(method.as_str()) };
            assert_eq!(found.copied(), expected);
        }
    }

    #[test]
    fn a_request_is_counted_where_its_labels_say() {
        let mut registry = Registry::default();
        let http = Http::register(&mut registry);
        let took = Duration::from_millis(3);
        let get = method_number(&Method::GET);
        http.ended(Listener::Tls, Route::DockerEngine, get, Code::Status(404), took);
        http.ended(Listener::Plain, Route::ExApp, u8::MAX, Code::Aborted, took);
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"http_requests_total{listener="https",route="docker_engine",method="GET",code="404"} 1"#,
            r#"http_requests_total{listener="http",route="exapp",method="other",code="aborted"} 1"#,
            r#"http_request_duration_seconds_count{route="docker_engine"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
