//! Whether a relay is ready, in words. A relay whose rows are stuck never counts as ready.

use std::time::Duration;

use serde::Serialize;

use super::kinds::{ProblemKind, Role};
use super::snapshot::Snapshot;
use crate::numbers::{age, counted_verb};

/// Whether a relay works, or waits as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Readiness {
    /// Whether the relay is ready.
    pub ready: bool,
    /// The state of the relay, or every reason why it is not ready.
    pub words: Vec<String>,
    /// Problems that do not hold rows up for long.
    pub warnings: Vec<String>,
}

/// Problems that keep rows from getting through.
const STOPS: [ProblemKind; 4] = [
    ProblemKind::Start,
    ProblemKind::Stranger,
    ProblemKind::Locked,
    ProblemKind::Pause,
];

impl Readiness {
    /// Judges a snapshot. Rows that wait, none of which got through for `stuck_after`, are stuck
    /// whatever else is known.
    pub(crate) fn of(relay: &Snapshot, stuck_after: Duration) -> Self {
        let problems = |stops: bool| {
            let wanted = move |kind| STOPS.contains(&kind) == stops;
            let of_kind = relay.problems.iter().filter(move |it| wanted(it.kind));
            of_kind.map(|it| format!("{} (for {})", it.words, age(it.seconds)))
        };
        let mut reasons: Vec<String> = problems(true).collect();
        if let (Some(seconds), Some(why)) = (relay.kafka.away_seconds, &relay.kafka.away_reason)
            && matches!(relay.role, Role::Leading | Role::Standby)
        {
            reasons.push(format!(
                "Kafka is unreachable (for {}): {why}; rows wait in the table. Is a broker down, its disk full, or the network cut? `doorbell check` looks further",
                age(seconds)
            ));
        }
        reasons.extend(stuck(relay, stuck_after.as_secs_f64()));
        if relay.role == Role::Starting && reasons.is_empty() {
            reasons.push(format!("starting (for {})", age(relay.role_seconds)));
        }
        let mut warnings: Vec<String> = problems(false).collect();
        if relay.held_keys > 0 {
            warnings.push(format!(
                "{} behind a row that Kafka cannot take; `doorbell held list` names rows and keys",
                counted_verb(relay.held_keys, "key", "wait")
            ));
        }
        let ready = reasons.is_empty();
        Self {
            ready,
            words: if ready { vec![well(relay)] } else { reasons },
            warnings,
        }
    }

    /// Returns why no row gets through, unless a problem that the relay reports itself is the
    /// reason.
    pub(crate) fn stopped(&self, relay: &Snapshot) -> Option<String> {
        match &relay.kafka.away_reason {
            _ if self.ready => None,
            Some(why) if relay.role != Role::Starting => {
                Some(format!("Kafka is unreachable: {why}"))
            }
            _ => {
                let mut words = self.words.iter();
                words.find(|it| it.starts_with("stuck")).cloned()
            }
        }
    }
}

/// Returns what has been stuck for this long, so that an operator has to act.
fn stuck(relay: &Snapshot, after: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    if relay.role != Role::Leading {
        return reasons;
    }
    let over = |seconds: Option<f64>| seconds.filter(|seconds| *seconds >= after);
    let flight = relay.in_flight.as_ref();
    if let Some((flight, seconds)) =
        flight.and_then(|it| Some((it, over(it.unacknowledged_seconds)?)))
    {
        reasons.push(format!(
            "stuck: {} for Kafka, and none was acknowledged for {}",
            counted_verb(flight.unacknowledged, "row", "wait"),
            age(seconds)
        ));
    }
    if let Some((flight, seconds)) = flight.and_then(|it| Some((it, over(it.undeleted_seconds)?))) {
        reasons.push(format!(
            "stuck: {} to be deleted, and none was for {}",
            counted_verb(
                flight.rows - flight.unacknowledged,
                "acknowledged row",
                "wait"
            ),
            age(seconds)
        ));
    }
    // An idle relay fetches with each sweep; one that knows of rows fetches again and again. A full
    // window is one of the cases above.
    let waiting = relay
        .backlog
        .as_ref()
        .is_some_and(|it| it.rows > it.refused as u64 + it.held);
    let patience = if waiting {
        0.0
    } else {
        relay.sweep_seconds * 1.2
    };
    let is_idle = flight.is_some_and(|it| it.rows == 0);
    let late = |seconds: &f64| is_idle && *seconds >= after + patience;
    if let Some(seconds) = over(relay.trying_seconds).or(relay.look_seconds.filter(late)) {
        reasons.push(format!(
            "stuck: no look into the table has ended for {}",
            age(seconds)
        ));
    }
    if reasons.is_empty() {
        reasons.extend(kept_waiting(relay, after));
    }
    reasons
}

