//! One request from its head to the last byte of its answer: counted when it is over, and written
//! to the access log if there is one.
//!
//! Whoever holds a [`Transfer`] is responsible for the request. It goes from the one who decides to
//! the body that is sent, or to the two ends of an upgraded connection, and tells how it ended when
//! it is dropped. Without an access log nothing is allocated.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Request};

use super::access::{self, Record};
use super::metrics::requests::{Code, Listener, Route, method_number};
use super::metrics::{Counted, metrics};
use super::trace::{Ended, Span};

/// How a request ended, in the words of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was sent.
    Ok,
    /// The client went away before.
    ClientAbort,
    /// The ExApp could not be reached, or broke off.
    UpstreamAbort,
    /// No connection to the ExApp in time.
    TimeoutConnect,
    /// The ExApp sent nothing more.
    TimeoutUpstream,
    /// The client sent nothing more of its request.
    TimeoutClient,
    /// Nothing moved on an upgraded connection.
    TimeoutTunnel,
    /// Dropped on purpose, without an answer.
    Dropped,
    /// The client ended an upgraded connection.
    ClientClose,
    /// The ExApp ended an upgraded connection.
    UpstreamClose,
    /// An upgraded connection failed.
    Broken,
    /// An upgraded connection was cut when this node stopped.
    Stopped,
}

impl End {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientAbort => "client_abort",
            Self::UpstreamAbort => "upstream_abort",
            Self::TimeoutConnect => "timeout_connect",
            Self::TimeoutUpstream => "timeout_upstream",
            Self::TimeoutClient => "timeout_client",
            Self::TimeoutTunnel => "timeout_tunnel",
            Self::Dropped => "dropped",
            Self::ClientClose => "client_close",
            Self::UpstreamClose => "upstream_close",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        }
    }
}

/// What the parts a request passes through note for its line in the access log. Travels in the
/// request's extensions, only while there is an access log. Clones are the same notes.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    received: AtomicU64,
    /// Microseconds plus one; zero while nothing was noted.
    connected: AtomicU64,
}

impl Notes {
    /// More of the request's body was taken.
    pub fn received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A new connection was made for it, and took this long.
    pub fn connected(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX - 1);
        self.0.connected.store(micros + 1, Ordering::Relaxed);
    }
}

/// One request under way.
pub struct Transfer {
    started: Instant,
    listener: Listener,
    route: Route,
    method: u8,
    code: Code,
    end: End,
    sent: u64,
    line: Option<Box<Line>>,
    span: Span,
    _open: Counted,
}

/// What only the access log wants.
struct Line {
    record: Record,
    notes: Notes,
}

impl Transfer {
    /// Begins with the head of a request from `peer`; `tls` is the version, if there is TLS, and
    /// `request_id` finds an id in the head that may be repeated.
    pub fn begin<B>(
        request: &mut Request<B>,
        peer: SocketAddr,
        tls: Option<&'static str>,
        request_id: impl FnOnce(&HeaderMap) -> Option<String>,
    ) -> Self {
        let line = access::is_on().then(|| {
            let notes = Notes::default();
            let record = Record::begin(request, peer, tls, request_id(request.headers()));
            request.extensions_mut().insert(notes.clone());
            Box::new(Line { record, notes })
        });
        Self {
            started: Instant::now(),
            listener: if tls.is_some() { Listener::Tls } else { Listener::Plain },
            route: Route::Refused,
            method: method_number(request.method()),
            code: Code::Aborted,
            end: End::ClientAbort,
            sent: 0,
            line,
            span: Span::begin(request),
            _open: metrics().http.in_flight.enter(),
        }
    }

    /// Time since the head of the request was there.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Makes what the ExApp does a part of the request's trace.
    pub fn trace_into(&self, headers: &mut HeaderMap) {
        self.span.inject(headers);
    }

    /// What the request is for.
    pub fn route(&mut self, route: Route) {
        self.route = route;
    }

    /// Who asks, once the proxies in front are seen through.
    pub fn client(&mut self, client: IpAddr) {
        self.note(|record| record.client = client);
    }

    /// Adds to the line of the access log, if there is one.
    pub fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(line) = &mut self.line {
            note(&mut line.record);
        }
    }

    /// The head of the answer is ready; `None`: there will be none.
    pub fn answered(&mut self, status: Option<u16>) {
        match status {
            Some(status) => {
                let took = self.elapsed();
                metrics().http.answered(took);
                self.code = Code::Status(status);
                self.note(|record| record.first_byte = Some(took));
            }
            None => {
                self.code = Code::Dropped;
                self.end = End::Dropped;
            }
        }
    }

    /// More of the answer was handed on.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Why it ends, even if the whole answer is handed on.
    pub fn ends(&mut self, end: End) {
        self.end = end;
    }

    /// The whole answer was handed on.
    pub fn finished(&mut self) {
        if self.end == End::ClientAbort {
            self.end = End::Ok;
        }
    }

    /// An upgraded connection has carried this much to the ExApp.
    pub fn carried(&mut self, bytes: u64) {
        if let Some(line) = &self.line {
            line.notes.received(bytes);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let http = &metrics().http;
        http.ended(self.listener, self.route, self.method, self.code, took);
        if self.sent > 0 {
            http.response_bytes.inc_by(self.sent);
        }
        let status = match self.code {
            Code::Status(status) => Some(status),
            Code::Dropped | Code::Aborted => None,
        };
        let (route, end) = (self.route.as_str(), self.end.as_str());
        self.span.end(Ended { status, route, end });
        let Some(line) = self.line.take() else { return };
        let Line { mut record, notes } = *line;
        record.at = SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH);
        record.took = took;
        record.route = route;
        record.status = status;
        record.end = end;
        record.sent = self.sent;
        record.received = notes.0.received.load(Ordering::Relaxed);
        let connected = notes.0.connected.load(Ordering::Relaxed);
        record.connect = connected.checked_sub(1).map(Duration::from_micros);
        access::write(record);
    }
}
