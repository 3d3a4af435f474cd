//! The relay's side: a driver that does what `Doze` says, in as many steps as writers can come between.

use super::super::{Action, Doze, Event, Mood};
use super::world::{Owner, Writer};
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
                let granted =
                    self.is(Mutant::SleepsWithoutK) || state.clone().try_lock(Owner::Relay(r));
                let event = if granted {
                    Event::Granted
                } else {
                    Event::Refused
                };
                decide(Turn::TryLock, event);
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

    fn is_complete(&self, catch: Catch) -> bool {
        catch == Catch::All || self.is(Mutant::LimitTakenAsComplete)
    }

    pub(super) fn turn(&self, state: &mut State, r: usize, turn: Turn, mood: Mood) {
        let me = Owner::Relay(r);
        let step = state.relays[r].step;
        match (turn, step) {
            (Turn::Listen, _) => {
                state.relays[r].listening = true;
                if self.is(Mutant::ListensAfterTheLastFetch) {
                    state.relays[r].step = Step::Sleep;
                } else {
                    self.begin(state, r);
                }
            }
            (Turn::Consume, Step::Consume { release }) => {
                state.relays[r].rings = false;
                state.relays[r].step = Step::Look { release };
            }
            (Turn::Look(catch), _) => {
                if r == state.leader {
                    state.learn_rows(catch);
                }
                let complete = self.is_complete(catch);
                match step {
                    Step::Look { release: true } => {
                        state.relays[r].step = Step::Release { complete };
                    }
                    Step::LookEarly => state.relays[r].step = Step::TryLock,
                    _ => self.report(state, r, Event::Fetched { complete }, mood),
                }
            }
            (Turn::Release, _) => {
                let keeps = match step {
                    Step::Restart => self.is(Mutant::KeepsKOverABeginning),
                    _ => self.is(Mutant::KeepsKAwake),
                };
                if !keeps {
                    state.unlock(me);
                }
                match step {
                    Step::Restart => self.begin(state, r),
                    Step::Release { complete } => {
                        self.report(state, r, Event::Fetched { complete }, mood);
                    }
                    _ if self.is(Mutant::WaitsBetweenReleaseAndFetch) => {
                        state.relays[r].step = Step::Sleep;
                    }
                    _ => state.relays[r].step = Step::Look { release: false },
                }
            }
            (Turn::TryLock, _) => {
                let granted = self.is(Mutant::SleepsWithoutK) || state.try_lock(me);
                let event = if granted {
                    Event::Granted
                } else {
                    Event::Refused
                };
                self.report(state, r, event, mood);
            }
            (Turn::Pause, _) => self.report(state, r, Event::Paused, mood),
            (Turn::Hear, _) => {
                state.relays[r].rings = false;
                self.report(state, r, Event::Rung, mood);
            }
            (Turn::Request, _) => {
                state.relays[r].step = Step::Wait;
                state.relays[r].request = if state.try_lock(me) {
                    Request::Granted
                } else {
                    state.key.queue.push(me);
                    Request::Queued
                };
            }
            (Turn::Learn, _) => {
                let request = std::mem::take(&mut state.relays[r].request);
                let missed = self.is(Mutant::GrantAtTheTimeoutIsMissed);
                let event = if request == Request::Granted && !missed {
                    Event::Granted
                } else {
                    Event::Refused
                };
                self.report(state, r, event, mood);
            }
            (Turn::Notice, _) if r == state.leader => self.start(state, r),
            (Turn::Notice, _) => state.stop(r),
            (Turn::FallAsleep, _) => {
                state.relays[r].rings = false;
                state.relays[r].step = Step::Sleep;
            }
            (Turn::Consume, _) => unreachable!("{turn:?} at {step:?}"),
        }
    }

    /// Tells `Doze` what happened and goes where it says.
    fn report(&self, state: &mut State, r: usize, event: Event, mood: Mood) {
        let relay = &mut state.relays[r];
        let action = relay.doze.on(event, mood);
        let skipped = match action {
            Action::Fetch if relay.doze.is_settling() => {
                self.is(Mutant::NoLastFetch) || self.is(Mutant::SnapshotOlderThanTheGrant)
            }
            Action::Fetch => self.is(Mutant::WaitsAgainWithoutAFetch) && event == Event::Refused,
            _ => false,
        };
        if skipped {
            self.report(state, r, Event::Fetched { complete: true }, mood);
        } else {
            self.enter(state, r, action);
        }
    }

    fn enter(&self, state: &mut State, r: usize, action: Action) {
        let relay = &mut state.relays[r];
        let asked = relay.request != Request::None;
        assert!(
            !asked || matches!(action, Action::Fetch | Action::WaitForLock),
            "{action:?} while a request waits for K"
        );
        relay.step = match action {
            Action::Fetch => Step::Consume { release: false },
            Action::WakeUp if self.is(Mutant::WaitsBetweenReleaseAndFetch) => {
                Step::Look { release: true }
            }
            Action::WakeUp => Step::Consume { release: true },
            Action::TryLock if self.is(Mutant::SnapshotOlderThanTheGrant) => Step::LookEarly,
            Action::TryLock => Step::TryLock,
            Action::Pause => Step::Pause,
            Action::WaitForLock if asked => Step::Wait,
            Action::WaitForLock => Step::Request,
            Action::Sleep if self.is(Mutant::ListensAfterTheLastFetch) && !relay.listening => {
                Step::Listen
            }
            Action::Sleep if self.is(Mutant::DropsARingOnFallingAsleep) => Step::FallAsleep,
            Action::Sleep => Step::Sleep,
        };
    }

    fn begin(&self, state: &mut State, r: usize) {
        let (doze, action) = Doze::begin();
        state.relays[r].doze = doze;
        state.relays[r].request = Request::None;
        self.enter(state, r, action);
    }

    /// A relay starts with new sessions; what it knew is forgotten, and its old sessions end when the server notices.
    pub(super) fn start(&self, state: &mut State, r: usize) {
        state.stop(r);
        state.relays[r].keyed = true;
        state.relays[r].step = Step::Listen;
        if self.is(Mutant::ListensAfterTheLastFetch) {
            self.begin(state, r);
        }
    }

    /// What was on its way to Kafka is of no use any more, and has to be fetched again.
    pub(super) fn fail_to_publish(&self, state: &mut State) {
        let r = state.leader;
        state.forget_rows();
        if !self.is(Mutant::FailedPublishTakenAsEmpty) {
            state.relays[r].step = Step::Restart;
        }
    }
}

