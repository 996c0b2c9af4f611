//! What an operator can ask of a pair, and why it is not done.

use tokio::sync::{mpsc, oneshot};

use super::promotion::{Consent, Refusal};
use crate::group::Group;

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// Not two load balancers alone.
    #[error("this cluster is no pair: it has other members than two load balancers")]
    NoPair,
    /// The voter has to be asked.
    #[error("this node is not the voter of the pair; ask the other one")]
    NotVoter,
    /// The learner lacks something.
    #[error("the other node does not follow: {0}")]
    NotReady(String),
    /// It may write already.
    #[error("this node is the voter and takes durable changes: there is nothing to promote")]
    Voter,
    /// Rules that do not hold.
    #[error("not promoted: {}", list(.0))]
    Refused(Vec<Refusal>),
    /// The node stops.
    #[error("this node is stopping")]
    Stopped,
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// An order and where its outcome goes.
pub(crate) struct Order {
    pub(crate) consent: Consent,
    pub(crate) done: oneshot::Sender<Result<Group, PairError>>,
}

/// Takes orders to the keeper.
pub(crate) type Orders = mpsc::Sender<Order>;
