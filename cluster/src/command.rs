//! What can be asked of the replicated state, and what it answers. Sans-io.

use serde::{Deserialize, Serialize};

use crate::record::{ExApp, FrpPki, Session, SessionKey, Strike, Tunnel};

/// A change of the replicated state. A command this build does not know stops the node; it is
/// never skipped, because skipping would make the replicas differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Nextcloud pushed a record (`POST exapp_storage`): it wins over any fetch still under way.
    PushExApp(ExApp),
    /// A fetched record, kept only if nothing was pushed or deleted since `revision` was read.
    CacheExApp {
        /// The record as fetched.
        record: ExApp,
        /// [`State::exapp_revision`](crate::State::exapp_revision) before the fetch began.
        revision: u64,
    },
    /// Nextcloud removed the record (`DELETE exapp_storage`).
    DeleteExApp {
        /// Lower-cased id.
        id: String,
    },
    /// A tunnel was registered; the newest registration of a port wins.
    TunnelUp(Tunnel),
    /// A tunnel is gone for good. Ignored when the port was registered again since.
    TunnelDown {
        /// Registered port.
        port: u16,
        /// Run id of the registration that ended.
        run_id: String,
    },
    /// The FRP certificates, kept only if there are none yet.
    InitPki(FrpPki),
    /// Many small changes that may be lost without harm.
    Soft(SoftBatch),
}

/// Coalesced soft changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoftBatch {
    /// Wall-clock milliseconds when the batch was closed: the state forgets what expired before.
    pub now: u64,
    /// Validated sessions.
    pub sessions: Vec<(SessionKey, Session)>,
    /// Failures.
    pub strikes: Vec<Strike>,
}

/// One soft change, handed to [`Handle::share`](crate::Handle::share).
#[derive(Clone, Debug, PartialEq)]
pub enum Soft {
    /// A session was validated.
    Session(SessionKey, Session),
    /// A client failed.
    Strike(Strike),
}

/// What applying a [`Command`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// There was nothing to do it to (delete of an unknown record, an outdated fetch or port).
    Nothing,
}
