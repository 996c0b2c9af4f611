//! A running process: what starts in which order, what it waits for, how it stops.

mod alarms;
mod chronicle;
mod conditions;
mod drain;
mod engine;
mod fitness;
mod guardian;
mod membership;
mod mover;
mod node;
mod notable;
mod privileges;
mod public;
mod reload;
mod routers;
mod scrape;
mod status;
mod surroundings;
mod tenants;
mod trackers;
mod vantage;
mod watch;
mod watchdog;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Node};
use crate::guard::Guard;
use crate::http::tls::Certificate;
use crate::net::listen;
use crate::observe::metrics::metrics;
use crate::observe::trace;
use crate::{admin, page};
use chronicle::Chronicle;
use guardian::Guardian;
pub use reload::Reload;
use status::Facts;

/// Runs a node or a witness until SIGTERM or SIGINT; SIGHUP is answered with `reload`.
///
/// # Errors
/// Why it could not start, or why it could not go on.
pub fn run(config: Config, reload: Reload) -> anyhow::Result<()> {
    // Before there is any other thread: what must outlive this process should owe it little.
    let has_routers = config.serve.as_ref().is_some_and(|serve| !serve.routers.is_empty());
    let guardian = has_routers.then(|| Guardian::start(&config.log));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(privileges::shed)
        .build()
        .context("the runtime did not start")?;
    let member = (config.node, config.cluster, config.passport);
    let traces = runtime.block_on(async { trace::start() }).map_err(anyhow::Error::msg)?;
    let outcome = runtime.block_on(async {
        match config.serve {
            Some(serve) => {
                let key = serve.shared_key.clone();
                let reload = |parts| reload.running(config.written, Some(key), Some(parts));
                node::run(member, serve, guardian, reload).await
            }
            None => {
                let reload = reload.running(config.written, None, None);
                witness::run(member, reload).await
            }
        }
    });
    traces.stop();
    outcome
}

/// Removes the addresses of these virtual routers from this machine; tells how many there were.
/// An interface that is gone took its addresses along.
///
/// # Errors
/// The first interface whose addresses could not be removed; those of the others are removed all
/// the same.
pub fn release_addresses(routers: &[vrrp::RouterConfig]) -> anyhow::Result<usize> {
    let mut removed = 0;
    let mut failed = None;
    for router in routers {
        let interface = router.interface();
        let held: Vec<_> = router.held().iter().map(vrrp::VirtualAddress::address).collect();
        match vrrp::release(interface, &held) {
            Ok(count) => removed += count,
            Err(vrrp::Error::NoInterface(_)) => {}
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("interface {interface}"));
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// The service of `metrics.listen`, if that is configured; the address is taken at once.
fn metrics_service(
    node: &Node,
    facts: &Arc<Facts>,
    guard: Option<Guard>,
    certificates: Vec<(&'static str, PathBuf)>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    let Some(address) = node.metrics else { return Ok(None) };
    let listener = listen::bind(address).with_context(|| format!("metrics.listen {address}"))?;
    let reading = {
        let facts = Arc::clone(facts);
        let state_dir = node.state_dir.clone();
        move || facts.reading(guard.as_ref(), &certificates, &state_dir)
    };
    let facts = Arc::clone(facts);
    let source = admin::metrics::Source {
        render: Arc::new(move || metrics().render(|sheet| scrape::fill(&reading(), sheet))),
        waiting_for: Arc::new(move || facts.waiting_for()),
    };
    Ok(Some(admin::metrics::serve(listener, source, stop.clone())))
}

/// The service of `[status_page]`, if that is configured; the address is taken at once.
fn page_service(
    node: &Node,
    source: &admin::server::Source,
    chronicle: &Chronicle,
    stop: &CancellationToken,
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    let Some(config) = &node.page else { return Ok(None) };
    let certificate = config.tls.clone().map(Certificate::open).transpose();
    let certificate = certificate.context("status_page.certificate")?;
    let acceptor = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    let listener = listen::bind(config.listen)
        .with_context(|| format!("status_page.listen {}", config.listen))?;
    let chronicle = chronicle.clone();
    let audit = Arc::new(move |text| chronicle.note("order", text));
    let site = Arc::new(page::Site::new(config, source.clone(), audit, stop.clone()));
    let (serving, watching) = (stop.clone(), stop.clone());
    Ok(Some(async move {
        let renewal = async {
            match certificate {
                Some(certificate) => certificate.watch(watching).await,
                None => watching.cancelled().await,
            }
        };
        tokio::join!(page::serve(listener, acceptor, site, serving), renewal);
    }))
}

/// What a signal asks for.
enum Told {
    /// The end, in order.
    Stop(&'static str),
    /// The configuration again.
    Reload,
}

/// The signals a running process hears.
struct Signals {
    term: Signal,
    int: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::Stop("SIGTERM"),
            _ = self.int.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
