//! A hang-up: the configuration is read again and checked whole, what can change in a running
//! process changes, and the keys that need a restart are named (weakness W23 of HaRP).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};

use super::chronicle::Chronicle;
use super::public::Public;
use crate::admin::Refusal;
use crate::admin::orders;
use crate::admin::reload::Reloaded;
use crate::config::{Config, Problems, Serve, Written};
use crate::frontend::Frontend;
use crate::guard::Guard;
use crate::http::tls::Certificate;
use crate::observe::metrics::metrics;
use crate::observe::{access, log};
use crate::secret::Secret;

/// Longest wait for the file: a disk that hangs must not keep a stop from being heard.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Keys that take effect at once.
const LIVE: [&str; 6] = [
    "exapps.ban_count",
    "exapps.ban_window",
    "exapps.never_ban",
    "exapps.trusted_proxies",
    "log.level",
    "public.trusted_proxies",
];

/// What keys that take effect at once begin with, while there is a public listener before and
/// after.
const LIVE_IN_PUBLIC: &str = "public.certificates[";

/// Keys that take effect at once while there is a listener with TLS, before and after.
const LIVE_WITHIN_TLS: [&str; 2] = ["exapps.tls_certificate", "exapps.tls_key"];

/// A reload that somebody waits for.
pub(super) type Wanted = oneshot::Sender<Result<Reloaded, Refusal>>;

/// The way from the admin socket to the loop that reloads, and its other end.
pub(super) fn orders() -> (orders::Reload, mpsc::Receiver<Wanted>) {
    let (send, wanted) = mpsc::channel::<Wanted>(1);
    let stopped = || Refusal::Failed("this node is stopping".to_owned());
    let order = move || -> orders::Outcome<Reloaded> {
        let send = send.clone();
        Box::pin(async move {
            let (reply, outcome) = oneshot::channel();
            send.send(reply).await.map_err(|_| stopped())?;
            outcome.await.map_err(|_| stopped())?
        })
    };
    (Arc::new(order), wanted)
}

/// How to read the configuration again, and how to change what is logged.
pub struct Reload {
    load: Arc<dyn Fn() -> Result<Config, Problems> + Send + Sync>,
    log: log::Control,
}

/// A process and the configuration it runs with.
pub(super) struct Running {
    reload: Reload,
    /// What the process was started with; differences to it take effect at the next start.
    started: Written,
    /// What was applied last.
    applied: Written,
    shared_key: Option<Secret>,
    parts: Option<Parts>,
    /// The timeline, and the name of this node in it.
    chronicle: Option<(Chronicle, String)>,
}

/// The parts of a node that can be changed while they run.
pub(super) struct Parts {
    pub(super) frontend: Arc<Frontend>,
    pub(super) guard: Guard,
    pub(super) certificate: Option<Certificate>,
    pub(super) public: Option<Public>,
}

impl Reload {
    /// Reads with `load` and logs through `log`.
    pub fn new(
        load: impl Fn() -> Result<Config, Problems> + Send + Sync + 'static,
        log: log::Control,
    ) -> Self {
        Self { load: Arc::new(load), log }
    }

    /// For a process that was started with `written`; a witness has no key and no parts.
    pub(super) fn running(
        self,
        written: Written,
        shared_key: Option<Secret>,
        parts: Option<Parts>,
    ) -> Running {
        let applied = written.clone();
        Running { reload: self, applied, started: written, shared_key, parts, chronicle: None }
    }
}

impl Running {
    /// Reloads are told on the timeline of this node from now on.
    pub(super) fn tell(&mut self, chronicle: Chronicle, node: String) {
        self.chronicle = Some((chronicle, node));
    }

    /// Does it all; what is wrong is told and changes nothing.
    pub(super) async fn reload(&mut self) -> Result<Reloaded, Refusal> {
        tell_manager();
        access::reopen();
        let load = Arc::clone(&self.reload.load);
        let read = tokio::task::spawn_blocking(move || load());
        let outcome = match tokio::time::timeout(READ_WITHIN, read).await {
            Ok(Ok(Ok(config))) => Ok(self.apply(&config)),
            Ok(Ok(Err(problems))) => {
                for problem in &problems.0 {
                    tracing::error!(%problem, "wrong configuration");
                }
                tracing::error!(
                    name: "config_refused",
                    "the configuration in force stays as it is"
                );
                let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
                Err(Refusal::Configuration(lines.join("\n")))
            }
            Ok(Err(_)) | Err(_) => {
                let text = "the configuration could not be read; the one in force stays";
                tracing::error!(name: "config_refused", "{text}");
                Err(Refusal::Failed(text.to_owned()))
            }
        };
        metrics().reloaded(outcome.is_ok());
        if let (Ok(_), Some((chronicle, node))) = (&outcome, &self.chronicle) {
            chronicle.note("reload", format!("{node} has read its configuration again"));
        }
        super::notify(&[NotifyState::Ready]);
        outcome
    }

    fn apply(&mut self, config: &Config) -> Reloaded {
        let (has_tls, has_public) = match (&self.parts, &config.serve) {
            (Some(parts), Some(serve)) => self.apply_parts(parts, serve),
            _ => (false, false),
        };
        let level = self.reload.log.set(&config.log);
        let is_live = |key: &str| match key {
            "log.level" => level,
            key => {
                LIVE.contains(&key)
                    || (has_tls && LIVE_WITHIN_TLS.contains(&key))
                    || (has_public && key.starts_with(LIVE_IN_PUBLIC))
            }
        };
        let changed = self.applied.differences(&config.written);
        let applied: Vec<_> = changed.into_iter().filter(|key| is_live(key)).collect();
        let differing = self.started.differences(&config.written);
        let mut waiting: Vec<_> = differing.into_iter().filter(|key| !is_live(key)).collect();
        let new_key = config.serve.as_ref().map(|serve| &serve.shared_key);
        if let (Some(old), Some(new)) = (&self.shared_key, new_key)
            && !old.matches(new.expose())
        {
            waiting.push("exapps.shared_key_file");
        }
        tracing::info!(
            name: "config_reloaded",
            changed = applied.join(", "),
            "configuration reloaded"
        );
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(", "), "changes that need a restart");
        }
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let reloaded = Reloaded { changed: owned(&applied), needs_restart: owned(&waiting) };
        self.applied = config.written.clone();
        reloaded
    }

    /// Whether there is a certificate, and a public listener, and what is new of them is in force.
    fn apply_parts(&self, parts: &Parts, serve: &Serve) -> (bool, bool) {
        parts.guard.set_limits(&serve.guard);
        let public = parts.public.as_ref().zip(serve.frontend.public.as_ref());
        let at_public = public.map(|(_, config)| config.trusted_proxies.clone());
        let at_public = at_public.unwrap_or_default();
        parts.frontend.trust(serve.frontend.trusted_proxies.clone(), at_public);
        if let Some((public, config)) = public {
            public.reload(config);
        }
        let has_public = public.is_some();
        let (Some(certificate), Some(tls)) = (&parts.certificate, &serve.frontend.tls) else {
            return (false, has_public);
        };
        // Checked a moment ago with the rest of the file; it may have changed again.
        if let Err(error) = certificate.replace(tls.files.clone()) {
            tracing::error!(%error, "the old TLS certificate stays in force");
        }
        (true, has_public)
    }
}

fn tell_manager() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => super::notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager was not told of the reload"),
    }
}
