//! Sets up `tracing` once per process.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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

/// Starts logging to standard error. `TRIGON_LOG` overrides the configured filter.
///
/// # Errors
/// A filter that does not parse, or logging that was started before; the text says which.
pub fn start(config: &Config) -> Result<(), String> {
    let directives = std::env::var("TRIGON_LOG").unwrap_or_else(|_unset| config.filter.clone());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| format!("log.level: `{directives}` is not a filter: {error}"))?;
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
