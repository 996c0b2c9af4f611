//! The feature level: what every member of the cluster understands.
//!
//! Each release knows the levels up to its own ([`FEATURE`](crate::record::FEATURE)) and says so
//! when it joins and after every start. The cluster's level stands in the state and only rises: the
//! leader proposes it once every member runs a release that knows it. A command of a level the
//! cluster has not reached is not proposed, so a member of an older release never meets one in its
//! log. In return a release that does not know the cluster's level neither joins nor starts.
//!
//! So a rolling upgrade takes the nodes in any order; with the last one the level rises, and from
//! then on there is no way back to the older release but a backup.

use std::time::Duration;

use crate::command::{Command, Reply};
use crate::engine::Engine;
use crate::error::ProposeError;
use crate::state::State;

/// Level of everything that was there when levels began.
const FIRST: u16 = 1;

/// Longest wait until the level is raised; it is tried again.
const LIMIT: Duration = Duration::from_secs(10);

/// Level from which on a command may be proposed. One that is added later names its own here.
fn needed_by(command: &Command) -> u16 {
    match command {
        // Whether they know the level it raises to is what applying it asks.
        Command::RaiseFeature { .. } | Command::Found(_) => FIRST,
        _ => FIRST,
    }
}

/// Whether a cluster of this level may be given a command that needs another.
fn allow(needs: u16, level: u16) -> Result<(), ProposeError> {
    if needs > level.max(FIRST) {
        return Err(ProposeError::TooEarly { needs, level });
    }
    Ok(())
}

impl Engine {
    /// Whether every member understands the command.
    pub(crate) fn is_understood(&self, command: &Command) -> Result<(), ProposeError> {
        allow(needed_by(command), self.view.read(State::feature))
    }

    /// As leader: raises the level when every member knows a higher one.
    pub(crate) async fn keep_feature(&self) {
        let Some(to) = self.view.read(State::next_feature) else { return };
        match self.propose(Command::RaiseFeature { to }, LIMIT).await {
            Ok(Reply::Done) => tracing::info!(level = to, "every node runs the newer release"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the feature level was not raised"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_some_members_understand_is_not_proposed() {
        assert_eq!(allow(FIRST, 0), Ok(()), "the founding comes before the first level");
        assert_eq!(allow(2, 2), Ok(()));
        assert_eq!(allow(3, 2), Err(ProposeError::TooEarly { needs: 3, level: 2 }));
    }
}
