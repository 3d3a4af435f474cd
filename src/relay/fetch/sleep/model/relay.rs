//! The position of the driver of `Sleeper`, and what may come next. Nothing interrupts a step.

use super::super::{Hints, SleepEvent, Sleeper};
use super::{Bell, Mutant, State};

/// The position of the driver. Between two of these it does nothing that others can see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    Off,
    /// New sessions: LISTEN comes first.
    Listen,
    /// The same sessions, a new beginning: the wake lock is released first.
    Restart,
    /// The fetch that follows answers the rings so far.
    Consume {
        release: bool,
    },
    /// The snapshot of a fetch is due, and with `release` the wake lock's release before or after.
    Look {
        release: bool,
    },
    /// The fetch of a `WakeUp` is over, and the wake lock is still to be released.
    Release {
        complete: bool,
    },
    TryLock,
    Pause,
    /// The request for the wake lock is to be sent.
    Request,
    Wait,
    Sleep,
    /// Only in a mutant: the last fetch is done before the wake lock is asked for.
    LookEarly,
    /// Only in a mutant: something comes between the last fetch and sleep.
    FallAsleep,
}

/// The state of a waiting request for the wake lock in the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Request {
    #[default]
    None,
    Queued,
    /// The relay has not noticed yet.
    Granted,
    /// Withdrawn by the server. The relay has not noticed yet.
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    pub(super) sleeper: Sleeper,
    pub(super) step: Step,
    /// LISTEN is committed and its session alive.
    pub(super) listening: bool,
    /// The session that holds the wake lock is alive.
    pub(super) has_lock_session: bool,
    /// Received and not consumed.
    pub(super) rings: bool,
    pub(super) request: Request,
    /// A session or the leadership is lost, and the relay has not noticed yet.
    pub(super) lost: bool,
}

impl Relay {
    pub(super) fn off() -> Self {
        Self {
            sleeper: Sleeper::begin().0,
            step: Step::Off,
            listening: false,
            has_lock_session: false,
            rings: false,
            request: Request::None,
            lost: false,
        }
    }
}

/// What a fetch returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchOutcome {
    /// Every visible row is known now.
    All,
    /// The same, but the batch was full: there might have been more.
    Full,
    /// A limit left the rows of all other writers behind.
    Only(usize),
    /// The last fetch before sleep does not wait for room.
    NoRoom,
}

/// What the relay does or learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Listen,
    Consume,
    Look(FetchOutcome),
    Release,
    TryLock,
    Pause,
    /// A ring ends a rest.
    Hear,
    Request,
    /// How the waiting request ended.
    Learn,
    Notice,
    /// Only in mutants.
    FallAsleep,
}

const fn hints(number: u8) -> Hints {
    Hints {
        stay_awake: number & 1 != 0,
        block_on_lock: number & 2 != 0,
        keep_lock: number & 4 != 0,
    }
}

const CALM: Hints = hints(0);
const ALL_HINTS: [Hints; 8] = [
    CALM,
    hints(1),
    hints(2),
    hints(3),
    hints(4),
    hints(5),
    hints(6),
    hints(7),
];

impl Bell {
    /// What relay `r` may do next. Of hints with the same result, only the first are tried.
    pub(super) fn turns(&self, state: &State, r: usize, mut may: impl FnMut(Turn, Hints)) {
        let relay = &state.relays[r];
        let mut decide = |turn, event| {
            let outcome = |hints| {
                let mut sleeper = relay.sleeper.clone();
                let action = sleeper.on(event, hints);
                (sleeper, action)
            };
            for (at, hints) in ALL_HINTS.iter().enumerate() {
                let mut earlier = ALL_HINTS[..at].iter();
                let is_new = earlier.all(|it| outcome(*it) != outcome(*hints));
                if is_new || self.mutant.is_some() {
                    may(turn, *hints);
                }
            }
        };
        match relay.step {
            Step::Off => return,
            Step::Listen => may(Turn::Listen, CALM),
            Step::Restart if relay.request == Request::Queued || !relay.has_lock_session => {}
            Step::Restart => may(Turn::Release, CALM),
            Step::Consume { .. } => may(Turn::Consume, CALM),
            Step::Look { release: false } => self.outcomes(state, r, |fetched| {
                let complete = self.is_complete(fetched);
                decide(Turn::Look(fetched), SleepEvent::Fetched { complete });
            }),
            Step::Look { release: true } => {
                self.outcomes(state, r, |fetched| may(Turn::Look(fetched), CALM));
                if relay.has_lock_session {
                    may(Turn::Release, CALM);
                }
            }
            Step::Release { complete } if relay.has_lock_session => {
                decide(Turn::Release, SleepEvent::Fetched { complete });
            }
            Step::TryLock if relay.has_lock_session => {
                decide(Turn::TryLock, self.try_lock(&mut state.clone(), r));
            }
            Step::Pause => {
                decide(Turn::Pause, SleepEvent::Paused);
                if relay.rings {
                    decide(Turn::Hear, SleepEvent::Rung);
                }
            }
            Step::Request if relay.has_lock_session => may(Turn::Request, CALM),
            Step::Wait => {
                match relay.request {
                    Request::Granted => decide(Turn::Learn, SleepEvent::Granted),
                    Request::TimedOut => decide(Turn::Learn, SleepEvent::Refused),
                    Request::Queued | Request::None => {}
                }
                if relay.rings {
                    decide(Turn::Hear, SleepEvent::Rung);
                }
            }
            Step::Sleep if relay.rings => decide(Turn::Hear, SleepEvent::Rung),
            Step::LookEarly => may(Turn::Look(FetchOutcome::All), CALM),
            Step::FallAsleep => may(Turn::FallAsleep, CALM),
            // Without its session it cannot continue, and will notice. While asleep it does
            // nothing.
            Step::Release { .. } | Step::TryLock | Step::Request | Step::Sleep => {}
        }
        if relay.lost && !self.is(Mutant::LossIsNotNoticed) {
            may(Turn::Notice, CALM);
        }
    }

    fn outcomes(&self, state: &State, r: usize, mut may: impl FnMut(FetchOutcome)) {
        may(FetchOutcome::All);
        if state.relays[r].sleeper.is_settling() {
            may(FetchOutcome::NoRoom);
        }
        if r != state.leader {
            // What a deposed relay knows does not matter: its batches may always be full.
            may(FetchOutcome::Full);
            return;
        }
        let unknown = (0..state.writers.len()).filter(|w| state.is_unknown(*w));
        let count = unknown.clone().count();
        if count > 0 {
            may(FetchOutcome::Full);
        }
        if count > 1 {
            unknown.for_each(|w| may(FetchOutcome::Only(w)));
        }
    }

    pub(super) fn is_complete(&self, fetched: FetchOutcome) -> bool {
        fetched == FetchOutcome::All || self.is(Mutant::LimitTakenAsComplete)
    }
}
