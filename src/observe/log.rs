//! Sets up `tracing` once per process.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::access;
use super::journal::{self, Journal};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Fields of the journal where standard error goes there, else as [`Format::Text`].
    #[default]
    Auto,
    /// One human-readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Logging options of a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// A level (`info`) or `tracing` directives (`info,trigon::frp=debug`).
    pub filter: String,
    /// Line format.
    pub format: Format,
    /// A line for each request, apart from the rest; none when that is off.
    pub access: Option<access::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self { filter: "info".into(), format: Format::Auto, access: None }
    }
}

/// What a filter may look like, for messages.
pub const EXPECTED: &str = "\"error\", \"warn\", \"info\", \"debug\", \"trace\", \"off\", or directives \
     such as \"info,trigon::frp=debug\"";

/// The consensus engine tells each of its steps as `info`, and each attempt to reach a dead peer as
/// `error`, several times a second. What an operator needs of it is told by the cluster. A
/// directive for it in the filter wins.
const QUIET: &str = "openraft=off";

/// Whether the text is a filter. A word alone must be a level: the library would take it for the
/// name of a module, and a mistyped level would silence everything else.
pub fn is_filter(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<EnvFilter> {
    let is_module = |directive: &str| directive.contains(['=', ':', '[']);
    // Nothing at all would be a level for the library.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let sound = text.split(',').map(str::trim).all(|part| is_module(part) || is_level(part));
    let filter = EnvFilter::try_new(format!("{QUIET},{text}")).ok();
    filter.filter(|_| sound)
}

/// Changes what a process logs while it runs.
pub struct Control {
    /// `None` while `TRIGON_LOG` decides.
    replace: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>>,
}

impl Control {
    /// Logs by the filter of `config` from now on; the format stays. Returns false when that
    /// cannot be, as under `TRIGON_LOG`.
    pub fn set(&self, config: &Config) -> bool {
        match (&self.replace, parse(&config.filter)) {
            (Some(replace), Some(filter)) => replace(filter),
            _ => false,
        }
    }
}

/// Starts logging, to the journal or to standard error. `TRIGON_LOG` overrides the configured filter.
///
/// # Errors
/// A filter that does not parse, or logging that was started before; the text says which.
pub fn start(config: &Config) -> Result<Control, String> {
    let (source, directives) = match std::env::var("TRIGON_LOG") {
        Ok(directives) if !directives.is_empty() => ("TRIGON_LOG", directives),
        _ => ("log.level", config.filter.clone()),
    };
    let is_fixed = source == "TRIGON_LOG";
    let filter = parse(&directives)
        .ok_or_else(|| format!("{source}: found \"{directives}\", expected {EXPECTED}"))?;
    if config.format == Format::Auto
        && journal::is_stderr()
        && let Ok(journal) = Journal::open(Path::new(journal::SOCKET))
    {
        let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
        let started = tracing_subscriber::registry().with(filter).with(journal).try_init();
        started.map_err(|error| error.to_string())?;
        let replace = Box::new(move |filter| handle.reload(filter).is_ok());
        return Ok(Control { replace: (!is_fixed).then_some(replace) });
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let (started, replace): (_, Box<dyn Fn(EnvFilter) -> bool + Send + Sync>) = match config.format
    {
        Format::Auto | Format::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.finish().try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.finish().try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
    };
    started.map_err(|error| error.to_string())?;
    Ok(Control { replace: (!is_fixed).then_some(replace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_no_filter() {
        for good in ["info", "DEBUG", "off", "info,trigon::frp=debug", "vrrp=trace", "warn, info"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "inof", "info,", "info,frp", "trigon=loud", "verbose"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn the_consensus_engine_is_quiet_unless_asked_for() {
        for (filter, shown) in [
            ("info", false),
            ("debug", false),
            ("info,openraft=debug", true),
            ("openraft=info", true),
        ] {
            let subscriber = tracing_subscriber::fmt().with_env_filter(parse(filter).unwrap());
            tracing::subscriber::with_default(subscriber.finish(), || {
                let is_shown = tracing::enabled!(target: "openraft::core", tracing::Level::INFO);
                assert_eq!(is_shown, shown, "{filter}");
            });
        }
    }
}
