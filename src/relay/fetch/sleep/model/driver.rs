//! The relay's side: what each turn of the driver does.

use super::super::{Hints, SleepAction, SleepEvent, Sleeper};
use super::relay::{FetchOutcome, Relay, Request, Step, Turn};
use super::wake_lock::Owner;
use super::world::Writer;
use super::{Bell, Mutant, State};

impl Bell {
    pub(super) fn turn(&self, state: &mut State, r: usize, turn: Turn, hints: Hints) {
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
            Turn::Look(fetched) => self.look(state, r, fetched, hints),
            Turn::Release => self.release(state, r, hints),
            Turn::TryLock => {
                let event = self.try_lock(state, r);
                self.report(state, r, event, hints);
            }
            Turn::Pause => self.report(state, r, SleepEvent::Paused, hints),
            Turn::Hear => {
                relay.rings = false;
                self.report(state, r, SleepEvent::Rung, hints);
            }
            Turn::Request => {
                relay.step = Step::Wait;
                state.request(r);
            }
            Turn::Learn => {
                let request = std::mem::take(&mut relay.request);
                let missed = self.is(Mutant::GrantAtTheTimeoutIsMissed);
                let event = match request {
                    Request::Granted if !missed => SleepEvent::Granted,
                    _ => SleepEvent::Refused,
                };
                self.report(state, r, event, hints);
            }
            Turn::Notice if r == state.leader => self.start(state, r),
            Turn::Notice => state.stop(r),
            Turn::FallAsleep => {
                relay.rings = false;
                relay.step = Step::Sleep;
            }
        }
    }

    /// Takes the snapshot of a fetch, and what it brings.
    fn look(&self, state: &mut State, r: usize, fetched: FetchOutcome, hints: Hints) {
        if r == state.leader {
            state.learn_rows(fetched);
        }
        let complete = self.is_complete(fetched);
        match state.relays[r].step {
            Step::Look { release: true } => state.relays[r].step = Step::Release { complete },
            Step::LookEarly => state.relays[r].step = Step::TryLock,
            _ => self.report(state, r, SleepEvent::Fetched { complete }, hints),
        }
    }

    /// Releases the wake lock: at a new beginning, or on waking up before or after the snapshot.
    fn release(&self, state: &mut State, r: usize, hints: Hints) {
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
                self.report(state, r, SleepEvent::Fetched { complete }, hints);
            }
            _ if self.is(Mutant::WaitsBetweenReleaseAndFetch) => {
                state.relays[r].step = Step::Sleep;
            }
            _ => state.relays[r].step = Step::Look { release: false },
        }
    }

    pub(super) fn try_lock(&self, state: &mut State, r: usize) -> SleepEvent {
        if self.is(Mutant::SleepsWithoutK) || state.try_lock(Owner::Relay(r)) {
            SleepEvent::Granted
        } else {
            SleepEvent::Refused
        }
    }

    /// Passes an event to `Sleeper` and takes up its action.
    fn report(&self, state: &mut State, r: usize, event: SleepEvent, hints: Hints) {
        let relay = &mut state.relays[r];
        let action = relay.sleeper.on(event, hints);
        let skips = match (relay.sleeper.is_settling(), event) {
            (true, SleepEvent::Rung) => {
                if self.is(Mutant::AnswersWithoutK) {
                    state.unlock(Owner::Relay(r));
                }
                self.is(Mutant::SleepsOnThroughARing)
            }
            (true, _) => self.is(Mutant::NoLastFetch) || self.is(Mutant::SnapshotOlderThanTheGrant),
            (false, event) => {
                self.is(Mutant::WaitsAgainWithoutAFetch) && event == SleepEvent::Refused
            }
        };
        if skips && action == SleepAction::Fetch {
            self.report(state, r, SleepEvent::Fetched { complete: true }, hints);
        } else {
            self.enter(state, r, action);
        }
    }

    fn enter(&self, state: &mut State, r: usize, action: SleepAction) {
        let relay = &mut state.relays[r];
        let asked = relay.request != Request::None;
        assert!(
            !asked || matches!(action, SleepAction::Fetch | SleepAction::WaitForLock),
            "{action:?} while a request waits for K"
        );
        relay.step = match action {
            SleepAction::Fetch => Step::Consume { release: false },
            SleepAction::WakeUp if self.is(Mutant::WaitsBetweenReleaseAndFetch) => {
                Step::Look { release: true }
            }
            SleepAction::WakeUp => Step::Consume { release: true },
            SleepAction::TryLock if self.is(Mutant::SnapshotOlderThanTheGrant) => Step::LookEarly,
            SleepAction::TryLock => Step::TryLock,
            SleepAction::Pause => Step::Pause,
            SleepAction::WaitForLock if asked => Step::Wait,
            SleepAction::WaitForLock => Step::Request,
            SleepAction::Sleep if self.is(Mutant::ListensAfterTheLastFetch) && !relay.listening => {
                Step::Listen
            }
            SleepAction::Sleep if self.is(Mutant::DropsARingOnFallingAsleep) => Step::FallAsleep,
            SleepAction::Sleep => Step::Sleep,
        };
    }

    fn begin(&self, state: &mut State, r: usize) {
        let (sleeper, action) = Sleeper::begin();
        state.relays[r].sleeper = sleeper;
        state.relays[r].request = Request::None;
        self.enter(state, r, action);
    }

    /// Starts a relay without memory. Its old sessions end when the server notices.
    pub(super) fn start(&self, state: &mut State, r: usize) {
        state.stop(r);
        state.relays[r].has_lock_session = true;
        state.relays[r].step = Step::Listen;
        if self.is(Mutant::ListensAfterTheLastFetch) {
            self.begin(state, r);
        }
    }

    /// Fails the rows in flight, which have to be fetched again.
    pub(super) fn fail_to_publish(&self, state: &mut State) {
        state.forget_rows();
        if !self.is(Mutant::FailedPublishTakenAsEmpty) {
            state.relays[state.leader].step = Step::Restart;
        }
    }
}

impl State {
    /// Whether the row of writer `w` is visible and unknown to the leader.
    pub(super) fn is_unknown(&self, w: usize) -> bool {
        let writer = &self.writers[w];
        writer.is_visible() && !writer.known
    }

    fn learn_rows(&mut self, fetched: FetchOutcome) {
        for (w, writer) in self.writers.iter_mut().enumerate() {
            let taken = match fetched {
                FetchOutcome::All | FetchOutcome::Full => true,
                FetchOutcome::Only(only) => only == w,
                FetchOutcome::NoRoom => false,
            };
            writer.known |= taken && writer.is_visible();
        }
    }

    fn forget_rows(&mut self) {
        self.writers.iter_mut().for_each(|w| w.known = false);
    }

    /// Ends the session that listens; notifications on their way to it are lost.
    pub(super) fn stop_listening(&mut self, r: usize) {
        self.relays[r].listening = false;
        self.writers.iter_mut().for_each(|w| w.rings &= !(1 << r));
    }

    /// Ends the relay, with all that it knew.
    fn stop(&mut self, r: usize) {
        if r == self.leader {
            self.forget_rows();
        }
        self.stop_listening(r);
        self.orphan(Owner::Relay(r));
        self.relays[r] = Relay::off();
    }

    /// Leaves out what does not matter, so that equal states meet.
    pub(super) fn tidy(&mut self) {
        for relay in &mut self.relays {
            if matches!(relay.step, Step::Consume { .. } | Step::Restart) {
                // All of them are consumed before they are read.
                relay.rings = false;
            }
        }
        self.writers.iter_mut().for_each(Writer::tidy);
        self.writers.sort();
    }
}
