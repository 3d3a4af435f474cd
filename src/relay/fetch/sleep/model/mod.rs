//! A model of everything around the real `Sleeper`: writers with their transactions, the server's
//! lock and notifications, and a driver that carries out actions in as many steps as others can
//! come between. A checker walks through all orders.
//!
//! There is no clock: a pause or a wait may end at any time, and all hints are tried at each step.
//! The rows of a transaction are one row, since they become visible together. Nothing is deleted: a
//! row is *known* once a fetch brought it, and unknown again to a relay that starts over. There is
//! no sweep.

mod driver;
mod liveness;
mod mutants;
mod parts;
mod relay;
mod safety;
mod wake_lock;
mod world;

use super::Hints;
use mutants::Mutant;
use relay::{Relay, Request, Step, Turn};
use stateright::{Model, Property};
use wake_lock::{Owner, WakeLock};
use world::{Deed, Phase, Writer};

/// The situations that the checker explores.
#[derive(Debug, Clone, Copy)]
struct Bell {
    /// Transactions, one a writer.
    writers: usize,
    /// Statements of each, including rollbacks to a savepoint.
    statements: u8,
    savepoints: bool,
    /// PREPARE TRANSACTION, and writers with `doorbell.silent`.
    prepared: bool,
    /// The number of faults.
    faults: u8,
    /// One of the faults may be that another relay leads while the first one keeps running.
    takeover: bool,
    mutant: Option<Mutant>,
}

/// Everything that matters for what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    writers: Vec<Writer>,
    wake_lock: WakeLock,
    relays: [Relay; 2],
    /// The relay that leads. The other one is off, or was deposed and has not noticed.
    leader: usize,
    faults: u8,
}

/// One step of a writer, a relay or the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Writer(usize, Deed),
    Relay(usize, Turn, Hints),
    /// The server withdraws a relay's waiting request.
    TimeOut(usize),
    /// The server notices that the relay behind a session is gone.
    SessionEnds,
    Fault(Fault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The leader's process dies; another one starts.
    Death,
    /// The leader lock is lost, and another relay leads. The first one has not noticed.
    Takeover,
    /// The session of the wake lock is lost, and the lock with it.
    LosesWakeLock(usize),
    /// The session that listens is lost.
    LosesListener(usize),
    /// Rows in flight cannot be sent.
    PublishFails,
}

/// Two writers with everything, and no fault.
const BELL: Bell = Bell {
    writers: 2,
    statements: 4,
    savepoints: true,
    prepared: true,
    faults: 0,
    takeover: false,
    mutant: None,
};

/// Two writers of one statement without anything else, and one fault.
const SMALL: Bell = Bell {
    statements: 1,
    savepoints: false,
    prepared: false,
    faults: 1,
    ..BELL
};

/// Two writers of two statements, and a takeover or another fault.
const TWO_RELAYS: Bell = Bell {
    statements: 2,
    savepoints: false,
    faults: 1,
    takeover: true,
    ..BELL
};

impl Bell {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn faults(&self, state: &State, mut may: impl FnMut(Fault)) {
        if state.faults == 0 {
            return;
        }
        may(Fault::Death);
        if self.takeover && state.relays[1 - state.leader].step == Step::Off {
            may(Fault::Takeover);
        }
        for (r, relay) in state.relays.iter().enumerate() {
            if relay.listening {
                may(Fault::LosesListener(r));
            }
            if relay.has_lock_session {
                may(Fault::LosesWakeLock(r));
            }
        }
        if state.writers.iter().any(|w| w.known) {
            may(Fault::PublishFails);
        }
    }

    fn fail(&self, state: &mut State, fault: Fault) {
        state.faults -= 1;
        match fault {
            Fault::Death => self.start(state, state.leader),
            Fault::Takeover => {
                state.relays[state.leader].lost = true;
                state.leader = 1 - state.leader;
                self.start(state, state.leader);
            }
            Fault::LosesListener(r) => {
                state.stop_listening(r);
                state.relays[r].lost = true;
            }
            Fault::LosesWakeLock(r) => {
                state.end_session(Owner::Relay(r));
                let relay = &mut state.relays[r];
                (relay.has_lock_session, relay.request, relay.lost) = (false, Request::None, true);
            }
            Fault::PublishFails => self.fail_to_publish(state),
        }
    }

    /// All combinations of silent writers and others.
    fn crews(&self) -> Vec<Vec<Writer>> {
        let silent = if self.prepared { self.writers } else { 0 };
        let writer = |silent| Writer::new(silent, self.statements);
        (0..=silent)
            .map(|silent| (0..self.writers).map(|w| writer(w < silent)).collect())
            .collect()
    }
}

impl Model for Bell {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let begin = |mut writers: Vec<Writer>| {
            writers.sort();
            let mut state = State {
                writers,
                wake_lock: WakeLock::default(),
                relays: [Relay::off(), Relay::off()],
                leader: 0,
                faults: self.faults,
            };
            self.start(&mut state, 0);
            state
        };
        self.crews().into_iter().map(begin).collect()
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        for w in 0..state.writers.len() {
            // Of equal writers, one is enough.
            if w == 0 || state.writers[w] != state.writers[w - 1] {
                self.deeds(state, w, |deed| moves.push(Move::Writer(w, deed)));
            }
        }
        for (r, relay) in state.relays.iter().enumerate() {
            self.turns(state, r, |turn, hints| {
                moves.push(Move::Relay(r, turn, hints));
            });
            if relay.request == Request::Queued {
                moves.push(Move::TimeOut(r));
            }
        }
        if state.wake_lock.held == Some(Owner::Gone) || state.wake_lock.queue.contains(&Owner::Gone)
        {
            moves.push(Move::SessionEnds);
        }
        self.faults(state, |fault| moves.push(Move::Fault(fault)));
    }

    fn next_state(&self, state: &State, next: Move) -> Option<State> {
        let mut state = state.clone();
        match next {
            Move::Writer(w, deed) => self.write(&mut state, w, deed),
            Move::Relay(r, turn, hints) => self.turn(&mut state, r, turn, hints),
            Move::TimeOut(r) => {
                state.end_session(Owner::Relay(r));
                state.relays[r].request = Request::TimedOut;
            }
            Move::SessionEnds => state.end_session(Owner::Gone),
            Move::Fault(fault) => self.fail(&mut state, fault),
        }
        state.tidy();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        safety::properties(self)
    }
}
