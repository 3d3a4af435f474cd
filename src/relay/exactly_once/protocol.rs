//! The steps of a relay that sends each event once: what happened goes in, what to do next comes
//! out. It knows neither Kafka nor the table.
//!
//! | phase | input | next |
//! |---|---|---|
//! | standby | led: the relay holds the lock | fencing: become the only producer |
//! | fencing | done | reading: commit a barrier, read the receipts up to it |
//! | reading | done | clearing: delete the rows that the last receipt lists |
//! | clearing | done | open: rows may come |
//! | open | rows | sending: begin, send, the receipt last, await all reports |
//! | sending | done | committing |
//! | sending | refused: a report or a send failed | aborting |
//! | committing | done | open; what was committed is deleted |
//! | committing | again | commit uncertain |
//! | commit uncertain | again | commit uncertain |
//! | commit uncertain | done | deposed: only the receipts tell whether it took effect |
//! | aborting | any | deposed: the next transaction of this producer would fail |
//! | fencing, reading, clearing | again | the same once more |
//! | any | lost: fatal, fenced, or an unknown outcome | deposed |
//! | deposed | led | fencing, with a new producer and nothing in memory |

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// The session of the leader has just shown that it holds the lock.
    Led,
    /// The requested step is done.
    Done,
    /// The step could not be done now, and may be repeated.
    Again,
    /// There are rows to send.
    Rows,
    /// The open transaction cannot be committed.
    Refused,
    /// The producer failed, or the outcome of the transaction is unknown.
    Lost,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NextStep {
    /// Fence every earlier producer.
    Fence,
    /// Commit a barrier and read the last receipt before it.
    Read,
    /// Delete the rows that this receipt lists.
    Clear,
    /// Wait for rows.
    Await,
    /// Begin a transaction, send rows and their receipt, and wait for all reports.
    Send,
    /// Commit the transaction.
    Commit,
    /// Have the rows of the transaction deleted, and wait for more.
    Delete,
    /// Abort the transaction.
    Abort,
    /// Drop the producer and everything in memory, and show that the relay still holds the lock.
    Renew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Standby,
    Fencing,
    Reading,
    Clearing,
    Open,
    Sending,
    Committing,
    /// A commit had to be repeated. The answer does not tell whether all of it took effect.
    CommitUncertain,
    Aborting,
    Deposed,
}

/// The state of one leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Protocol {
    phase: Phase,
}

impl Protocol {
    /// Starts before the relay holds the lock.
    pub(crate) fn standby() -> Self {
        Self {
            phase: Phase::Standby,
        }
    }

    /// Takes in what happened, and returns what to do next.
    pub(crate) fn on(&mut self, input: Input) -> NextStep {
        let (phase, step) = self.next(input);
        self.phase = phase;
        step
    }

    fn next(&self, input: Input) -> (Phase, NextStep) {
        match (self.phase, input) {
            (Phase::Standby | Phase::Deposed, Input::Led) => (Phase::Fencing, NextStep::Fence),
            (Phase::Fencing, Input::Done) => (Phase::Reading, NextStep::Read),
            (Phase::Reading, Input::Done) => (Phase::Clearing, NextStep::Clear),
            (Phase::Clearing, Input::Done) => (Phase::Open, NextStep::Await),
            (Phase::Open, Input::Rows) => (Phase::Sending, NextStep::Send),
            (Phase::Sending, Input::Done) => (Phase::Committing, NextStep::Commit),
            (Phase::Sending, Input::Refused) => (Phase::Aborting, NextStep::Abort),
            (Phase::Committing, Input::Done) => (Phase::Open, NextStep::Delete),
            (Phase::Committing | Phase::CommitUncertain, Input::Again) => {
                (Phase::CommitUncertain, NextStep::Commit)
            }
            (Phase::Fencing, Input::Again) => (Phase::Fencing, NextStep::Fence),
            (Phase::Reading, Input::Again) => (Phase::Reading, NextStep::Read),
            (Phase::Clearing, Input::Again) => (Phase::Clearing, NextStep::Clear),
            // After anything else, only Kafka and the table together tell what was sent.
            _ => (Phase::Deposed, NextStep::Renew),
        }
    }
}

#[cfg(test)]
#[path = "protocol_test.rs"]
mod tests;
