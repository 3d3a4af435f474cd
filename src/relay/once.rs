//! The steps of a relay that sends each event once: what happened goes in, what to do next comes out. It knows neither Kafka nor the table.
//!
//! | state | event | next |
//! |---|---|---|
//! | standby | the lock is ours | fencing: become the only producer |
//! | fencing | done | reading: commit a barrier, read the receipts up to it |
//! | reading | done | clearing: delete what the last receipt names |
//! | clearing | done | open: rows may come |
//! | open | rows | sending: begin, send, the receipt last, await all reports |
//! | sending | done | committing |
//! | sending | refused: a report or a send failed | aborting |
//! | committing | done | open; what was committed is deleted |
//! | committing | again | committing, crookedly |
//! | committing crookedly | done | deposed: only reading tells whether the broker has written it down |
//! | aborting | whatever | deposed: the next transaction of this producer would fail |
//! | any | again | the same once more |
//! | any | lost: fatal, fenced, or an outcome that is not known | deposed |
//! | deposed | the lock is ours | fencing, with a new producer and nothing in memory |

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The leader's lock is ours, as its session has just shown.
    Led,
    /// What was asked for is done.
    Done,
    /// It could not be done now, and may be repeated.
    Again,
    /// There are rows to send.
    Rows,
    /// The open transaction cannot be committed.
    Refused,
    /// The producer is of no more use, or nobody knows what became of the transaction.
    Lost,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Shut out every earlier producer.
    Fence,
    /// Commit a barrier and read the last receipt before it.
    Read,
    /// Delete the rows that it names.
    Clear,
    /// Wait for rows.
    Await,
    /// Begin a transaction, send rows and their receipt, and wait for all reports.
    Send,
    /// Commit it.
    Commit,
    /// Have the rows of the transaction deleted, and wait for more.
    Delete,
    /// Abort it.
    Abort,
    /// Drop the producer and everything in memory, and show that the lock is still ours.
    Renew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Standby,
    Fencing,
    Reading,
    Clearing,
    Open,
    Sending,
    Committing,
    /// The answer to a commit was late: what the broker says now may not be all it did.
    Crooked,
    Aborting,
    Deposed,
}

/// Where one leader stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Once {
    state: State,
}

impl Once {
    /// Nothing is ours yet.
    pub(crate) fn standby() -> Self {
        Self {
            state: State::Standby,
        }
    }

    /// Takes in what happened and says what to do next.
    pub(crate) fn on(&mut self, event: Event) -> Action {
        let (state, action) = self.next(event);
        self.state = state;
        action
    }

    fn next(&self, event: Event) -> (State, Action) {
        match (self.state, event) {
            (State::Standby | State::Deposed, Event::Led) => (State::Fencing, Action::Fence),
            (State::Fencing, Event::Done) => (State::Reading, Action::Read),
            (State::Reading, Event::Done) => (State::Clearing, Action::Clear),
            (State::Clearing, Event::Done) => (State::Open, Action::Await),
            (State::Open, Event::Rows) => (State::Sending, Action::Send),
            (State::Sending, Event::Done) => (State::Committing, Action::Commit),
            (State::Sending, Event::Refused) => (State::Aborting, Action::Abort),
            (State::Committing, Event::Done) => (State::Open, Action::Delete),
            (State::Committing | State::Crooked, Event::Again) => (State::Crooked, Action::Commit),
            (State::Fencing, Event::Again) => (State::Fencing, Action::Fence),
            (State::Reading, Event::Again) => (State::Reading, Action::Read),
            (State::Clearing, Event::Again) => (State::Clearing, Action::Clear),
            // Whatever else happens: only what Kafka and the table say together is known.
            _ => (State::Deposed, Action::Renew),
        }
    }
}

#[cfg(test)]
#[path = "once_test.rs"]
mod tests;
