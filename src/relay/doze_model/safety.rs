//! What must hold in every state that can be reached, and what must be reachable, so that the first says something.

use std::time::Instant;

use stateright::{Checker, Model, Property};

use super::{BELL, Bell, Owner, Phase, Request, State, Step};

pub(super) const FORGOTTEN: &str = "asleep, no visible row waits unannounced";
pub(super) const ASLEEP_WITH_KEY: &str = "asleep, the relay holds K";
pub(super) const AWAKE_WITHOUT_KEY: &str = "awake, it does not";
const LOCK: &str = "K is held by one alone or by many shared";

pub(super) fn properties(bell: &Bell) -> Vec<Property<Bell>> {
    let mut properties = vec![
        Property::always(FORGOTTEN, |_, state: &State| !state.forgets()),
        Property::always(ASLEEP_WITH_KEY, |_, state: &State| {
            let holds = |r| state.key.held == Some(Owner::Relay(r));
            (0..2).all(|r| !state.sleeps(r) || holds(r))
        }),
        Property::always(AWAKE_WITHOUT_KEY, |_, state: &State| {
            let holds = |r| state.key.held == Some(Owner::Relay(r));
            (0..2).all(|r| state.relays[r].step != Step::Pause || !holds(r))
        }),
        Property::always(LOCK, |_, state: &State| {
            state.key.held.is_none() || !state.is_shared()
        }),
    ];
    if bell.mutant.is_none() {
        properties.extend(reachable(bell));
    }
    properties
}

/// Situations that the model has to have met.
fn reachable(bell: &Bell) -> Vec<Property<Bell>> {
    let mut reachable: Vec<Property<Bell>> = vec![
        Property::sometimes("all rows known, the relay sleeps", |_, state: &State| {
            let done = |w: &super::Writer| w.phase == Phase::Committed && w.known;
            state.sleeps(state.leader) && state.writers.iter().all(done)
        }),
        Property::sometimes("a sleeping relay is rung", |_, state: &State| {
            state.sleeps(state.leader) && state.relays[state.leader].rings
        }),
        Property::sometimes(
            "a silent writer's row is visible, and K still held",
            |_, state: &State| {
                let silent = |w: &super::Writer| w.is_visible() && w.level.key;
                state.writers.iter().any(silent)
            },
        ),
        Property::sometimes(
            "the grant came while a ring is answered",
            |_, state: &State| {
                let granted =
                    |r: &super::Relay| r.request == Request::Granted && r.step != Step::Wait;
                state.relays.iter().any(granted)
            },
        ),
        Property::sometimes(
            "the request is withdrawn while a ring is answered",
            |_, state: &State| {
                let late =
                    |r: &super::Relay| r.request == Request::TimedOut && r.step != Step::Wait;
                state.relays.iter().any(late)
            },
        ),
    ];
    if bell.prepared {
        reachable.push(Property::sometimes(
            "a prepared transaction keeps K",
            |_, state: &State| {
                let keeps = |w: &super::Writer| w.phase == Phase::Prepared && w.level.key;
                state.writers.iter().any(keeps)
            },
        ));
        reachable.push(Property::sometimes(
            "a refused silent row waits",
            |_, state: &State| {
                let waits = |w: usize| state.writers[w].unannounced && state.is_unknown(w);
                state.sleeps(state.leader) && (0..state.writers.len()).any(waits)
            },
        ));
    }
    if bell.takeover {
        reachable.push(Property::sometimes(
            "a deposed relay sleeps, the leader waits for K",
            |_, state: &State| {
                let leads = &state.relays[state.leader];
                state.relays[1 - state.leader].step == Step::Sleep
                    && leads.request == Request::Queued
            },
        ));
    }
    if bell.faults > 0 {
        reachable.push(Property::sometimes(
            "K is left with a session whose relay is gone",
            |_, state: &State| state.key.held == Some(Owner::Gone),
        ));
    }
    reachable
}

impl State {
    /// Whether relay `r` rests until a ring, with all its sessions.
    pub(super) fn sleeps(&self, r: usize) -> bool {
        let relay = &self.relays[r];
        relay.step == Step::Sleep && relay.keyed && relay.listening
    }

    /// Whether there is a row that the leader has to know and does not. Rows of silent writers that were refused are not promised: they wait for
    /// the sweep, or for whatever wakes the relay.
    pub(super) fn is_owing(&self) -> bool {
        (0..self.writers.len()).any(|w| self.is_unknown(w) && !self.writers[w].unannounced)
    }

    /// Whether a ring is heard or on its way to the leader.
    pub(super) fn is_rung(&self) -> bool {
        let bit = 1 << self.leader;
        self.relays[self.leader].rings || self.writers.iter().any(|w| w.rings & bit != 0)
    }

    fn forgets(&self) -> bool {
        self.sleeps(self.leader) && self.is_owing() && !self.is_rung()
    }
}

fn check(name: &str, bell: Bell) {
    let begun = Instant::now();
    let checker = bell.checker().spawn_bfs().join();
    println!(
        "safety, {name}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

#[test]
fn two_writers_with_everything() {
    check("two writers with everything", BELL);
}

#[test]
fn two_writers_with_everything_and_a_fault() {
    let bell = Bell { faults: 1, ..BELL };
    check("two writers with everything, one fault", bell);
}

#[test]
fn two_writers_and_two_relays() {
    let bell = Bell {
        statements: 2,
        savepoints: false,
        faults: 1,
        takeover: true,
        ..BELL
    };
    check("two writers of two statements, takeover or one fault", bell);
}

#[test]
fn two_writers_and_two_faults() {
    let bell = Bell {
        statements: 1,
        savepoints: false,
        prepared: false,
        faults: 2,
        takeover: true,
        ..BELL
    };
    check(
        "two writers of one statement, takeover and faults, two in all",
        bell,
    );
}

#[test]
fn three_writers() {
    let bell = Bell {
        writers: 3,
        statements: 2,
        ..BELL
    };
    check("three writers of two statements", bell);
}

#[test]
fn three_writers_and_a_fault() {
    let bell = Bell {
        writers: 3,
        statements: 1,
        savepoints: false,
        prepared: false,
        faults: 1,
        takeover: true,
        ..BELL
    };
    check(
        "three writers of one statement, takeover or one fault",
        bell,
    );
}
