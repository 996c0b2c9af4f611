//! What clients asked and were told, and whether one copy of the data could have told it.

use crate::linearizability::{Operation, Record, RecordAnswer, RecordCall, Verdict, check};

/// Names of the records clients fight for.
pub(crate) const KEYS: u64 = 6;

/// All operations of a run.
#[derive(Default)]
pub(crate) struct History {
    /// Counts calls and answers: who was first is all that matters.
    moments: u64,
    values: u64,
    operations: Vec<(u64, Operation<RecordCall, RecordAnswer>)>,
}

/// An operation under way.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(usize);

impl History {
    /// A value nobody has written yet.
    pub(crate) fn value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    pub(crate) fn call(&mut self, key: u64, call: RecordCall) -> Ticket {
        self.moments += 1;
        let operation = Operation { called: self.moments, call, answered: None };
        self.operations.push((key, operation));
        Ticket(self.operations.len() - 1)
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: RecordAnswer) {
        self.moments += 1;
        self.operations[ticket.0].1.answered = Some((self.moments, answer));
    }

    /// Whether nobody but `ticket` has been at its record since it was called.
    pub(crate) fn was_alone(&self, ticket: Ticket) -> bool {
        let (key, own) = &self.operations[ticket.0];
        !self.operations.iter().enumerate().any(|(at, (other, operation))| {
            let open_then = operation.answered.as_ref().is_none_or(|(end, _)| *end > own.called);
            at != ticket.0 && other == key && open_then && operation.call != RecordCall::Read
        })
    }

    pub(crate) fn answered(&self) -> usize {
        self.operations.iter().filter(|(_, operation)| operation.answered.is_some()).count()
    }

    /// The first record whose history nothing explains.
    pub(crate) fn check(&self) -> Result<(), String> {
        for key in 0..KEYS {
            let of_key = self.operations.iter().filter(|(other, _)| *other == key);
            let operations: Vec<_> = of_key.map(|(_, operation)| operation.clone()).collect();
            match check::<Record>(&operations) {
                Verdict::Linearizable => {}
                Verdict::Violation(why) => {
                    return Err(format!("the history of record {key} is not linearizable: {why}"));
                }
                Verdict::Undecided => {
                    return Err(format!("the history of record {key} is too tangled to judge"));
                }
            }
        }
        Ok(())
    }
}
