//! When the relay sleeps and when it wakes.
//!
//! Whoever inserts asks for the outbox's advisory key K, shared, without waiting. Granted: the relay is awake and will come by, so the
//! writer stays silent and holds K until its end. Refused: the relay sleeps on K, so the writer rings. This is the relay's half, as a machine that knows
//! neither clock nor socket: what happened goes in, what to do next comes out, one thing at a time.
//!
//! | state | K | what comes next |
//! |---|---|---|
//! | awake | - | fetch; pause while rows come often; else ask for K |
//! | asking | asked | granted: settling; refused: awake, or waiting when that went on for long |
//! | settling | held | one last fetch, begun after the grant; complete: asleep, else awake |
//! | asleep | held | nothing, until a ring: give K back and fetch |
//! | waiting | requested | rings are answered with a fetch; granted: settling |
//!
//! The rule behind it: before every sleep comes K, and after K a complete fetch. A writer that was silent held K until its row was visible, so that
//! fetch sees the row; a writer that comes later is refused and rings.

use super::vitals::BellState;

/// What the relay does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Fetch once. Rings heard before the fetch begins are answered by it; one that is heard later is kept.
    Fetch,
    /// Give K back and fetch, in any order or at the same time.
    WakeUp,
    /// Ask for K without waiting.
    TryLock,
    /// Nothing for a moment; a ring ends it.
    Pause,
    /// Ask for K and wait, for a bounded time: begin, or go on after a ring was answered. While the request waits, new writers are refused and ring.
    WaitForLock,
    /// Nothing until a ring.
    Sleep,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A fetch is over. Complete: every row that its snapshot saw is published, under way, or waits with a reason and a timer of its own.
    Fetched {
        /// Whether nothing was left behind by a limit.
        complete: bool,
    },
    /// K is ours.
    Granted,
    /// K is not ours: somebody else holds it.
    Refused,
    /// The moment is over.
    Paused,
    /// A notification.
    Rung,
}

/// What the clock says. It decides what is cheap and never what is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mood {
    /// Rows come so often that to be asleep would cost the writers.
    pub(crate) linger: bool,
    /// K was refused for so long that to wait for it is cheaper than to ask again and again.
    pub(crate) weary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Awake,
    Asking,
    Settling,
    Asleep,
    Waiting,
    /// A wait ended without K: one fetch before the next.
    Waited,
}

/// The relay's half of the bell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Doze {
    state: State,
}

impl Doze {
    /// A relay begins awake: it listens, holds nothing, and fetches.
    pub(crate) fn begin() -> (Self, Action) {
        let state = State::Awake;
        (Self { state }, Action::Fetch)
    }

    /// Whether the fetch that is asked for is the last before sleep: K is held, so it must not wait for anything.
    pub(crate) fn is_settling(&self) -> bool {
        self.state == State::Settling
    }

    /// Whether the relay sleeps: whoever commits now has to ring.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state == State::Asleep
    }

    /// What writers find.
    pub(crate) fn bell(&self) -> BellState {
        match self.state {
            State::Awake | State::Asking | State::Settling => BellState::Awake,
            State::Asleep => BellState::Asleep,
            State::Waiting | State::Waited => BellState::Waiting,
        }
    }

    /// Takes in what happened and says what to do next.
    pub(crate) fn on(&mut self, event: Event, mood: Mood) -> Action {
        let (state, action) = self.next(event, mood);
        self.state = state;
        action
    }

    fn next(&self, event: Event, mood: Mood) -> (State, Action) {
        match (self.state, event) {
            (State::Awake, Event::Fetched { complete: true }) if mood.linger => {
                (State::Awake, Action::Pause)
            }
            (State::Awake, Event::Fetched { complete: true }) => (State::Asking, Action::TryLock),
            (State::Asking | State::Waiting, Event::Granted) => (State::Settling, Action::Fetch),
            (State::Asking, Event::Refused) if mood.weary => (State::Waiting, Action::WaitForLock),
            (State::Asking, Event::Refused) => (State::Awake, Action::Pause),
            (State::Settling, Event::Fetched { complete: true }) => (State::Asleep, Action::Sleep),
            // With K held the writers ring: a backlog is for a relay that is awake.
            (State::Settling, Event::Fetched { complete: false })
            | (State::Asleep, Event::Rung) => (State::Awake, Action::WakeUp),
            (State::Waiting, Event::Fetched { complete: true }) => {
                (State::Waiting, Action::WaitForLock)
            }
            // While the next request was not yet made, a writer may have gone silent.
            (State::Waiting, Event::Refused) => (State::Waited, Action::Fetch),
            (State::Waited, Event::Fetched { complete: true }) if mood.weary => {
                (State::Waiting, Action::WaitForLock)
            }
            (State::Waited, Event::Fetched { complete: true }) => (State::Awake, Action::Pause),
            (state @ (State::Awake | State::Waiting | State::Waited), _) => (state, Action::Fetch),
            // Nothing else can happen in the others. If it did: let go of K and look, which is right in every state.
            (State::Asking | State::Settling | State::Asleep, _) => (State::Awake, Action::WakeUp),
        }
    }
}

#[cfg(test)]
#[path = "doze_model/mod.rs"]
mod model;
