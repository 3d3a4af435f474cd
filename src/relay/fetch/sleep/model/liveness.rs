//! What must happen eventually if every move that stays possible is made. The checker behind
//! `safety` does not examine cycles, so this one does: it searches a part of the state graph in
//! which a fair run may stay for ever without what was promised.

use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use stateright::Model;

use super::parts::{Edge, Parts};
use super::relay::{FetchOutcome, Turn};
use super::{BELL, Bell, Deed, Move, Mutant, SMALL, State, TWO_RELAYS, Writer};

/// Moves that are not put off for ever, a bit for each kind: one that stays possible is made. They
/// do not include faults, nor what writers do before their commit is visible, since a transaction
/// may stay open for ever.
fn duty(next: Move) -> u8 {
    match next {
        Move::Writer(_, Deed::Unlock | Deed::Ring(_)) => 1,
        Move::SessionEnds => 2,
        Move::TimeOut(r) => 4 << r,
        Move::Relay(_, Turn::Notice, _) => 16,
        Move::Relay(r, ..) => 32 << r,
        Move::Writer(..) | Move::Fault(_) => 0,
    }
}

const TURN: u8 = 32 | 64;

/// Answers that may come often but not always, a bit for each kind.
fn whim(next: Move) -> u8 {
    match next {
        Move::Relay(_, Turn::Look(FetchOutcome::NoRoom), _) => NO_ROOM,
        Move::Relay(_, _, hints) if hints.stay_awake => STAY_AWAKE,
        _ => 0,
    }
}

const NO_ROOM: u8 = 1;
const STAY_AWAKE: u8 = 2;

/// All reachable states, with the moves between them.
struct Graph {
    states: Vec<Rc<State>>,
    edges: Vec<Vec<Edge>>,
}

/// A place where a run stays: `inside`, and again and again in a state that is `bad`.
struct Stay {
    inside: fn(&State) -> bool,
    bad: fn(&State) -> bool,
    /// Kinds of answers that do not always come.
    whims: u8,
}

/// A row that the leader has to know stays unknown, with any open transactions and any hints.
const ROW_STAYS_UNKNOWN: Stay = Stay {
    inside: State::is_owing,
    bad: |_| true,
    whims: 0,
};

/// All transactions are over, and the relay keeps polling.
const POLLS_FOR_EVER: Stay = Stay {
    inside: |state| !state.writers.iter().any(Writer::is_open),
    bad: |state| !state.sleeps(state.leader),
    whims: STAY_AWAKE | NO_ROOM,
};

impl Graph {
    fn of(bell: Bell) -> Self {
        let mut states: Vec<_> = bell.init_states().into_iter().map(Rc::new).collect();
        let mut numbers: FxHashMap<Rc<State>, usize> = states.iter().cloned().zip(0..).collect();
        let (mut edges, mut moves) = (Vec::new(), Vec::new());
        while edges.len() < states.len() {
            let from = Rc::clone(&states[edges.len()]);
            bell.actions(&from, &mut moves);
            let edge = |next| {
                let to = bell.next_state(&from, next).expect("a move that leads on");
                let to = *numbers.entry(Rc::new(to)).or_insert_with_key(|to| {
                    states.push(Rc::clone(to));
                    states.len() - 1
                });
                let (duty, whim) = (duty(next), whim(next));
                Edge { to, duty, whim }
            };
            edges.push(moves.drain(..).map(edge).collect::<Vec<_>>());
        }
        Self { states, edges }
    }

    /// Finds a state of a fair run that stays there for ever.
    fn stays(&self, stay: &Stay) -> Option<&State> {
        let mut parts = Parts::new(&self.edges);
        let inside = |s: &usize| (stay.inside)(&self.states[*s]);
        let mut open = parts.split((0..self.states.len()).filter(inside).collect());
        while let Some(part) = open.pop() {
            let is_bad = part.iter().any(|s| (stay.bad)(&self.states[*s]));
            if !is_bad || self.neglects(&parts, &part) {
                continue;
            }
            let whimsical = |s: &usize| self.is_offered(*s, self.whims(&parts, &part, stay.whims));
            let (leave, rest): (Vec<_>, Vec<_>) = part.iter().partition(|s| whimsical(s));
            if leave.is_empty() {
                return Some(&self.states[part[0]]);
            }
            open.extend(parts.split(rest));
        }
        None
    }

    /// Whether a duty is always possible here and never done: a fair run does not stay.
    fn neglects(&self, parts: &Parts<'_>, part: &[usize]) -> bool {
        let (mut always, mut done) = (u8::MAX, 0);
        for s in part {
            let mut possible = 0;
            for edge in &self.edges[*s] {
                possible |= edge.duty;
                if parts.is_together(*s, edge.to) {
                    done |= edge.duty;
                }
            }
            always &= possible;
        }
        always & !done != 0
    }

    /// The whims without which a run leaves this part: one that stays avoids their states.
    fn whims(&self, parts: &Parts<'_>, part: &[usize], whims: u8) -> u8 {
        let is_needed = |whim: &u8| {
            let others = |s: usize| {
                let is_other = |edge: &Edge| edge.whim & whim == 0 && edge.duty & TURN != 0;
                let stays = |edge: &Edge| parts.is_together(s, edge.to) && is_other(edge);
                self.is_offered(s, *whim) && self.edges[s].iter().any(stays)
            };
            whims & whim != 0 && !part.iter().any(|s| others(*s))
        };
        let kinds = [NO_ROOM, STAY_AWAKE];
        kinds.iter().filter(|whim| is_needed(whim)).sum()
    }

    fn is_offered(&self, s: usize, whims: u8) -> bool {
        self.edges[s].iter().any(|edge| edge.whim & whims != 0)
    }
}

fn check(bell: Bell) {
    let begun = Instant::now();
    let graph = Graph::of(bell);
    for stay in [ROW_STAYS_UNKNOWN, POLLS_FOR_EVER] {
        let stays = graph.stays(&stay);
        assert!(stays.is_none(), "a fair run may stay at {stays:#?}");
    }
    println!(
        "liveness of {bell:?}: {} states, {} moves, {:.1} s",
        graph.states.len(),
        graph.edges.iter().map(Vec::len).sum::<usize>(),
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn two_writers_with_everything() {
    check(BELL);
}

#[test]
fn two_writers_and_two_relays() {
    check(TWO_RELAYS);
}

#[test]
fn a_relay_that_lingers_for_ever_polls_for_ever() {
    let bell = Bell { writers: 1, ..BELL };
    let stay = Stay {
        whims: NO_ROOM,
        ..POLLS_FOR_EVER
    };
    assert!(Graph::of(bell).stays(&stay).is_some());
}

#[test]
fn a_row_stays_unknown_with_each_of_these() {
    for mutant in [Mutant::WaitsAgainWithoutAFetch, Mutant::LossIsNotNoticed] {
        let bell = Bell {
            mutant: Some(mutant),
            ..SMALL
        };
        let stays = Graph::of(bell).stays(&ROW_STAYS_UNKNOWN).is_some();
        assert!(stays, "{mutant:?} is not seen");
    }
}
