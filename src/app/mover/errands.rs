//! What nodes ask each other over the control link when addresses move: to give them, and to be
//! ready for them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::{NodeId, Role};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use vrrp::Tracked;

use super::{Inner, LOOK, Mover};
use crate::admin::Refusal;
use crate::admin::failover::Moved;
use crate::app::drain::name_of;
use crate::app::vantage;

/// How long another node gets to prepare, and to move what it holds.
const PREPARE: Duration = Duration::from_secs(3);
const ELSEWHERE: Duration = Duration::from_secs(15);

/// What one node asks another.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// Give these addresses to that node.
    Give { addresses: Vec<IpAddr>, to: Option<NodeId>, force: bool },
    /// These addresses are about to come: do not stay below whoever gives them.
    Prepare { addresses: Vec<IpAddr> },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Given(Moved),
    /// The lowest priority of the virtual routers in question.
    Prepared {
        priority: u8,
    },
    Unsafe(String),
    Failed(String),
}

impl Mover {
    /// Answers the other nodes from now on.
    pub(in crate::app) fn serve(&self) {
        let me = self.clone();
        self.0.cluster.on_errand(Arc::new(move |from, question| {
            let me = me.clone();
            Box::pin(async move {
                let answer = me.0.answer(from, &question).await;
                serde_json::to_vec(&answer).unwrap_or_default()
            })
        }));
    }
}

impl Inner {
    async fn answer(&self, from: NodeId, question: &[u8]) -> Answer {
        let members = self.cluster.members();
        if !members.iter().any(|member| member.id == from && member.role == Role::Node) {
            return Answer::Unsafe("only a load balancer may ask for that".to_owned());
        }
        let question = match serde_json::from_slice(question) {
            Ok(question) => question,
            Err(error) => {
                return Answer::Failed(format!("the question is not understood: {error}"));
            }
        };
        match question {
            Question::Prepare { addresses } => self.prepare(&addresses).await,
            Question::Give { addresses, to, force } => {
                tracing::info!(from, ?addresses, to, "another node passes an admin's failover on");
                match self.give(&addresses, to, force).await {
                    Ok(moved) => Answer::Given(moved),
                    Err(Refusal::Unsafe(text)) => Answer::Unsafe(text),
                    Err(error) => Answer::Failed(error.to_string()),
                }
            }
        }
    }

    /// The heir's part: its own last failover no longer counts.
    async fn prepare(&self, addresses: &[IpAddr]) -> Answer {
        let mut lowered = self.lowered.lock().await;
        let names: Vec<_> = self.with(addresses).map(|it| Arc::clone(it.name())).collect();
        for name in &names {
            if lowered.remove(name) {
                self.set(name, Tracked::Value(0));
            }
        }
        // The thread takes it in within a moment.
        sleep(LOOK * 5).await;
        let states = vantage::states(&self.speaker);
        let asked = states.iter().filter(|state| names.contains(&state.name));
        match asked.map(|state| state.priority).min() {
            Some(priority) => Answer::Prepared { priority },
            None => Answer::Failed("it has no virtual router with these addresses".to_owned()),
        }
    }

    /// Has the heir get ready for addresses; its lowest priority of their virtual routers.
    pub(super) async fn have_prepared(
        &self,
        heir: NodeId,
        addresses: Vec<IpAddr>,
    ) -> Result<u8, String> {
        match self.ask(heir, &Question::Prepare { addresses }, PREPARE).await? {
            Answer::Prepared { priority } => Ok(priority),
            Answer::Failed(text) | Answer::Unsafe(text) => Err(text),
            Answer::Given(_) => Err("its answer is to another question".to_owned()),
        }
    }

    /// Has another node give addresses it holds.
    pub(super) async fn have_given(
        &self,
        holder: NodeId,
        addresses: Vec<IpAddr>,
        to: Option<NodeId>,
        force: bool,
    ) -> Result<Moved, Refusal> {
        let name = name_of(&self.cluster, holder);
        match self.ask(holder, &Question::Give { addresses, to, force }, ELSEWHERE).await {
            Ok(Answer::Given(moved)) => Ok(moved),
            Ok(Answer::Unsafe(text)) => Err(Refusal::Unsafe(text)),
            Ok(Answer::Failed(text)) => Err(Refusal::Failed(format!("node {name}: {text}"))),
            Ok(Answer::Prepared { .. }) => {
                Err(Refusal::Failed(format!("node {name}: its answer is to another question")))
            }
            Err(error) => Err(Refusal::Unsafe(format!("{error}; run it on node {name}"))),
        }
    }

    async fn ask(
        &self,
        node: NodeId,
        question: &Question,
        within: Duration,
    ) -> Result<Answer, String> {
        let bytes = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let answer = self.cluster.errand(node, bytes, within).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| format!("its answer is wrong: {error}"))
    }
}