impl State {
    /// Whether the row of writer `w` is visible, and the leader does not know it.
    pub(super) fn is_unknown(&self, w: usize) -> bool {
        let writer = &self.writers[w];
        writer.is_visible() && !writer.known
    }

    fn learn_rows(&mut self, catch: Catch) {
        for (w, writer) in self.writers.iter_mut().enumerate() {
            let taken = match catch {
                Catch::All | Catch::Full => true,
                Catch::Only(only) => only == w,
                Catch::NoRoom => false,
            };
            writer.known |= taken && writer.is_visible();
        }
    }

    fn forget_rows(&mut self) {
        for writer in &mut self.writers {
            writer.known = false;
        }
    }

    /// Nobody hears what is still on its way to this relay.
    pub(super) fn deafen(&mut self, r: usize) {
        self.relays[r].listening = false;
        for writer in &mut self.writers {
            writer.rings &= !(1 << r);
        }
    }

    /// The relay is gone, with all that it knew.
    fn stop(&mut self, r: usize) {
        if r == self.leader {
            self.forget_rows();
        }
        self.deafen(r);
        self.orphan(Owner::Relay(r));
        self.relays[r] = Relay::off();
    }

    /// Leaves out what makes no difference, so that equal states meet.
    pub(super) fn tidy(&mut self) {
        for relay in &mut self.relays {
            if matches!(relay.step, Step::Consume { .. } | Step::Restart) {
                // All of them are consumed before anything looks at them.
                relay.rings = false;
            }
        }
        self.writers.iter_mut().for_each(Writer::tidy);
        self.writers.sort();
    }
}
