use super::*;

use Input::{Again, Done, Led, Lost, Refused, Rows};
use NextStep::{Abort, Await, Clear, Commit, Delete, Fence, Read, Renew, Send};

const INPUTS: [Input; 6] = [Led, Done, Again, Rows, Refused, Lost];

fn after(events: &[Input]) -> (Protocol, Vec<NextStep>) {
    let mut protocol = Protocol::standby();
    let actions = events.iter().map(|event| protocol.on(*event)).collect();
    (protocol, actions)
}

#[test]
fn the_straight_way() {
    let (_, actions) = after(&[Led, Done, Done, Done, Rows, Done, Done, Rows, Done, Done]);
    let expected = [
        Fence, Read, Clear, Await, Send, Commit, Delete, Send, Commit, Delete,
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_commit_that_needed_a_second_call_is_read_and_not_believed() {
    let (_, actions) = after(&[Led, Done, Done, Done, Rows, Done, Again, Again, Done, Led]);
    let expected = [Commit, Commit, Commit, Renew, Fence];
    assert_eq!(actions[5..], expected);
}

#[test]
fn an_abort_ends_in_a_new_producer_whatever_came_of_it() {
    let sending = [Led, Done, Done, Done, Rows, Refused];
    for event in INPUTS {
        let (_, actions) = after(&[&sending[..], &[event]].concat());
        assert_eq!(actions[5..], [Abort, Renew], "{event:?}");
    }
}

#[test]
fn what_is_lost_is_lost_in_every_state() {
    let mut events = Vec::new();
    for event in [Led, Done, Done, Done, Rows, Done] {
        events.push(event);
        let (mut protocol, _) = after(&events);
        assert_eq!(protocol.on(Lost), Renew, "{events:?}");
        assert_eq!(protocol.on(Led), Fence);
    }
}

/// Tries every order of six inputs, including impossible ones: the same producer has taken every
/// step on which a step depends.
#[test]
fn no_order_of_events_takes_a_step_that_rests_on_nothing() {
    let mut orders = vec![Vec::new()];
    for _ in 0..6 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<_>| INPUTS.map(|event| [&order[..], &[event]].concat()))
            .collect();
    }
    for order in orders {
        // Begin with a leader that is open, so that short orders reach every phase.
        let begin = [Led, Done, Done, Done];
        let order = [&begin[..], &order].concat();
        let (_, actions) = after(&order);
        // The steps that this producer has taken, in the order in which it must take them.
        let ladder = [Fence, Read, Clear, Await];
        let (mut done, mut commits) = (0, 0);
        for (event, action) in order.iter().zip(&actions) {
            match action {
                Renew => done = 0,
                Fence | Read | Clear | Await => {
                    let rung = ladder.iter().position(|step| step == action);
                    let rung = rung.expect("a step of the ladder") + 1;
                    assert!(rung == done || rung == done + 1, "{order:?}: {actions:?}");
                    done = rung;
                }
                Send => {
                    assert_eq!(done, ladder.len(), "{order:?}: {actions:?}");
                    commits = 0;
                }
                Commit => commits += 1,
                Delete => {
                    assert_eq!(*event, Done);
                    assert_eq!((done, commits), (ladder.len(), 1), "{order:?}: {actions:?}");
                }
                Abort => assert_eq!(*event, Refused),
            }
        }
    }
}
