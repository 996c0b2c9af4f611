//! What an operator asks of one node and another has to do, such as giving a virtual address away:
//! one question in the product's own words and its answer, over a connection of the control link.
//!
//! The words are not this crate's business. Whoever is asked knows which member asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::timeout;

use crate::handle::{Backend, Handle};
use crate::network::{Answer, Peers, Request};
use crate::record::NodeId;
use crate::transport::Boxed;

/// Largest question, bytes; an answer has the same bound.
pub const MAX_ERRAND: usize = 16 << 10;

/// How a node carries out what another member asks; it gets the member's number.
pub type OnErrand = Arc<dyn Fn(NodeId, Vec<u8>) -> Boxed<'static, Vec<u8>> + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// The question is too large.
    #[error("found {0} bytes, expected at most {MAX_ERRAND}")]
    TooLarge(usize),
    /// The node was not reached, does not know such questions, or did not answer in time. It may
    /// have done what it was asked all the same.
    #[error("node {node} gave no answer: {reason}")]
    NoAnswer {
        /// The asked node.
        node: NodeId,
        /// What went wrong.
        reason: String,
    },
}

/// What a node does for the others, whatever group it takes part in, and whether it would rather
/// not lead.
#[derive(Default)]
pub(crate) struct Errands {
    runner: OnceLock<OnErrand>,
    resting: AtomicBool,
}

impl Errands {
    /// Whether the node is to leave leadership to others that can have it.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// The answer to a member's question.
    pub(crate) async fn run(&self, from: NodeId, question: Vec<u8>) -> Answer {
        if question.len() > MAX_ERRAND {
            return Answer::Refused(ErrandError::TooLarge(question.len()).to_string());
        }
        match self.runner.get() {
            Some(runner) => Answer::Errand(runner(from, question).await),
            None => Answer::Refused("this member runs no errands".to_owned()),
        }
    }
}

async fn ask(peers: &Peers, to: NodeId, question: Vec<u8>) -> Result<Vec<u8>, String> {
    let text = |error: crate::network::CallError| error.to_string();
    // A connection of its own: one that was kept might have to be tried twice, and what was asked
    // for must not be done twice.
    let stream = peers.connect(to).await.map_err(text)?;
    match peers.ask_on(stream, to, Request::Errand(question)).await {
        Ok((Answer::Errand(answer), _)) if answer.len() <= MAX_ERRAND => Ok(answer),
        Ok((Answer::Refused(why), _)) => Err(why),
        Ok((other, _)) => Err(format!("unexpected answer {other:?}")),
        Err(error) => Err(text(error)),
    }
}

impl Handle {
    /// Carries out what other members ask from now on; only the first call counts.
    pub fn on_errand(&self, runner: OnErrand) {
        if let Backend::Engine { slot, .. } = &self.backend {
            let _ = slot.engine().errands.runner.set(runner);
        }
    }

    /// Asks another member for something and gives its answer.
    ///
    /// # Errors
    /// [`ErrandError`].
    pub async fn errand(
        &self,
        to: NodeId,
        question: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, ErrandError> {
        if question.len() > MAX_ERRAND {
            return Err(ErrandError::TooLarge(question.len()));
        }
        let no_answer = |reason| ErrandError::NoAnswer { node: to, reason };
        let Backend::Engine { slot, .. } = &self.backend else {
            return Err(no_answer("it is no other process".to_owned()));
        };
        let engine = slot.engine();
        let asked = timeout(within, ask(&engine.peers, to, question)).await;
        asked.unwrap_or_else(|_| Err("it took too long".to_owned())).map_err(no_answer)
    }

    /// Says whether this node should leave leadership to others, as long as one can have it. Of a
    /// pair the voter is changed by [`Handle::hand_over`] alone.
    pub fn rest(&self, resting: bool) {
        if let Backend::Engine { slot, .. } = &self.backend {
            slot.engine().errands.resting.store(resting, Ordering::Relaxed);
        }
    }
}
