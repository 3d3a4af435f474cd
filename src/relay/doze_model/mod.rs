//! A model of everything around `Doze`, which itself is the real one: writers with their transactions, the server's lock and notifications, and a
//! driver that does what it is told in as many steps as others can come between. A checker walks through all orders.
//!
//! | file | what |
//! |---|---|
//! | `world`, `key` | writers and their trigger; K |
//! | `relay`, `driver` | where the driver stands and what may come next; what that does |
//! | `mutants` | what somebody might do wrong, and that it is seen |
//! | `safety` | what must hold in every state |
//! | `liveness`, `parts` | what must come at last |
//!
//! The clock is not in it: a pause or a wait may end at any time, and every mood is tried at each step. A transaction's rows are one row,
//! since they become visible together. Nothing is deleted: a row is *known* once a fetch brought it, and unknown again to a relay that starts over. There
//! is no sweep.

mod driver;
mod key;
mod liveness;
mod mutants;
mod parts;
mod relay;
mod safety;
mod world;

use super::Mood;
use key::{Key, Owner};
use mutants::Mutant;
use relay::{Relay, Request, Step, Turn};
use stateright::{Model, Property};
use world::{Deed, Phase, Writer};

/// What the walk goes through.
#[derive(Debug, Clone, Copy)]
struct Bell {
    /// Transactions, one a writer.
    writers: usize,
    /// Statements of each, rolling back to a savepoint included.
    statements: u8,
    savepoints: bool,
    /// PREPARE TRANSACTION, and writers with `doorbell.silent`.
    prepared: bool,
    /// Faults in all.
    faults: u8,
    /// One of them may be that another relay leads while the first lives on.
    takeover: bool,
    mutant: Option<Mutant>,
}

/// Everything that makes a difference for what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    writers: Vec<Writer>,
    key: Key,
    relays: [Relay; 2],
    /// The relay that leads. The other one is off, or was deposed and does not know it.
    leader: usize,
    faults: u8,
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Writer(usize, Deed),
    Relay(usize, Turn, Mood),
    /// The server withdraws a relay's waiting request.
    TimeOut(usize),
    /// The server notices that the relay behind a session is gone.
    SessionEnds,
    Fault(Fault),
}

/// What may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The leader's process dies; another one starts.
    Death,
    /// The leader's lock is lost, and another relay leads: the first does not know it.
    Takeover,
    /// The session that holds K is lost, with K.
    LosesKey(usize),
    /// The session that listens is lost.
    LosesBell(usize),
    /// What is on its way to Kafka cannot be sent.
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
                may(Fault::LosesBell(r));
            }
            if relay.keyed {
                may(Fault::LosesKey(r));
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
            Fault::LosesBell(r) => {
                state.deafen(r);
                state.relays[r].lost = true;
            }
            Fault::LosesKey(r) => {
                state.end_session(Owner::Relay(r));
                let relay = &mut state.relays[r];
                (relay.keyed, relay.request, relay.lost) = (false, Request::None, true);
            }
            Fault::PublishFails => self.fail_to_publish(state),
        }
    }

    /// What each writer may be: silent or not.
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
                key: Key::default(),
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
            // Of writers that are the same, one is enough.
            if w == 0 || state.writers[w] != state.writers[w - 1] {
                self.deeds(state, w, |deed| moves.push(Move::Writer(w, deed)));
            }
        }
        for (r, relay) in state.relays.iter().enumerate() {
            self.turns(state, r, |turn, mood| {
                moves.push(Move::Relay(r, turn, mood));
            });
            if relay.request == Request::Queued {
                moves.push(Move::TimeOut(r));
            }
        }
        if state.key.held == Some(Owner::Gone) || state.key.queue.contains(&Owner::Gone) {
            moves.push(Move::SessionEnds);
        }
        self.faults(state, |fault| moves.push(Move::Fault(fault)));
    }

    fn next_state(&self, state: &State, next: Move) -> Option<State> {
        let mut state = state.clone();
        match next {
            Move::Writer(w, deed) => self.write(&mut state, w, deed),
            Move::Relay(r, turn, mood) => self.turn(&mut state, r, turn, mood),
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
