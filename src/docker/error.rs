//! Why a call to an engine did not do what it was meant to do.

use std::io;

use bollard::errors::Error as Cause;

/// Longest part of an engine's own words that is told on, bytes.
const LONGEST_MESSAGE: usize = 400;

/// Why an engine did not do as it was told. Every text names the port, by which AppAPI knows the
/// engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No engine belongs to this port.
    #[error("no Docker engine is registered under port {port}")]
    Unknown {
        /// The port.
        port: u16,
    },
    /// It could not be reached, or closed the connection.
    #[error("the Docker engine of port {port} cannot be reached: {why}")]
    Unreachable {
        /// The port.
        port: u16,
        /// What happened.
        why: String,
    },
    /// It took longer than the call may take.
    #[error("the Docker engine of port {port} did not answer in time")]
    Silent {
        /// The port.
        port: u16,
    },
    /// It answered something that is not Docker's API.
    #[error("the Docker engine of port {port} answered what cannot be understood: {why}")]
    Garbled {
        /// The port.
        port: u16,
        /// What is wrong with it.
        why: String,
    },
    /// It refused.
    #[error("the Docker engine of port {port} answered {status}: {message}")]
    Refused {
        /// The port.
        port: u16,
        /// Its HTTP status.
        status: u16,
        /// Its own words, shortened.
        message: String,
    },
    /// The container or volume belongs to another tenant.
    #[error("{name} belongs to another Nextcloud")]
    Foreign {
        /// Its name.
        name: String,
    },
}

impl Error {
    /// The engine's status, if it answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Translates what happened on the way to the engine of `port`.
    pub(super) fn from_cause(port: u16, cause: Cause) -> Self {
        match cause {
            Cause::DockerResponseServerError { status_code, message } => {
                Self::Refused { port, status: status_code, message: shortened(&message) }
            }
            Cause::RequestTimeoutError => Self::Silent { port },
            Cause::IOError { err } => Self::from_io(port, &err),
            Cause::HyperResponseError { err } if err.is_parse() => {
                Self::Garbled { port, why: err.to_string() }
            }
            Cause::HyperResponseError { err } => {
                // Its source is what the connection died of; its own text says only where.
                let source = std::error::Error::source(&err).map(ToString::to_string);
                Self::Unreachable { port, why: source.unwrap_or_else(|| err.to_string()) }
            }
            // The rest are ways not to be understood; none of them quotes what was sent.
            other => Self::Garbled { port, why: shortened(&other.to_string()) },
        }
    }

    /// Translates a connection that was not made.
    pub(super) fn from_io(port: u16, error: &io::Error) -> Self {
        Self::Unreachable { port, why: error.to_string() }
    }
}

/// One line of at most [`LONGEST_MESSAGE`] bytes.
fn shortened(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() + c.len_utf8() > LONGEST_MESSAGE {
            line.push_str("...");
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_words_are_one_line_of_bounded_length() {
        assert_eq!(shortened(" no such image\r\nreally\u{7}\n"), "no such image  really ");
        let long = shortened(&"\u{e9}".repeat(1000));
        assert_eq!(long.len(), LONGEST_MESSAGE + 3);
        assert!(long.ends_with("..."));
    }
}
