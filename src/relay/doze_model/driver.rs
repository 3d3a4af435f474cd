//! The relay's side: what each turn of the driver does.

use super::super::{Action, Doze, Event, Mood};
use super::key::Owner;
use super::relay::{Catch, Relay, Request, Step, Turn};
use super::world::Writer;
use super::{Bell, Mutant, State};

impl Bell {
    pub(super) fn turn(&self, state: &mut State, r: usize, turn: Turn, mood: Mood) {
        let relay = &mut state.relays[r];
        match turn {
            Turn::Listen => {
                relay.listening = true;
                if self.is(Mutant::ListensAfterTheLastFetch) {
                    relay.step = Step::Sleep;
                } else {
                    self.begin(state, r);
                }
            }
            Turn::Consume => {
                relay.rings = false;
                let release = relay.step == Step::Consume { release: true };
                relay.step = Step::Look { release };
            }
            Turn::Look(catch) => self.look(state, r, catch, mood),
            Turn::Release => self.release(state, r, mood),
            Turn::TryLock => {
                let event = self.try_lock(state, r);
                self.report(state, r, event, mood);
            }
            Turn::Pause => self.report(state, r, Event::Paused, mood),
            Turn::Hear => {
                relay.rings = false;
                self.report(state, r, Event::Rung, mood);
            }
            Turn::Request => {
                relay.step = Step::Wait;
                state.request(r);
            }
            Turn::Learn => {
                let request = std::mem::take(&mut relay.request);
                let missed = self.is(Mutant::GrantAtTheTimeoutIsMissed);
                let event = match request {
                    Request::Granted if !missed => Event::Granted,
                    _ => Event::Refused,
                };
                self.report(state, r, event, mood);
            }
            Turn::Notice if r == state.leader => self.start(state, r),
            Turn::Notice => state.stop(r),
            Turn::FallAsleep => {
                relay.rings = false;
                relay.step = Step::Sleep;
            }
        }
    }

    /// The snapshot of a fetch, and what it brings.
    fn look(&self, state: &mut State, r: usize, catch: Catch, mood: Mood) {
        if r == state.leader {
            state.learn_rows(catch);
        }
        let complete = self.is_complete(catch);
        match state.relays[r].step {
            Step::Look { release: true } => state.relays[r].step = Step::Release { complete },
            Step::LookEarly => state.relays[r].step = Step::TryLock,
            _ => self.report(state, r, Event::Fetched { complete }, mood),
        }
    }

    /// Gives K back: at a new beginning, or on waking up, after the snapshot or before it.
    fn release(&self, state: &mut State, r: usize, mood: Mood) {
        let step = state.relays[r].step;
        let keeps = match step {
            Step::Restart => self.is(Mutant::KeepsKOverABeginning),
            _ => self.is(Mutant::KeepsKAwake),
        };
        if !keeps {
            state.unlock(Owner::Relay(r));
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

    pub(super) fn try_lock(&self, state: &mut State, r: usize) -> Event {
        if self.is(Mutant::SleepsWithoutK) || state.try_lock(Owner::Relay(r)) {
            Event::Granted
        } else {
            Event::Refused
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
