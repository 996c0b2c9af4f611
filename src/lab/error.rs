//! Why the lab could not run its experiment. A service that did not come back is not an error
//! but a result: see [`super::Outcome`].

use std::io;
use std::path::PathBuf;

/// Everything that ends `trigon lab` before its report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user asked for two things that exclude each other.
    #[error("{option}: {instead}")]
    Excluded {
        /// As written on the command line.
        option: String,
        /// Why not, and what to do.
        instead: &'static str,
    },
    /// Namespaces need root.
    #[error("trigon lab makes network namespaces and has to run as root; use sudo")]
    NotRoot,
    /// A program the lab calls is missing.
    #[error("trigon lab needs the program `ip`; install the package iproute2")]
    NoIproute,
    /// A part of the database server is missing.
    #[error(
        "--galera needs {missing}; install the packages mariadb-server, galera-4 and rsync \
         (Debian's names)"
    )]
    NoGalera {
        /// The first part that was not found.
        missing: &'static str,
    },
    /// The database could not be asked.
    #[error("the database: {what}: {reason}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Its answer, or why there is none.
        reason: String,
    },
    /// The network could not be made or changed.
    #[error("{what}: {reason}")]
    Network {
        /// What was tried.
        what: String,
        /// The system's answer.
        reason: io::Error,
    },
    /// A file of the lab could not be written or read.
    #[error("{}: {what}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        reason: io::Error,
    },
    /// A process could not be started or told to stop.
    #[error("{program}: could not be {what}: {reason}")]
    Process {
        /// Its name.
        program: String,
        /// "started", "stopped".
        what: &'static str,
        /// The system's answer.
        reason: io::Error,
    },
    /// The tunnel client is not usable.
    #[error("--frpc {}: not a usable frpc: {reason}", path.display())]
    Frpc {
        /// As given.
        path: PathBuf,
        /// What it did instead of telling its version.
        reason: String,
    },
    /// A command an admin would type did not do what it should.
    #[error("{who}: `trigon {command}`: {said}")]
    Refused {
        /// The machine it ran on.
        who: String,
        /// What was typed, without secrets.
        command: String,
        /// What it said.
        said: String,
    },
    /// The lab never reached the state a round starts from.
    #[error("{waited_for}: not reached within {seconds} s{logs}")]
    NotHealthy {
        /// The condition, as a sentence's subject.
        waited_for: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines of the processes' logs, for the reader to see why.
        logs: String,
    },
    /// A process of the lab died by itself.
    #[error("{who} ended by itself ({how}){logs}")]
    Died {
        /// Node or tunnel client.
        who: String,
        /// Its exit status.
        how: String,
        /// The last lines of its log.
        logs: String,
    },
    /// Ctrl-C or a termination signal.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

impl Error {
    /// The exit code of the program: 2 for a wrong request, 130 for an interrupt, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Excluded { .. } | Self::Frpc { .. } => 2,
            Self::Interrupted(_) => 130,
            _ => 1,
        }
    }

    pub(super) fn network(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |reason| Self::Network { what, reason }
    }
}