/// Returns the first row in flight, if it has waited for too long: in one term, or in several that
/// ended without it.
fn kept_waiting(relay: &Snapshot, after: f64) -> Option<String> {
    let (row, seconds) = relay.waiting.filter(|(_, seconds)| *seconds >= after)?;
    let since = age(seconds);
    Some(format!(
        "stuck: row {row} is the first in flight, and has waited for {since}; see the log"
    ))
}

fn well(relay: &Snapshot) -> String {
    match relay.role {
        Role::Starting => "starting".into(),
        Role::Standby => format!(
            "standby for {}: another relay leads",
            age(relay.role_seconds)
        ),
        Role::Paused => "paused".into(),
        Role::Leading => format!("leading for {}", age(relay.role_seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backlog, InFlight, Monitor};
    use super::*;
    use crate::config::Outbox;

    /// An idle leader.
    fn leader() -> Snapshot {
        let monitor = Monitor::new(&Outbox::default());
        monitor.became(Role::Leading, "leading");
        let mut relay = monitor.snapshot();
        relay.in_flight = Some(InFlight {
            rows: 0,
            unacknowledged: 0,
            bytes: 0,
            unacknowledged_seconds: None,
            undeleted_seconds: None,
        });
        relay.look_seconds = Some(1.0);
        relay
    }

    fn judge(relay: &Snapshot) -> (bool, String) {
        let readiness = Readiness::of(relay, Duration::from_secs(60));
        (readiness.ready, readiness.words.join("; "))
    }

    #[track_caller]
    fn assert_unready(relay: &Snapshot, words: &str) {
        let (ready, said) = judge(relay);
        assert!(!ready && said.contains(words), "{words:?} in {said:?}");
    }

    #[test]
    fn rows_that_do_not_move_are_stuck_from_the_bound_on() {
        let mut relay = leader();
        assert_eq!(judge(&relay), (true, "leading for 0s".into()));
        let flight = |unacknowledged, unacknowledged_seconds, undeleted_seconds| InFlight {
            rows: 3,
            unacknowledged,
            bytes: 0,
            unacknowledged_seconds,
            undeleted_seconds,
        };
        relay.in_flight = Some(flight(3, Some(59.9), None));
        assert!(judge(&relay).0);
        relay.in_flight = Some(flight(3, Some(60.0), None));
        assert_unready(
            &relay,
            "stuck: 3 rows wait for Kafka, and none was acknowledged for 1m",
        );
        relay.in_flight = Some(flight(1, Some(1.0), Some(75.5)));
        assert_unready(
            &relay,
            "stuck: 2 acknowledged rows wait to be deleted, and none was for 1m 15s",
        );
    }

    #[test]
    fn a_look_is_due_with_the_sweep_or_at_once_where_rows_are_known_to_wait() {
        let mut relay = leader();
        relay.look_seconds = Some(131.0);
        assert!(
            judge(&relay).0,
            "the sweep is 60 s, and a tenth more or less"
        );
        relay.look_seconds = Some(133.0);
        assert_unready(&relay, "no look into the table has ended for 2m 13s");
        relay.look_seconds = Some(61.0);
        relay.backlog = Some(Backlog {
            rows: 5,
            is_more: false,
            oldest_seconds: None,
            refused: 4,
            held: 1,
        });
        assert!(judge(&relay).0, "refused and held rows are not looked for");
        relay.backlog = relay.backlog.map(|it| Backlog { rows: 6, ..it });
        assert_unready(&relay, "no look into the table has ended for 1m 1s");
    }

    #[test]
    fn troubles_that_stop_rows_are_reasons_and_others_are_warnings() {
        let monitor = Monitor::new(&Outbox::default());
        assert_unready(&monitor.snapshot(), "starting");
        monitor.raise(ProblemKind::Start, "the role may not SELECT");
        monitor.raise(ProblemKind::Trigger, "no trigger");
        let readiness = Readiness::of(&monitor.snapshot(), Duration::from_secs(60));
        assert_eq!(readiness.words, ["the role may not SELECT (for 0s)"]);
        assert_eq!(readiness.warnings, ["no trigger (for 0s)"]);
        monitor.became(Role::Standby, "standby");
        assert!(
            judge(&monitor.snapshot()).0,
            "what kept it from that is over"
        );
        // A standby without Kafka could not take over.
        monitor.kafka.unreachable("refused");
        assert_unready(
            &monitor.snapshot(),
            "Kafka is unreachable (for 0s): refused",
        );
        monitor.became(Role::Leading, "leading");
        assert_unready(
            &monitor.snapshot(),
            "Kafka is unreachable (for 0s): refused",
        );
        monitor.became(Role::Paused, "paused");
        monitor.raise(ProblemKind::Pause, "paused by ann");
        assert_unready(&monitor.snapshot(), "paused by ann");
        monitor.kafka.reachable();
        monitor.became(Role::Leading, "resumed");
        let relay = monitor.snapshot();
        assert!(judge(&relay).0);
        assert_eq!(relay.takeovers, 1, "a pause is no change of leaders");
    }
}
