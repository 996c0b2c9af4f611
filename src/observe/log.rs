//! Sets up `tracing` once per process.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One human-readable line per event.
    #[default]
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
}

impl Default for Config {
    fn default() -> Self {
        Self { filter: "info".into(), format: Format::Text }
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
    let mut directives = text.split(',').map(str::trim);
    let sound = directives.all(|d| is_module(d) || d.parse::<LevelFilter>().is_ok());
    let filter = EnvFilter::try_new(format!("{QUIET},{text}")).ok();
    filter.filter(|_| sound)
}

/// Starts logging to standard error. `TRIGON_LOG` overrides the configured filter.
///
/// # Errors
/// A filter that does not parse, or logging that was started before; the text says which.
pub fn start(config: &Config) -> Result<(), String> {
    let (source, directives) = match std::env::var("TRIGON_LOG") {
        Ok(directives) => ("TRIGON_LOG", directives),
        Err(_unset) => ("log.level", config.filter.clone()),
    };
    let filter = parse(&directives)
        .ok_or_else(|| format!("{source}: found \"{directives}\", expected {EXPECTED}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
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
