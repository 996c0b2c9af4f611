//! Counters of a process, for Prometheus. Knows no domain type: whoever counts brings plain words.
//!
//! One instance per process, as with logging: [`metrics`]. What happens per request is an atomic
//! addition through a handle that was looked up once. Words that become labels are the program's
//! own, never a stranger's, so nobody outside can make series. What is read rather than counted
//! (states, tables) is put on a [`Sheet`] when somebody asks.
//!
//! `docs/reference/metrics.md` describes every family; a test compares.

mod histogram;
mod open;
mod requests;
mod sheet;

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use histogram::Histogram;
pub use open::{Counted, Open};
pub use prometheus_client::metrics::counter::Counter;
pub use requests::Requests;
pub use sheet::Sheet;

/// What every name begins with.
const PREFIX: &str = "trigon";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// One label.
type One = [(&'static str, &'static str); 1];
/// Two labels.
type Two = [(&'static str, &'static str); 2];

/// Everything this process counts.
pub struct Metrics {
    registry: Registry,
    /// Requests under `/exapps/`.
    pub requests: Requests,
    /// Connections of all HTTP listeners.
    pub connections: Open,
    /// Upgraded connections (WebSockets).
    pub upgraded: Open,
    strikes: Counter,
    sessions: Family<One, Counter>,
    upstream_failures: Family<One, Counter>,
    nextcloud_calls: Family<Two, Counter>,
    nextcloud_seconds: Family<One, Histogram>,
    logins: Family<One, Counter>,
    tunnel_waits: Family<One, Counter>,
    relays: Family<Two, Counter>,
    control_calls: Family<Two, Counter>,
    transitions: Family<Vec<(&'static str, String)>, Counter>,
    tickles: Family<Two, Counter>,
}

/// The counters of this process.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Requests::register(&mut registry);
        let connections = Open::default();
        let upgraded = Open::default();
        let strikes = Counter::default();
        let sessions = Family::default();
        let upstream_failures = Family::default();
        let nextcloud_calls = Family::default();
        let nextcloud_seconds = Family::default();
        let logins = Family::default();
        let tunnel_waits = Family::default();
        let relays = Family::default();
        let control_calls = Family::default();
        let transitions = Family::default();
        let tickles = Family::default();
        let r = &mut registry;
        let open = "Connections of the HTTP listeners open now, this one included";
        r.register("connections_open", open, connections.gauge());
        let open = "Upgraded connections, such as WebSockets, open now";
        r.register("upgraded_connections_open", open, upgraded.gauge());
        r.register("strikes", "Failures counted against clients by this node", strikes.clone());
        let help = "Visitors' sessions looked up, by where the answer came from";
        r.register("session_lookups", help, sessions.clone());
        let help = "Requests an ExApp could not be reached for, by kind";
        r.register("upstream_failures", help, upstream_failures.clone());
        let help = "Calls to Nextcloud, by call and outcome";
        r.register("nextcloud_calls", help, nextcloud_calls.clone());
        let help = "Time calls to Nextcloud took";
        r.register("nextcloud_call_seconds", help, nextcloud_seconds.clone());
        r.register("frp_logins", "Logins of tunnel clients, by outcome", logins.clone());
        let help = "Requests that had to wait for a registered tunnel, by outcome";
        r.register("tunnel_waits", help, tunnel_waits.clone());
        let help = "Streams to tunnels of other nodes asked for, and served to them, by outcome";
        r.register("relays", help, relays.clone());
        let help = "Calls of the control API, by endpoint and class of the status";
        r.register("control_calls", help, control_calls.clone());
        let help = "Changes of state of virtual routers";
        r.register("vrrp_transitions", help, transitions.clone());
        let help = "Clients of orphaned connections told that their server is gone, by outcome";
        r.register("tickles", help, tickles.clone());
        Self {
            registry,
            requests,
            connections,
            upgraded,
            strikes,
            sessions,
            upstream_failures,
            nextcloud_calls,
            nextcloud_seconds,
            logins,
            tunnel_waits,
            relays,
            control_calls,
            transitions,
            tickles,
        }
    }

    /// A client failed.
    pub fn strike(&self) {
        self.strikes.inc();
    }

    /// A handle that counts session lookups answered from `source`; look it up once.
    pub fn session_lookups(&self, source: &'static str) -> Counter {
        self.sessions.get_or_create_owned(&[("source", source)])
    }

    /// An ExApp could not be reached.
    pub fn upstream_failed(&self, kind: &'static str) {
        self.upstream_failures.get_or_create(&[("kind", kind)]).inc();
    }

    /// Nextcloud was called.
    pub fn nextcloud_called(&self, call: &'static str, outcome: &'static str, took: Duration) {
        self.nextcloud_calls.get_or_create(&[("call", call), ("outcome", outcome)]).inc();
        self.nextcloud_seconds.get_or_create(&[("call", call)]).observe(took);
    }

    /// A tunnel client wanted in.
    pub fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A request has waited for an absent tunnel.
    pub fn tunnel_waited(&self, outcome: &'static str) {
        self.tunnel_waits.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A stream to a tunnel of another node was `asked` for, or one here was `served` to it.
    pub fn relayed(&self, side: &'static str, outcome: &'static str) {
        self.relays.get_or_create(&[("side", side), ("outcome", outcome)]).inc();
    }

    /// The control API was called.
    pub fn control_called(&self, endpoint: &'static str, status: u16) {
        let class = requests::class(Some(status));
        self.control_calls.get_or_create(&[("endpoint", endpoint), ("status", class)]).inc();
    }

    /// A virtual router entered a state.
    pub fn vrrp_entered(&self, router: &str, state: &str) {
        let labels = vec![("router", router.to_owned()), ("to", state.to_owned())];
        self.transitions.get_or_create(&labels).inc();
    }

    /// The client of an orphaned connection was told, or could not be.
    pub fn tickled(&self, of: &'static str, outcome: &'static str) {
        self.tickles.get_or_create(&[("of", of), ("outcome", outcome)]).inc();
    }

    /// Everything counted, and what `fill` reads, in the text format Prometheus reads.
    pub fn render(&self, fill: impl FnOnce(&mut Sheet)) -> String {
        let mut sheet = Sheet::default();
        fill(&mut sheet);
        let mut read = Registry::with_prefix(PREFIX);
        read.register_collector(Box::new(sheet));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        let _ = prometheus_text::encode(&mut text, &read);
        text
    }
}
