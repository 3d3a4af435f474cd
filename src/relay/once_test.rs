use super::*;

const EVENTS: [Event; 6] = [
    Event::Led,
    Event::Done,
    Event::Again,
    Event::Rows,
    Event::Refused,
    Event::Lost,
];

fn after(events: &[Event]) -> (Once, Vec<Action>) {
    let mut once = Once::standby();
    let actions = events.iter().map(|event| once.on(*event)).collect();
    (once, actions)
}

#[test]
fn the_straight_way() {
    use Event::{Done, Led, Rows};
    let (_, actions) = after(&[Led, Done, Done, Done, Rows, Done, Done, Rows, Done, Done]);
    let expected = [
        Action::Fence,
        Action::Read,
        Action::Clear,
        Action::Await,
        Action::Send,
        Action::Commit,
        Action::Delete,
        Action::Send,
        Action::Commit,
        Action::Delete,
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_commit_that_needed_a_second_call_is_read_and_not_believed() {
    use Event::{Again, Done, Led, Rows};
    let (_, actions) = after(&[Led, Done, Done, Done, Rows, Done, Again, Again, Done, Led]);
    let expected = [
        Action::Commit,
        Action::Commit,
        Action::Commit,
        Action::Renew,
        Action::Fence,
    ];
    assert_eq!(actions[5..], expected);
}

#[test]
fn an_abort_ends_in_a_new_producer_whatever_came_of_it() {
    use Event::{Done, Led, Refused, Rows};
    let sending = [Led, Done, Done, Done, Rows, Refused];
    for event in EVENTS {
        let (_, actions) = after(&[&sending[..], &[event]].concat());
        assert_eq!(actions[5..], [Action::Abort, Action::Renew], "{event:?}");
    }
}

#[test]
fn what_is_lost_is_lost_in_every_state() {
    let mut events = Vec::new();
    for event in [
        Event::Led,
        Event::Done,
        Event::Done,
        Event::Done,
        Event::Rows,
        Event::Done,
    ] {
        events.push(event);
        let (mut once, _) = after(&events);
        assert_eq!(once.on(Event::Lost), Action::Renew, "{events:?}");
        assert_eq!(once.on(Event::Led), Action::Fence);
    }
}

/// Every order of six events, the impossible ones too: what each action rests on was done before it, by the same producer.
#[test]
fn no_order_of_events_takes_a_step_that_rests_on_nothing() {
    let mut orders = vec![Vec::new()];
    for _ in 0..6 {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                EVENTS.map(|event| {
                    let mut longer = order.clone();
                    longer.push(event);
                    longer
                })
            })
            .collect();
    }
    for order in orders {
        // From a leader that is open, so that short orders reach everything.
        let begin = [Event::Led, Event::Done, Event::Done, Event::Done];
        let order = [&begin[..], &order].concat();
        let (_, actions) = after(&order);
        // What this producer has done so far, in the order in which it must be done.
        let ladder = [Action::Fence, Action::Read, Action::Clear, Action::Await];
        let (mut done, mut commits) = (0, 0);
        for (event, action) in order.iter().zip(&actions) {
            match action {
                Action::Renew => done = 0,
                Action::Fence | Action::Read | Action::Clear | Action::Await => {
                    let rung = ladder.iter().position(|step| step == action);
                    let rung = rung.expect("a step of the ladder") + 1;
                    assert!(rung == done || rung == done + 1, "{order:?}: {actions:?}");
                    done = rung;
                }
                Action::Send => {
                    assert_eq!(done, ladder.len(), "{order:?}: {actions:?}");
                    commits = 0;
                }
                Action::Commit => commits += 1,
                Action::Delete => {
                    assert_eq!(*event, Event::Done);
                    assert_eq!((done, commits), (ladder.len(), 1), "{order:?}: {actions:?}");
                }
                Action::Abort => assert_eq!(*event, Event::Refused),
            }
        }
    }
}
