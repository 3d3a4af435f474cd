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
                "Kafka cannot be reached (for {}): {why}",
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
