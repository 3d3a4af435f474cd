//! What each metric is: its name, its words, and where it comes from. `docs/metrics.md` explains them; a test holds the two together.

use super::judged::Judged;
use crate::relay::{BellState, InFlight, Role, Snapshot, Timing};

/// One metric, with a value for each outbox.
pub struct Metric {
    /// Its name, without the `_total` of a counter.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    pub(super) value: Value,
}

impl Metric {
    /// The name under which it is stored: a counter's ends in `_total`.
    pub fn full_name(&self) -> String {
        match self.value {
            Count(_) => format!("{}_total", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Prometheus's word for what it is.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Count(_) => "counter",
            Level(_) | States(..) => "gauge",
            Stages => "histogram",
        }
    }
}

/// Where a metric comes from. `None`: there is nothing to say now.
pub(super) enum Value {
    /// Only grows while the process lives.
    Count(fn(&Snapshot) -> Option<u64>),
    /// Goes up and down.
    Level(fn(&Judged) -> Option<f64>),
    /// One of some words: 1 for that which holds, 0 for the others, under this label.
    States(&'static str, fn(&Snapshot) -> Vec<(&'static str, bool)>),
    /// The stages of a row's way, under the label `stage`.
    Stages,
}

use Value::{Count, Level, Stages, States};

const fn count(name: &'static str, help: &'static str, of: fn(&Snapshot) -> Option<u64>) -> Metric {
    let value = Count(of);
    Metric { name, help, value }
}

const fn level(name: &'static str, help: &'static str, of: fn(&Judged) -> Option<f64>) -> Metric {
    let value = Level(of);
    Metric { name, help, value }
}

