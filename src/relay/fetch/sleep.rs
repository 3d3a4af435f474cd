//! When the relay sleeps and when it wakes.
//!
//! A writer asks for the outbox's wake lock, an advisory lock, shared and without waiting. If it is
//! granted, the relay is awake and will fetch, so the writer stays silent and holds the lock until
//! the end of its transaction. If it is refused, the relay sleeps and holds the lock, so the writer
//! rings (`NOTIFY`). This is the relay's half, as a machine that knows neither clock nor socket:
//! one event goes in, one action comes out.
//!
//! | phase | wake lock | what comes next |
//! |---|---|---|
//! | awake | - | fetch; pause while rows come often; otherwise ask for the lock |
//! | asking | asked for | granted: settling; refused: awake, or waiting after many refusals |
//! | settling | held | one last fetch, begun after the grant; complete: asleep, otherwise awake |
//! | asleep | held | nothing until a ring: settling if these are rare, else release it and fetch |
//! | waiting | requested | rings are answered with a fetch; granted: settling |
//!
//! The rule behind it: before every sleep comes the lock, and after the lock a complete fetch. A
//! silent writer held the lock until its row was visible, so that fetch sees the row. A writer that
//! comes later is refused and rings. It rings as well while a ring is answered with the lock held:
//! the relay that goes back to sleep has a fetch behind it that began after the ring.

use crate::relay::monitor::BellState;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SleepAction {
    /// Fetch once. The fetch answers the rings before its beginning; a later ring is kept.
    Fetch,
    /// Release the lock and fetch, in any order or at the same time.
    WakeUp,
    /// Ask for the lock without waiting.
    TryLock,
    /// Do nothing for a moment; a ring ends it.
    Pause,
    /// Ask for the lock and wait for a bounded time, or go on waiting after a ring was answered.
    /// While the request waits, new writers are refused and ring.
    WaitForLock,
    Sleep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SleepEvent {
    /// Complete: every row in the snapshot is published, in flight, or waits for a timer.
    Fetched {
        complete: bool,
    },
    Granted,
    Refused,
    Paused,
    Rung,
}

/// What the clock says. Hints decide what is cheap and never what is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hints {
    /// Rows come so often that sleep would cost the writers.
    pub(crate) stay_awake: bool,
    /// The lock was refused for so long that waiting for it is cheaper than asking again.
    pub(crate) block_on_lock: bool,
    /// Rings are so rare that one is answered with the lock held: hardly another writer commits
    /// meanwhile and would ring.
    pub(crate) keep_lock: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SleepPhase {
    Awake,
    Asking,
    Settling,
    Asleep,
    Waiting,
    /// A wait ended without the lock: one fetch comes before the next wait.
    Waited,
}

/// The relay's half of the protocol with the writers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sleeper {
    state: SleepPhase,
}

impl Sleeper {
    /// Begins awake: the relay listens, does not hold the lock, and fetches.
    pub(crate) fn begin() -> (Self, SleepAction) {
        let state = SleepPhase::Awake;
        (Self { state }, SleepAction::Fetch)
    }

    /// Whether the next fetch is the last before sleep. The lock is held: it must not wait.
    pub(crate) fn is_settling(&self) -> bool {
        self.state == SleepPhase::Settling
    }

    /// Whether the relay sleeps, so that a writer that commits now rings.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state == SleepPhase::Asleep
    }

    pub(crate) fn bell(&self) -> BellState {
        match self.state {
            SleepPhase::Awake | SleepPhase::Asking | SleepPhase::Settling => BellState::Awake,
            SleepPhase::Asleep => BellState::Asleep,
            SleepPhase::Waiting | SleepPhase::Waited => BellState::Waiting,
        }
    }

    pub(crate) fn on(&mut self, event: SleepEvent, hints: Hints) -> SleepAction {
        use {SleepAction as Action, SleepEvent as Event, SleepPhase as Phase};
        let action;
        (self.state, action) = match (self.state, event) {
            (Phase::Awake, Event::Fetched { complete: true }) if hints.stay_awake => {
                (Phase::Awake, Action::Pause)
            }
            (Phase::Awake, Event::Fetched { complete: true }) => (Phase::Asking, Action::TryLock),
            (Phase::Asking | Phase::Waiting, Event::Granted) => (Phase::Settling, Action::Fetch),
            (Phase::Asking, Event::Refused) if hints.block_on_lock => {
                (Phase::Waiting, Action::WaitForLock)
            }
            (Phase::Asking, Event::Refused) => (Phase::Awake, Action::Pause),
            (Phase::Settling, Event::Fetched { complete: true }) => (Phase::Asleep, Action::Sleep),
            (Phase::Asleep, Event::Rung) if hints.keep_lock => (Phase::Settling, Action::Fetch),
            // While the lock is held, writers ring: a backlog is for a relay that is awake.
            (Phase::Settling, Event::Fetched { complete: false })
            | (Phase::Asleep, Event::Rung) => (Phase::Awake, Action::WakeUp),
            (Phase::Waiting, Event::Fetched { complete: true }) => {
                (Phase::Waiting, Action::WaitForLock)
            }
            // Before the next request, a writer may have stayed silent.
            (Phase::Waiting, Event::Refused) => (Phase::Waited, Action::Fetch),
            (Phase::Waited, Event::Fetched { complete: true }) if hints.block_on_lock => {
                (Phase::Waiting, Action::WaitForLock)
            }
            (Phase::Waited, Event::Fetched { complete: true }) => (Phase::Awake, Action::Pause),
            (state @ (Phase::Awake | Phase::Waiting | Phase::Waited), _) => (state, Action::Fetch),
            // Nothing else can happen in the others. If it did: release the lock and fetch, which
            // is right in every phase.
            (Phase::Asking | Phase::Settling | Phase::Asleep, _) => (Phase::Awake, Action::WakeUp),
        };
        action
    }
}

#[cfg(test)]
mod model;
