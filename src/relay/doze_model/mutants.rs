//! What a relay, a trigger or a database might do wrong. Each is a small change of the model around the real type; the tests show that each is seen.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use super::safety::{AWAKE_WITHOUT_KEY, FORGOTTEN};
use super::{BELL, Bell};

/// One fault in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Granted K, the relay sleeps at once.
    NoLastFetch,
    /// The last fetch reads before K is granted.
    SnapshotOlderThanTheGrant,
    /// The relay does not ask for K.
    SleepsWithoutK,
    /// Woken, the relay gives K back and then waits for the next ring before it fetches.
    WaitsBetweenReleaseAndFetch,
    /// A wait for K has timed out, and the next begins without a fetch between.
    WaitsAgainWithoutAFetch,
    /// LISTEN is sent on falling asleep.
    ListensAfterTheLastFetch,
    /// Rings that came during the last fetch are thrown away.
    DropsARingOnFallingAsleep,
    /// Rows that a limit left behind do not count.
    LimitTakenAsComplete,
    /// Rows that could not be published are forgotten, and nobody starts over.
    FailedPublishTakenAsEmpty,
    /// Woken, the relay keeps K.
    KeepsKAwake,
    /// A new beginning on the same sessions does not give K back.
    KeepsKOverABeginning,
    /// K was granted at the moment of the time-out, and the relay takes it as refused.
    GrantAtTheTimeoutIsMissed,
    /// A relay that lost a session goes on.
    LossIsNotNoticed,
    /// The trigger asks once in a transaction, whatever a rollback to a savepoint took back.
    TriggerRemembersAcrossSavepoints,
    /// The trigger gives K back at the end of its statement.
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

/// Looks for a state that breaks this property; how many moves lead to the nearest one.
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
            statements: 1,
            savepoints: false,
            ..with(mutant)
        };
        assert_eq!(counterexample(bell, FORGOTTEN), None, "{mutant:?}");
    }
}
