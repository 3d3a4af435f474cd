//! The relay's side: where a driver stands that does what `Doze` says, and what may come next. A step is as much as others cannot come between.

use super::super::{Doze, Event, Mood};
use super::{Bell, Mutant, State};

/// Where the driver stands. What it does by itself between two of these touches nothing that others see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// There is no relay.
    #[default]
    Off,
    /// New sessions: LISTEN comes first.
    Listen,
    /// The same sessions, a new beginning: K is given back first.
    Restart,
    /// The rings that were heard so far are taken as answered by the fetch that follows.
    Consume {
        release: bool,
    },
    /// The snapshot of a fetch is to be taken. `release`: K is to be given back, before or after.
    Look {
        release: bool,
    },
    /// The fetch of a `WakeUp` is over, K is still to be given back.
    Release {
        complete: bool,
    },
    TryLock,
    Pause,
    /// The request for K is to be sent.
    Request,
    /// The request is sent.
    Wait,
    Sleep,
    /// Only in a mutant: the last fetch is done before K is asked for.
    LookEarly,
    /// Only in a mutant: something comes between the last fetch and sleep.
    FallAsleep,
}

/// A waiting request for K, as the server has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Request {
    #[default]
    None,
    Queued,
    /// The relay does not know it yet.
    Granted,
    /// Withdrawn by the server. The relay does not know it yet.
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    pub(super) doze: Doze,
    pub(super) step: Step,
    /// LISTEN is committed and its session alive.
    pub(super) listening: bool,
    /// The session that holds K is alive.
    pub(super) keyed: bool,
    /// Heard and not consumed.
    pub(super) rings: bool,
    pub(super) request: Request,
    /// A session is lost, or its leadership; it does not know yet.
    pub(super) lost: bool,
}

impl Relay {
    pub(super) fn off() -> Self {
        Self {
            doze: Doze::begin().0,
            step: Step::Off,
            listening: false,
            keyed: false,
            rings: false,
            request: Request::None,
            lost: false,
        }
    }
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Catch {
    /// Every visible row is known now.
    All,
    /// The same, but the batch was just full: there might have been more.
    Full,
    /// A limit left the rows of all other writers behind.
    Only(usize),
    /// The last fetch before sleep does not wait for room.
    NoRoom,
}

/// What the relay does, or learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Listen,
    Consume,
    Look(Catch),
    /// Gives K back.
    Release,
    TryLock,
    /// The pause is over.
    Pause,
    /// A ring ends what it rested in.
    Hear,
    Request,
    /// How the waiting request ended.
    Learn,
    /// Something was lost.
    Notice,
    /// Only in mutants.
    FallAsleep,
}

const CALM: Mood = Mood {
    linger: false,
    weary: false,
};

/// All moods, the calm one first.
const MOODS: [Mood; 4] = [
    CALM,
    Mood {
        linger: false,
        weary: true,
    },
    Mood {
        linger: true,
        weary: false,
    },
    Mood {
        linger: true,
        weary: true,
    },
];

impl Bell {
    /// What relay `r` may do next. Of moods that lead to the same, only the first is told.
    pub(super) fn turns(&self, state: &State, r: usize, mut may: impl FnMut(Turn, Mood)) {
        let relay = &state.relays[r];
        let mut decide = |turn, event| {
            let outcome = |mood| {
                let mut doze = relay.doze.clone();
                let action = doze.on(event, mood);
                (doze, action)
            };
            for (at, mood) in MOODS.iter().enumerate() {
                let is_new = MOODS[..at].iter().all(|m| outcome(*m) != outcome(*mood));
                if is_new || self.mutant.is_some() {
                    may(turn, *mood);
                }
            }
        };
        match relay.step {
            Step::Off => return,
            Step::Listen => may(Turn::Listen, CALM),
            Step::Restart if relay.request == Request::Queued || !relay.keyed => {}
            Step::Restart => may(Turn::Release, CALM),
            Step::Consume { .. } => may(Turn::Consume, CALM),
            Step::Look { release: false } => self.catches(state, r, |catch| {
                decide(
                    Turn::Look(catch),
                    Event::Fetched {
                        complete: self.is_complete(catch),
                    },
                );
            }),
            Step::Look { release: true } => {
                self.catches(state, r, |catch| may(Turn::Look(catch), CALM));
                if relay.keyed {
                    may(Turn::Release, CALM);
                }
            }
            Step::Release { complete } if relay.keyed => {
                decide(Turn::Release, Event::Fetched { complete });
            }
            Step::TryLock if relay.keyed => {
                decide(Turn::TryLock, self.try_lock(&mut state.clone(), r));
            }
            Step::Pause => {
                decide(Turn::Pause, Event::Paused);
                if relay.rings {
                    decide(Turn::Hear, Event::Rung);
                }
            }
            Step::Request if relay.keyed => may(Turn::Request, CALM),
            Step::Wait => {
                match relay.request {
                    Request::Granted => decide(Turn::Learn, Event::Granted),
                    Request::TimedOut => decide(Turn::Learn, Event::Refused),
                    Request::Queued | Request::None => {}
                }
                if relay.rings {
                    decide(Turn::Hear, Event::Rung);
                }
            }
            Step::Sleep if relay.rings => decide(Turn::Hear, Event::Rung),
            Step::LookEarly => may(Turn::Look(Catch::All), CALM),
            Step::FallAsleep => may(Turn::FallAsleep, CALM),
            // Without its session it cannot go on, and will notice; asleep it does nothing.
            Step::Release { .. } | Step::TryLock | Step::Request | Step::Sleep => {}
        }
        if relay.lost && !self.is(Mutant::LossIsNotNoticed) {
            may(Turn::Notice, CALM);
        }
    }

    fn catches(&self, state: &State, r: usize, mut may: impl FnMut(Catch)) {
        may(Catch::All);
        if state.relays[r].doze.is_settling() {
            may(Catch::NoRoom);
        }
        if r != state.leader {
            // What a deposed relay knows is of no interest: its batches may always be full.
            may(Catch::Full);
            return;
        }
        let unknown = |w: &usize| state.is_unknown(*w);
        let count = (0..state.writers.len()).filter(unknown).count();
        if count > 0 {
            may(Catch::Full);
        }
        if count > 1 {
            (0..state.writers.len())
                .filter(unknown)
                .for_each(|w| may(Catch::Only(w)));
        }
    }

    pub(super) fn is_complete(&self, catch: Catch) -> bool {
        catch == Catch::All || self.is(Mutant::LimitTakenAsComplete)
    }
}
