//! Whether a relay is well, in words. A stuck pipe never passes for a good one.

use std::time::Duration;

use serde::Serialize;

use super::{Ailment, Role, Snapshot};

/// Whether a relay does its work, or waits well to do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it is.
    pub ready: bool,
    /// What it does, or each reason why it is not ready.
    pub words: Vec<String>,
    /// What is wrong and yet keeps no row for long.
    pub warnings: Vec<String>,
}

/// Troubles that keep rows from getting through.
const STOPS: [Ailment; 3] = [Ailment::Start, Ailment::Stranger, Ailment::Pause];

impl Readiness {
    /// Judges. Rows that wait, none of which got through for `stuck_after`, are a stuck pipe whatever else is known.
    pub fn of(relay: &Snapshot, stuck_after: Duration) -> Self {
        let troubles = |stops: bool| {
            let wanted = move |ailment| STOPS.contains(&ailment) == stops;
            let of_kind = relay.troubles.iter().filter(move |it| wanted(it.ailment));
            of_kind.map(|it| format!("{} (for {})", it.words, time(it.seconds)))
        };
        let mut reasons: Vec<String> = troubles(true).collect();
        if let (Some(seconds), Some(why)) = (relay.kafka.away_seconds, &relay.kafka.away_reason)
            && relay.role == Role::Leading
        {
            reasons.push(format!(
                "Kafka cannot be reached (for {}): {why}; rows wait in the table. Is a broker down, its disk full, or the network cut? `doorbell check` looks further",
                time(seconds)
            ));
        }
        reasons.extend(stuck(relay, stuck_after.as_secs_f64()));
        if relay.role == Role::Starting && reasons.is_empty() {
            reasons.push(format!("starting (for {})", time(relay.role_seconds)));
        }
        let mut warnings: Vec<String> = troubles(false).collect();
        if relay.held_keys > 0 {
            warnings.push(format!(
                "keys wait behind a row that Kafka cannot take: {}; see the log",
                relay.held_keys
            ));
        }
        let ready = reasons.is_empty();
        Self {
            ready,
            words: if ready { vec![well(relay)] } else { reasons },
            warnings,
        }
    }
}

/// What has not moved for so long that somebody has to look.
fn stuck(relay: &Snapshot, after: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    let Some(flight) = relay
        .in_flight
        .as_ref()
        .filter(|_| relay.role == Role::Leading)
    else {
        return reasons;
    };
    let over = |seconds: Option<f64>| seconds.filter(|seconds| *seconds >= after);
    if let Some(seconds) = over(flight.unacknowledged_seconds) {
        reasons.push(format!(
            "stuck: {} rows wait for Kafka, and none was acknowledged for {}",
            flight.unacknowledged,
            time(seconds)
        ));
    }
    if let Some(seconds) = over(flight.undeleted_seconds) {
        reasons.push(format!(
            "stuck: {} rows that Kafka has wait to be deleted, and none was for {}",
            flight.rows - flight.unacknowledged,
            time(seconds)
        ));
    }
    // An idle relay looks with each sweep; one that knows of rows looks again and again. A full window is one of the cases above.
    let waiting = relay
        .backlog
        .as_ref()
        .is_some_and(|it| it.rows > it.refused as u64);
    let patience = if waiting {
        0.0
    } else {
        relay.sweep_seconds * 1.2
    };
    if flight.rows == 0
        && let Some(seconds) = relay
            .look_seconds
            .filter(|seconds| *seconds >= after + patience)
    {
        reasons.push(format!(
            "stuck: no look into the table has ended for {}",
            time(seconds)
        ));
    }
    reasons
}

fn well(relay: &Snapshot) -> String {
    match relay.role {
        Role::Starting => "starting".into(),
        Role::Standby => format!(
            "standby for {}: another relay leads",
            time(relay.role_seconds)
        ),
        Role::Paused => "paused".into(),
        Role::Leading => format!("leading for {}", time(relay.role_seconds)),
    }
}

/// Whole seconds, in words.
fn time(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Backlog, InFlight, Vitals};
    use super::*;
    use crate::config::Outbox;

    /// A leader at rest.
    fn leader() -> Snapshot {
        let vitals = Vitals::new(&Outbox::default());
        vitals.became(Role::Leading, "leading");
        let mut relay = vitals.snapshot();
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
            "stuck: 2 rows that Kafka has wait to be deleted, and none was for 1m 15s",
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
            refused: 5,
        });
        assert!(judge(&relay).0, "refused rows are not looked for");
        relay.backlog = relay.backlog.map(|it| Backlog { rows: 6, ..it });
        assert_unready(&relay, "no look into the table has ended for 1m 1s");
    }

    #[test]
    fn troubles_that_stop_rows_are_reasons_and_others_are_warnings() {
        let vitals = Vitals::new(&Outbox::default());
        assert_unready(&vitals.snapshot(), "starting");
        vitals.suffers(Ailment::Start, "the role may not SELECT");
        vitals.suffers(Ailment::Trigger, "no trigger");
        let readiness = Readiness::of(&vitals.snapshot(), Duration::from_secs(60));
        assert_eq!(readiness.words, ["the role may not SELECT (for 0s)"]);
        assert_eq!(readiness.warnings, ["no trigger (for 0s)"]);
        vitals.became(Role::Standby, "standby");
        assert!(
            judge(&vitals.snapshot()).0,
            "what kept it from that is over"
        );
        // A standby has no producer: what the last one met says nothing.
        vitals.kafka.is_away("refused");
        assert!(judge(&vitals.snapshot()).0);
        vitals.became(Role::Leading, "leading");
        assert_unready(
            &vitals.snapshot(),
            "Kafka cannot be reached (for 0s): refused",
        );
        vitals.became(Role::Paused, "paused");
        vitals.suffers(Ailment::Pause, "paused by ann");
        assert_unready(&vitals.snapshot(), "paused by ann");
        vitals.kafka.is_there();
        vitals.became(Role::Leading, "resumed");
        let relay = vitals.snapshot();
        assert!(judge(&relay).0);
        assert_eq!(relay.takeovers, 1, "a pause is no change of leaders");
    }
}