/// All metrics with the label `outbox`.
pub const REGISTRY: &[Metric] = &[
    level(
        "doorbell_ready",
        "Whether /readyz calls this outbox ready",
        |it| Some(f64::from(it.readiness.ready)),
    ),
    Metric {
        name: "doorbell_role",
        help: "What this relay is: 1 for the role that it has",
        value: States("role", |it| {
            Role::ALL
                .map(|role| (role.word(), role == it.role))
                .to_vec()
        }),
    },
    Metric {
        name: "doorbell_stage_duration_seconds",
        help: "How long rows took: wake, fetch, acknowledge, delete, and total from creation to acknowledgement",
        value: Stages,
    },
    count("doorbell_rows_fetched", "Rows that fetches brought", |it| {
        Some(it.rows.fetched)
    }),
    count(
        "doorbell_rows_published",
        "Rows that Kafka acknowledged",
        |it| Some(it.rows.published),
    ),
    count(
        "doorbell_rows_deleted",
        "Rows that were deleted from the table",
        |it| Some(it.rows.deleted),
    ),
    count(
        "doorbell_rows_refused",
        "Rows that Kafka can never take",
        |it| Some(it.rows.refused),
    ),
    count(
        "doorbell_rows_parked",
        "Rows that were moved to the dead letters",
        |it| Some(it.rows.parked),
    ),
    count(
        "doorbell_rows_retried",
        "Rows that were handed over and had to be sent once more",
        |it| Some(it.rows.retried),
    ),
    count(
        "doorbell_rows_swept",
        "Rows that only the sweep found: nothing had announced them",
        |it| Some(it.rows.swept),
    ),
    count(
        "doorbell_fetched_bytes",
        "Bytes of payload, key and headers that fetches brought",
        |it| Some(it.bytes),
    ),
    count("doorbell_fetches", "Fetches", |it| Some(it.fetches)),
    count("doorbell_batches", "Fetches that brought rows", |it| {
        Some(it.batches)
    }),
    count(
        "doorbell_delete_failures",
        "Deletes that failed and were tried again",
        |it| Some(it.delete_failures),
    ),
    count("doorbell_rings", "Rings that were heard", |it| {
        Some(it.bell.rings)
    }),
    Metric {
        name: "doorbell_bell",
        help: "Whether writers ring: 1 for the state that holds while this relay leads",
        value: States("state", |it| {
            let is = |state: BellState| it.role == Role::Leading && it.bell.state == state;
            BellState::ALL
                .map(|state| (state.word(), is(state)))
                .to_vec()
        }),
    },
    count(
        "doorbell_bell_changes",
        "Changes between asleep, awake and waiting",
        |it| Some(it.bell.changes),
    ),
    count(
        "doorbell_cursor_moves",
        "Times the cursor went back to rows below it",
        |it| Some(it.cursor_moves),
    ),
    count(
        "doorbell_takeovers",
        "Times this relay became the leader",
        |it| Some(it.takeovers),
    ),
    count(
        "doorbell_reconnects",
        "Times it had to connect anew after something was lost",
        |it| Some(it.reconnects),
    ),
    count(
        "doorbell_producer_failures",
        "Producers that were of no more use",
        |it| Some(it.producer_failures),
    ),
    level(
        "doorbell_backlog_rows",
        "Rows in the table, counted up to 100000 above those in flight",
        |it| Some(it.relay.backlog.as_ref()?.rows as f64),
    ),
    level(
        "doorbell_oldest_row_age_seconds",
        "Age of the oldest row in the table; 0 without one",
        |it| Some(it.relay.backlog.as_ref()?.oldest_seconds.unwrap_or(0.0)),
    ),
    level(
        "doorbell_refused_rows",
        "Refused rows that are still in the table",
        |it| Some(it.relay.backlog.as_ref()?.refused as f64),
    ),
    level(
        "doorbell_held_keys",
        "Keys that wait behind a row which Kafka cannot take",
        |it| (it.relay.role == Role::Leading).then_some(it.relay.held_keys as f64),
    ),
    level(
        "doorbell_in_flight_rows",
        "Rows between fetch and delete",
        |it| flight(it, |flight| flight.rows as f64),
    ),
    level(
        "doorbell_unacknowledged_rows",
        "Rows between fetch and acknowledgement",
        |it| flight(it, |flight| flight.unacknowledged as f64),
    ),
    level(
        "doorbell_unacknowledged_bytes",
        "Bytes of rows between fetch and acknowledgement",
        |it| flight(it, |flight| flight.bytes as f64),
    ),
    level(
        "doorbell_gaps",
        "Ranges of ids that a fetch jumped over and that may still commit",
        |it| (it.relay.role == Role::Leading).then_some(it.relay.gaps as f64),
    ),
    level(
        "doorbell_last_acknowledged_timestamp_seconds",
        "When Kafka last acknowledged a row",
        |it| it.relay.last_acknowledged,
    ),
    level(
        "doorbell_xmin_age_transactions",
        "How many transactions ago the oldest snapshot was taken that somebody still holds, as of the last sweep",
        |it| it.relay.xmin_age.map(|age| age as f64),
    ),
    level(
        "doorbell_kafka_reachable",
        "Whether a broker can be reached, as far as the producer knows",
        |it| {
            let is_there = it.relay.kafka.away_seconds.is_none();
            (it.relay.role == Role::Leading).then_some(f64::from(is_there))
        },
    ),
    level(
        "doorbell_kafka_brokers",
        "Brokers that the producer knows",
        |it| Some(it.relay.kafka.traffic?.brokers as f64),
    ),
    level(
        "doorbell_kafka_brokers_up",
        "Brokers that the producer is connected with",
        |it| Some(it.relay.kafka.traffic?.brokers_up as f64),
    ),
    level(
        "doorbell_kafka_queued_rows",
        "Records in the producer's queues and on the wire",
        |it| Some(it.relay.kafka.traffic?.queued as f64),
    ),
    level(
        "doorbell_kafka_queued_bytes",
        "Bytes of records in the producer's queues and on the wire",
        |it| Some(it.relay.kafka.traffic?.queued_bytes as f64),
    ),
    level(
        "doorbell_kafka_round_trip_mean_seconds",
        "Mean time from a request to its answer, slowest broker",
        |it| Some(it.relay.kafka.traffic?.round_trip?.0),
    ),
    level(
        "doorbell_kafka_round_trip_p99_seconds",
        "99th percentile of that time, slowest broker",
        |it| Some(it.relay.kafka.traffic?.round_trip?.1),
    ),
    count(
        "doorbell_kafka_request_retries",
        "Requests that were sent to a broker again",
        |it| Some(it.kafka.traffic?.request_retries),
    ),
    count(
        "doorbell_kafka_request_timeouts",
        "Requests that no broker answered in time",
        |it| Some(it.kafka.traffic?.request_timeouts),
    ),
];

fn flight(it: &Judged, of: fn(&InFlight) -> f64) -> Option<f64> {
    it.relay.in_flight.as_ref().map(of)
}

/// The stages with their names.
pub(super) fn stages(relay: &Snapshot) -> [(&'static str, &Timing); 5] {
    let stages = &relay.stages;
    [
        ("wake", &stages.wake),
        ("fetch", &stages.fetch),
        ("acknowledge", &stages.acknowledge),
        ("delete", &stages.delete),
        ("total", &stages.total),
    ]
}
