//! Counters of a process, for Prometheus. Knows no domain type: whoever counts brings plain words.
//!
//! One instance per process, as with logging: [`metrics`]. What happens per request is an atomic
//! addition through a handle that was looked up once. Words that become labels are the program's
//! own, never a stranger's, so nobody outside can make series. What is read rather than counted
//! (states, tables) is put on a [`Sheet`] when somebody asks.
//!
//! `docs/reference/metrics.md` describes every family; a test compares.

mod decisions;
mod histogram;
mod open;
mod process;
pub mod requests;
mod sheet;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use decisions::Decisions;
use histogram::Histogram;
pub use open::{Counted, Open};
pub use prometheus_client::metrics::counter::Counter;
use requests::Http;
pub use sheet::Sheet;

/// What every name begins with.
const PREFIX: &str = "trigon";

/// The same for what is not Trigon's own but every process's.
const PROCESS: &str = "process";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// One label.
type One = [(&'static str, &'static str); 1];
/// Two labels.
type Two = [(&'static str, &'static str); 2];

/// Everything this process counts.
pub struct Metrics {
    registry: Registry,
    /// Requests under `/exapps/`, as they were decided.
    pub decisions: Decisions,
    /// Requests of the HTTP listeners.
    pub http: Http,
    /// Connections of all HTTP listeners.
    pub connections: Open,
    /// Upgraded connections (WebSockets).
    pub upgraded: Open,
    strikes: Counter,
    bans: Counter,
    session_hits: Family<One, Counter>,
    session_misses: Counter,
    upstream_failures: Family<One, Counter>,
    nextcloud_calls: Family<Two, Counter>,
    nextcloud_seconds: Family<One, Histogram>,
    logins: Family<One, Counter>,
    tunnel_waits: Family<One, Counter>,
    relays: Family<Two, Counter>,
    control_calls: Family<Two, Counter>,
    transitions: Family<Vec<(&'static str, String)>, Counter>,
    tickles: Family<Two, Counter>,
    websockets_closed: Family<One, Counter>,
    handshakes: Family<Two, Counter>,
    unknown_names: Counter,
    turned_away: Family<One, Counter>,
    docker_calls: Family<Two, Counter>,
    traffic: [Counter; 2],
    reloads: Family<One, Counter>,
    reloaded_at: Gauge,
    access_dropped: Counter,
}

/// The counters of this process.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let traffic = Family::<One, Counter>::default();
        let counted = Self {
            decisions: Decisions::register(r),
            http: Http::register(r),
            connections: Open::default(),
            upgraded: Open::default(),
            strikes: Counter::default(),
            bans: Counter::default(),
            session_hits: Family::default(),
            session_misses: Counter::default(),
            upstream_failures: Family::default(),
            nextcloud_calls: Family::default(),
            nextcloud_seconds: Family::default(),
            logins: Family::default(),
            tunnel_waits: Family::default(),
            relays: Family::default(),
            control_calls: Family::default(),
            transitions: Family::default(),
            tickles: Family::default(),
            websockets_closed: Family::default(),
            handshakes: Family::default(),
            unknown_names: Counter::default(),
            turned_away: Family::default(),
            docker_calls: Family::default(),
            traffic: ["in", "out"].map(|way| traffic.get_or_create_owned(&[("direction", way)])),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            access_dropped: Counter::default(),
            registry: Registry::default(),
        };
        let open = "Connections of the HTTP listeners open now, this one included";
        r.register("connections_open", open, counted.connections.gauge());
        let open = "Upgraded connections, such as WebSockets, open now";
        r.register("ws_connections", open, counted.upgraded.gauge());
        let help = "Upgraded connections that ended, by what ended them";
        r.register("ws_closed", help, counted.websockets_closed.clone());
        let help = "TLS handshakes with clients, by version and result";
        r.register("tls_handshakes", help, counted.handshakes.clone());
        let help = "TLS clients that meant a host there is no certificate for";
        r.register("tls_unknown_names", help, counted.unknown_names.clone());
        let help = "Connections of the public listener closed before a word was spoken, by reason";
        r.register("connections_turned_away", help, counted.turned_away.clone());
        let help = "Failures counted against clients by this node";
        r.register("strikes", help, counted.strikes.clone());
        let help = "Clients whose failures at this node made a ban";
        r.register("bans", help, counted.bans.clone());
        let help = "Visitors identified without asking Nextcloud, by where the answer was";
        r.register("session_cache_hits", help, counted.session_hits.clone());
        let help = "Visitors Nextcloud was asked about";
        r.register("session_cache_misses", help, counted.session_misses.clone());
        let help = "Requests an ExApp could not be reached for, by kind";
        r.register("upstream_errors", help, counted.upstream_failures.clone());
        let help = "Calls to Nextcloud, by call and outcome";
        r.register("nextcloud_calls", help, counted.nextcloud_calls.clone());
        let help = "Time calls to Nextcloud took";
        r.register("nextcloud_call_seconds", help, counted.nextcloud_seconds.clone());
        r.register("frp_login", "Logins of tunnel clients, by result", counted.logins.clone());
        let help = "Bytes through tunnels: in from their clients, out to them";
        r.register("frp_traffic_bytes", help, traffic);
        let help = "Requests that had to wait for a registered tunnel, by outcome";
        r.register("tunnel_waits", help, counted.tunnel_waits.clone());
        let help = "Streams to tunnels of other nodes asked for, and served to them, by outcome";
        r.register("relays", help, counted.relays.clone());
        let help = "Calls of the control API, by endpoint and class of the status";
        r.register("control_calls", help, counted.control_calls.clone());
        let help = "Calls to Docker engines for the control API, by operation and result";
        r.register("docker_calls", help, counted.docker_calls.clone());
        let help = "Changes of state of virtual routers";
        r.register("vrrp_transitions", help, counted.transitions.clone());
        let help = "Clients of orphaned connections told that their server is gone, by outcome";
        r.register("tickles", help, counted.tickles.clone());
        let help = "Reloads of the configuration, by result";
        r.register("config_reloads", help, counted.reloads.clone());
        let help = "When the configuration in force was read, seconds since the Unix epoch";
        let name = "config_last_reload_success_timestamp_seconds";
        r.register(name, help, counted.reloaded_at.clone());
        let help = "Lines of the access log that were given up: the disk or the reader is slow";
        r.register("access_log_dropped", help, counted.access_dropped.clone());
        for result in [true, false] {
            counted.reloads.get_or_create(&[("result", result_word(result))]).inc_by(0);
        }
        Self { registry, ..counted }
    }

    /// A client failed.
    pub fn strike(&self) {
        self.strikes.inc();
    }

    /// Clients are kept out from now on because of what they did here.
    pub fn banned(&self) {
        self.bans.inc();
    }

    /// A handle that counts visitors identified from `source`; look it up once.
    pub fn session_hits(&self, source: &'static str) -> Counter {
        self.session_hits.get_or_create_owned(&[("source", source)])
    }

    /// A handle that counts visitors Nextcloud was asked about.
    pub fn session_misses(&self) -> Counter {
        self.session_misses.clone()
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
        self.logins.get_or_create(&[("result", outcome)]).inc();
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
        let class = class(status);
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

    /// An upgraded connection has ended.
    pub fn upgraded_ended(&self, reason: &'static str) {
        self.websockets_closed.get_or_create(&[("reason", reason)]).inc();
    }

    /// A TLS handshake with a client has ended; the version is `none` when it failed.
    pub fn shook_hands(&self, version: &'static str, success: bool) {
        let labels = [("version", version), ("result", result_word(success))];
        self.handshakes.get_or_create(&labels).inc();
    }

    /// A TLS client meant a host there is no certificate for.
    pub fn unknown_name(&self) {
        self.unknown_names.inc();
    }

    /// How many TLS clients did so far.
    pub fn unknown_names(&self) -> u64 {
        self.unknown_names.get()
    }

    /// A connection was closed before a word was spoken.
    pub fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&[("reason", reason)]).inc();
    }

    /// A Docker engine was called for the control API.
    pub fn docker_called(&self, op: &'static str, result: &'static str) {
        self.docker_calls.get_or_create(&[("op", op), ("result", result)]).inc();
    }

    /// Bytes came from tunnel clients.
    pub fn tunnel_in(&self, bytes: u64) {
        self.traffic[0].inc_by(bytes);
    }

    /// Bytes went to tunnel clients.
    pub fn tunnel_out(&self, bytes: u64) {
        self.traffic[1].inc_by(bytes);
    }

    /// The configuration was read again.
    pub fn reloaded(&self, success: bool) {
        self.reloads.get_or_create(&[("result", result_word(success))]).inc();
        if success {
            self.configured();
        }
    }

    /// The configuration in force was read now.
    pub fn configured(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.reloaded_at.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    /// A line of the access log was given up.
    pub(super) fn access_line_dropped(&self) {
        self.access_dropped.inc();
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
        let mut process = Sheet::default();
        process::fill(&mut process);
        let mut of_process = Registry::with_prefix(PROCESS);
        of_process.register_collector(Box::new(process));
        let _ = prometheus_text::encode(&mut text, &of_process);
        text
    }
}

fn result_word(success: bool) -> &'static str {
    if success { "success" } else { "failure" }
}

/// The class of a status.
fn class(status: u16) -> &'static str {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    CLASSES[usize::from(status / 100).clamp(1, CLASSES.len()) - 1]
}
