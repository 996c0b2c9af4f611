//! What is known of another node's flows. Sans-io.

use std::collections::HashMap;

use super::delta::{Applied, FlowDelta, FlowError, Mark};
use super::{Flow, FlowKind, Pair, Sequence};

/// Most flows taken in from one node.
pub const MAX_HEARD: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Heard {
    mark: Mark,
    /// How often the node began to tell everything.
    round: u32,
    /// Whether the current telling is not at its end: until then what was known before stays,
    /// because the node may die in the middle of it.
    telling: bool,
    flows: HashMap<Pair, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: FlowKind,
    sequence: Option<Sequence>,
    round: u32,
}

impl Heard {
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = Flow> {
        self.flows.iter().map(|(pair, entry)| Flow {
            server: pair.server(),
            client: pair.client(),
            kind: entry.kind,
            sequence: entry.sequence,
        })
    }

    pub(super) fn apply(&mut self, delta: &FlowDelta) -> Result<Applied, FlowError> {
        if !delta.anew {
            let Mark { epoch, floor, version } = self.mark;
            if (delta.epoch, delta.floor) != (epoch, floor) || delta.base > version {
                return Ok(Applied::Gap);
            }
            if delta.upto <= version {
                return Ok(Applied::Known);
            }
        }
        if self.flows.len() + delta.open.len() > MAX_HEARD {
            self.sweep();
            if self.flows.len() + delta.open.len() > MAX_HEARD {
                return Err(FlowError::TooMany);
            }
        }
        if delta.anew {
            self.round = self.round.wrapping_add(1);
            self.telling = true;
        }
        for flow in &delta.open {
            let entry = Entry { kind: flow.kind, sequence: flow.sequence, round: self.round };
            self.flows.insert(Pair::new(flow.server, flow.client), entry);
        }
        for (server, client) in &delta.closed {
            self.flows.remove(&Pair::new(*server, *client));
        }
        self.mark = delta.end();
        if self.telling && !delta.more {
            self.sweep();
            self.telling = false;
        }
        Ok(Applied::Taken)
    }

    /// Drops what the current telling has not confirmed.
    fn sweep(&mut self) {
        let round = self.round;
        self.flows.retain(|_, entry| entry.round == round);
        self.flows.shrink_to(self.flows.len() * 2);
    }
}
