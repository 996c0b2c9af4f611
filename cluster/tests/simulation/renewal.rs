//! A machine that takes the place of another while everything goes on: it is admitted, starts and
//! gets a vote, then a member from the beginning leaves or is removed. It may have lost its log, be
//! the leader, or be off.

use std::time::Duration;

use cluster::record::{Millis, NodeId, Role, TokenId};
use cluster::{Command, Handle, Reply};

use crate::admissions;
use crate::draw::Draw;
use crate::site::Site;

/// Nothing new begins after this, so that there is time for it to end.
const LAST: Duration = Duration::from_secs(42);

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Somebody makes a token.
    #[default]
    Offering,
    /// The newcomer shows it.
    Joining,
    /// The newcomer runs, and shall get a vote.
    Running,
    /// That member shall go.
    Leaving(NodeId),
    /// It has gone, says the cluster.
    Over(NodeId),
}

impl Renewal {
    /// Who has to go, as soon as that is settled.
    pub(crate) fn leaves(self) -> Option<NodeId> {
        match self {
            Self::Leaving(who) | Self::Over(who) => Some(who),
            Self::Offering | Self::Joining | Self::Running => None,
        }
    }
}

/// The next step, at node `id`. What is not answered is tried again, here or elsewhere.
///
/// # Errors
/// A promise was broken.
pub(crate) async fn go_on(
    site: &Site,
    id: NodeId,
    draw: &mut Draw,
    handle: &Handle,
    now: Millis,
) -> Result<(), String> {
    let Some(newcomer) = site.newcomer() else { return Ok(()) };
    if site.now.get() > LAST {
        return Ok(());
    }
    let next = match site.renewal.get() {
        Renewal::Offering => {
            let token = admissions::token(TOKEN, id, Role::Node, now);
            let made = handle.propose(Command::CreateToken(token), PATIENCE).await;
            // Refused, if it was there already.
            made.ok().map(|_| Renewal::Joining)
        }
        Renewal::Joining => {
            let machine = (format!("node-{}", newcomer.id), newcomer.ip());
            let applicant = admissions::applicant(TOKEN, ATTEMPT, Role::Node, machine, now);
            match handle.propose(Command::Admit(applicant), PATIENCE).await {
                Ok(Reply::Admitted(number)) if number == newcomer.id => {
                    newcomer.state.borrow_mut().absent = false;
                    Some(Renewal::Running)
                }
                Ok(other) => {
                    let expected = newcomer.id;
                    return Err(format!("node {expected} asks to join and is told {other:?}"));
                }
                Err(_) => None,
            }
        }
        Renewal::Running => votes(site, newcomer.id).then(|| {
            let old: Vec<_> = site.members().filter(|host| host.id != newcomer.id).collect();
            let lost = old.iter().find(|host| host.state.borrow().lost);
            let ids: Vec<_> = old.iter().map(|host| host.id).collect();
            Renewal::Leaving(lost.map_or_else(|| draw.pick(&ids), |host| host.id))
        }),
        Renewal::Leaving(who) => {
            let gone = if who == id {
                handle.leave(PATIENCE).await
            } else {
                handle.remove_node(who, PATIENCE).await
            };
            gone.ok().map(|()| Renewal::Over(who))
        }
        Renewal::Over(_) => None,
    };
    // Somebody else may have been faster.
    if let Some(next) = next
        && step(site.renewal.get()) == step(next) - 1
    {
        site.tell(format_args!("renewal: {next:?}"));
        site.renewal.set(next);
    }
    Ok(())
}

const TOKEN: TokenId = TokenId([1, 2, 3, 4, 5]);

/// Of the newcomer, however often it asks.
const ATTEMPT: u128 = 9;

fn step(renewal: Renewal) -> u8 {
    match renewal {
        Renewal::Offering => 0,
        Renewal::Joining => 1,
        Renewal::Running => 2,
        Renewal::Leaving(_) => 3,
        Renewal::Over(_) => 4,
    }
}

fn votes(site: &Site, id: NodeId) -> bool {
    let state = site.host(id).state.borrow();
    state.last.as_ref().is_some_and(|seen| {
        !seen.voters.is_empty() && seen.voters.iter().all(|voters| voters.contains(&id))
    })
}
