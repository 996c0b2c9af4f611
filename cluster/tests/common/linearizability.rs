//! Whether a recorded history could have come from one copy of the data: Wing and Gong's search
//! with Lowe's memory of configurations seen. Shared by path between the simulation of the
//! cluster crate and the tests of real processes.
//!
//! Histories are checked key by key, which is enough because the keys do not know each other.
//! An operation without an answer may have happened at any time since, or never.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// Configurations looked at before the search gives up on a history.
const PATIENCE: usize = 2_000_000;

/// What one copy of the data would do.
pub(crate) trait Model {
    /// The data.
    type State: Clone + Default + Eq + Hash + Debug;
    /// What is asked.
    type Call: Debug;
    /// What it answers.
    type Answer: Eq + Debug;

    /// Carries one call out.
    fn step(state: &Self::State, call: &Self::Call) -> (Self::State, Self::Answer);
}

/// One call and what came of it. Times are of one clock for all callers; their unit is of no
/// importance.
#[derive(Clone, Debug)]
pub(crate) struct Operation<C, A> {
    /// When it was called.
    pub(crate) called: u64,
    /// What was asked.
    pub(crate) call: C,
    /// When it was answered and what; none if the caller never learned.
    pub(crate) answered: Option<(u64, A)>,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none; the text shows how far the best one came.
    Violation(String),
    /// Too many operations without an answer at once.
    Undecided,
}

/// Searches an order of the operations of one key that explains every answer.
pub(crate) fn check<M: Model>(history: &[Operation<M::Call, M::Answer>]) -> Verdict {
    let mut sorted: Vec<_> = history.iter().collect();
    sorted.sort_by_key(|operation| operation.called);
    let answered = sorted.iter().filter(|operation| operation.answered.is_some()).count();
    let mut seen = HashSet::new();
    let mut open = vec![(Done::none(sorted.len()), M::State::default())];
    let mut furthest: Option<(usize, Done, M::State)> = None;
    while let Some((done, state)) = open.pop() {
        let explained = count(&sorted, &done);
        if explained == answered {
            return Verdict::Linearizable;
        }
        if furthest.as_ref().is_none_or(|(most, ..)| explained > *most) {
            furthest = Some((explained, done.clone(), state.clone()));
        }
        if seen.len() >= PATIENCE {
            return Verdict::Undecided;
        }
        // Nothing may come before what was over when it was called.
        let waiting = || sorted.iter().enumerate().filter(|(at, _)| !done.has(*at));
        let ends = waiting().filter_map(|(_, operation)| operation.answered.as_ref());
        let first_end = ends.map(|(at, _)| *at).min().unwrap_or(u64::MAX);
        // The stack gives back what was pushed last: answered operations are tried before those
        // that may never have happened.
        let mut next = Vec::new();
        for (at, operation) in waiting().take_while(|(_, next)| next.called <= first_end) {
            let (after, answer) = M::step(&state, &operation.call);
            match &operation.answered {
                Some((_, expected)) if *expected == answer => next.push((at, after)),
                None if after != state => next.insert(0, (at, after)),
                _ => {}
            }
        }
        for (at, after) in next {
            let configuration = (done.with(at), after);
            if seen.insert(configuration.clone()) {
                open.push(configuration);
            }
        }
    }
    Verdict::Violation(furthest.map_or_else(String::new, |(_, done, state)| {
        let left: Vec<_> = (0..sorted.len()).filter(|at| !done.has(*at)).collect();
        let left: Vec<_> = left.iter().map(|at| format!("{:?}", sorted[*at])).collect();
        format!("from {state:?} nothing explains:\n    {}", left.join("\n    "))
    }))
}

fn count<C, A>(sorted: &[&Operation<C, A>], done: &Done) -> usize {
    let explained = |(at, operation): &(usize, &&Operation<C, A>)| {
        operation.answered.is_some() && done.has(*at)
    };
    sorted.iter().enumerate().filter(explained).count()
}

/// Which operations an order has placed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done(Box<[u64]>);

impl Done {
    fn none(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)].into())
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn with(&self, at: usize) -> Self {
        let mut more = self.clone();
        more.0[at / 64] |= 1 << (at % 64);
        more
    }
}

/// One record: written, written only if it is still the one that was read, deleted, read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record {}

/// What is asked of a [`Record`]; every write has a value of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordCall {
    /// Whatever was there.
    Write(u64),
    /// Only if the last [`RecordCall::Write`] was this one and nothing deleted it.
    Refresh { written: u64, value: u64 },
    /// Answers whether there was one.
    Delete,
    /// Answers the value.
    Read,
}

/// What a [`Record`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordAnswer {
    /// Done.
    Done,
    /// There was nothing to do it to.
    Nothing,
    /// What was read.
    Value(Option<u64>),
}

impl Model for Record {
    /// The last value written and the value now.
    type State = Option<(u64, u64)>;
    type Call = RecordCall;
    type Answer = RecordAnswer;

    fn step(state: &Self::State, call: &RecordCall) -> (Self::State, RecordAnswer) {
        match *call {
            RecordCall::Write(value) => (Some((value, value)), RecordAnswer::Done),
            RecordCall::Refresh { written, value } => match state {
                Some((last, _)) if *last == written => (Some((written, value)), RecordAnswer::Done),
                _ => (*state, RecordAnswer::Nothing),
            },
            RecordCall::Delete if state.is_some() => (None, RecordAnswer::Done),
            RecordCall::Delete => (None, RecordAnswer::Nothing),
            RecordCall::Read => (*state, RecordAnswer::Value(state.map(|(_, value)| value))),
        }
    }
}
