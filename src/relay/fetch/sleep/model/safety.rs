//! What must hold in every reachable state, and what must be reachable to give that a meaning.

use std::time::Instant;

use stateright::{Checker, Model};

use super::{BELL, Bell, Owner, Phase, Request, SMALL, State, Step, TWO_RELAYS, Writer};

type Property = stateright::Property<Bell>;

pub(super) const FORGOTTEN: &str = "asleep, no visible row waits unannounced";
pub(super) const ASLEEP_WITH_KEY: &str = "asleep, the relay holds K";
pub(super) const AWAKE_WITHOUT_KEY: &str = "awake, it does not";
const LOCK: &str = "K is held by one alone or by many shared";

pub(super) fn properties(bell: &Bell) -> Vec<Property> {
    let mut properties = vec![
        Property::always(FORGOTTEN, |_, state| !state.forgets()),
        Property::always(ASLEEP_WITH_KEY, |_, state| {
            (0..2).all(|r| !state.sleeps(r) || state.holds(r))
        }),
        Property::always(AWAKE_WITHOUT_KEY, |_, state| {
            (0..2).all(|r| state.relays[r].step != Step::Pause || !state.holds(r))
        }),
        Property::always(LOCK, |_, state| {
            state.wake_lock.held.is_none() || !state.is_shared()
        }),
    ];
    if bell.mutant.is_none() {
        properties.extend(reachable(bell));
    }
    properties
}

fn reachable(bell: &Bell) -> Vec<Property> {
    let mut reachable = vec![
        Property::sometimes("all rows known, the relay sleeps", |_, state| {
            let done = |w: &Writer| w.phase == Phase::Committed && w.known;
            state.sleeps(state.leader) && state.writers.iter().all(done)
        }),
        Property::sometimes("a sleeping relay is rung", |_, state| {
            state.sleeps(state.leader) && state.relays[state.leader].rings
        }),
        Property::sometimes(
            "a silent writer's row is visible, and K still held",
            |_, state| state.writers.iter().any(|w| w.is_visible() && w.level.key),
        ),
        Property::sometimes("the grant came while a ring is answered", |_, state| {
            state.is_over_before_learned(Request::Granted)
        }),
        Property::sometimes(
            "the request is withdrawn while a ring is answered",
            |_, state| state.is_over_before_learned(Request::TimedOut),
        ),
    ];
    if bell.prepared {
        reachable.push(Property::sometimes(
            "a prepared transaction keeps K",
            |_, state| {
                let keeps = |w: &Writer| w.phase == Phase::Prepared && w.level.key;
                state.writers.iter().any(keeps)
            },
        ));
        reachable.push(Property::sometimes(
            "a refused silent row waits",
            |_, state| {
                let waits = |w: usize| state.writers[w].unannounced && state.is_unknown(w);
                state.sleeps(state.leader) && (0..state.writers.len()).any(waits)
            },
        ));
    }
    if bell.takeover {
        let name = "a deposed relay sleeps, the leader waits for K";
        reachable.push(Property::sometimes(name, |_, state| {
            let (deposed, leads) = (1 - state.leader, &state.relays[state.leader]);
            state.relays[deposed].step == Step::Sleep && leads.request == Request::Queued
        }));
    }
    if bell.faults > 0 {
        let name = "K is left with a session whose relay is gone";
        reachable.push(Property::sometimes(name, |_, state| {
            state.wake_lock.held == Some(Owner::Gone)
        }));
    }
    reachable
}

impl State {
    /// Whether relay `r` rests until a ring, with all its sessions.
    pub(super) fn sleeps(&self, r: usize) -> bool {
        let relay = &self.relays[r];
        relay.step == Step::Sleep && relay.has_lock_session && relay.listening
    }

    /// Whether the leader does not know a row that is promised: `unannounced` ones are not.
    pub(super) fn is_owing(&self) -> bool {
        (0..self.writers.len()).any(|w| self.is_unknown(w) && !self.writers[w].unannounced)
    }

    /// Whether the leader has received a ring, or one is on its way.
    pub(super) fn is_rung(&self) -> bool {
        let bit = 1 << self.leader;
        self.relays[self.leader].rings || self.writers.iter().any(|w| w.rings & bit != 0)
    }

    fn forgets(&self) -> bool {
        self.sleeps(self.leader) && self.is_owing() && !self.is_rung()
    }

    fn holds(&self, r: usize) -> bool {
        self.wake_lock.held == Some(Owner::Relay(r))
    }

    /// Whether a relay's request for K has ended like this while the relay answers a ring.
    fn is_over_before_learned(&self, end: Request) -> bool {
        let mut relays = self.relays.iter();
        relays.any(|r| r.request == end && r.step != Step::Wait)
    }
}

fn check(bell: Bell) {
    let begun = Instant::now();
    let checker = bell.checker().spawn_bfs().join();
    println!(
        "safety of {bell:?}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

#[test]
fn two_writers_with_everything() {
    check(BELL);
}

#[test]
fn two_writers_with_everything_and_a_fault() {
    check(Bell { faults: 1, ..BELL });
}

#[test]
fn two_writers_and_two_relays() {
    check(TWO_RELAYS);
}

#[test]
fn two_writers_and_two_faults() {
    check(Bell {
        faults: 2,
        takeover: true,
        ..SMALL
    });
}

#[test]
fn three_writers() {
    check(Bell {
        writers: 3,
        statements: 2,
        ..BELL
    });
}

#[test]
fn three_writers_and_a_fault() {
    check(Bell {
        writers: 3,
        takeover: true,
        ..SMALL
    });
}
