//! Faults of a relay, a trigger or a database. Each is a small change of the model around the real
//! type, and a test shows that the checker finds it.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use super::safety::{AWAKE_WITHOUT_KEY, FORGOTTEN};
use super::{BELL, Bell, SMALL};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// After the grant of the wake lock, the relay sleeps at once.
    NoLastFetch,
    /// The last fetch reads before the wake lock is granted.
    SnapshotOlderThanTheGrant,
    /// The relay does not ask for the wake lock.
    SleepsWithoutK,
    /// After a ring, the relay releases the wake lock and fetches only after the next ring.
    WaitsBetweenReleaseAndFetch,
    /// A ring that is answered with the wake lock held leads to no fetch.
    SleepsOnThroughARing,
    /// The relay releases the wake lock at a ring and goes back to sleep as if it held it.
    AnswersWithoutK,
    /// After a wait for the wake lock timed out, the next begins without a fetch in between.
    WaitsAgainWithoutAFetch,
    /// LISTEN is sent when the relay falls asleep.
    ListensAfterTheLastFetch,
    /// Rings during the last fetch are discarded.
    DropsARingOnFallingAsleep,
    /// Rows that a limit left behind are ignored.
    LimitTakenAsComplete,
    /// Rows that could not be published are forgotten, and the relay does not start over.
    FailedPublishTakenAsEmpty,
    /// After a ring, the relay keeps the wake lock.
    KeepsKAwake,
    /// A new beginning on the same sessions does not release the wake lock.
    KeepsKOverABeginning,
    /// The wake lock was granted at the moment of the timeout, and the relay takes it as refused.
    GrantAtTheTimeoutIsMissed,
    /// A relay that lost a session continues.
    LossIsNotNoticed,
    /// The trigger asks once in a transaction, even after a rollback to a savepoint.
    TriggerRemembersAcrossSavepoints,
    /// The trigger releases the wake lock at the end of its statement.
    KeyForTheStatementOnly,
    /// A database that frees locks before the commit is visible.
    KeyFreedBeforeVisible,
    /// A database that delivers notifications before the commit is visible.
    RingsBeforeVisible,
}

fn with(mutant: Mutant) -> Bell {
    Bell {
        prepared: false,
        faults: 1,
        mutant: Some(mutant),
        ..BELL
    }
}

/// Searches a state that breaks this property. Returns how many moves lead to the nearest one.
fn counterexample(bell: Bell, property: &'static str) -> Option<usize> {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = bell.checker().finish_when(found).spawn_bfs().join();
    let moves = checker.discovery(property)?.into_actions().len();
    println!(
        "{:?} is seen after {moves} moves, among {} states",
        bell.mutant,
        checker.unique_state_count()
    );
    Some(moves)
}

#[test]
fn a_row_is_forgotten_by_each_of_these() {
    for mutant in [
        Mutant::NoLastFetch,
        Mutant::SnapshotOlderThanTheGrant,
        Mutant::SleepsWithoutK,
        Mutant::WaitsBetweenReleaseAndFetch,
        Mutant::SleepsOnThroughARing,
        Mutant::AnswersWithoutK,
        Mutant::ListensAfterTheLastFetch,
        Mutant::DropsARingOnFallingAsleep,
        Mutant::LimitTakenAsComplete,
        Mutant::FailedPublishTakenAsEmpty,
        Mutant::TriggerRemembersAcrossSavepoints,
        Mutant::KeyForTheStatementOnly,
        Mutant::KeyFreedBeforeVisible,
        Mutant::RingsBeforeVisible,
    ] {
        assert!(
            counterexample(with(mutant), FORGOTTEN).is_some(),
            "{mutant:?} is not seen"
        );
    }
}

#[test]
fn writers_ring_a_relay_that_is_awake_with_each_of_these_but_no_row_is_forgotten() {
    for mutant in [
        Mutant::KeepsKAwake,
        Mutant::KeepsKOverABeginning,
        Mutant::GrantAtTheTimeoutIsMissed,
    ] {
        let seen = counterexample(with(mutant), AWAKE_WITHOUT_KEY);
        assert!(seen.is_some(), "{mutant:?} is not seen");
        let bell = Bell {
            mutant: Some(mutant),
            ..SMALL
        };
        assert_eq!(counterexample(bell, FORGOTTEN), None, "{mutant:?}");
    }
}
