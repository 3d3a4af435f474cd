//! The figures of a relay at one moment.

use serde::Serialize;

use super::incidents::Change;
use super::kinds::{BellState, ProblemKind, Role};
use crate::kafka::Traffic;
use crate::postgres::inspect::OldSnapshot;
use crate::relay::histogram::Timing;

/// The relay of one outbox at one moment. Durations are in seconds; points in time are in seconds
/// since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The table as configured.
    pub outbox: String,
    /// Where rows go that name no topic: the template, and how many routes there are.
    pub topic: String,
    /// Role of the relay.
    pub role: Role,
    /// Time in this role.
    pub role_seconds: f64,
    /// Host and port of the PostgreSQL server to which the relay is, or was last, connected.
    pub server: Option<String>,
    /// Current problems, the worst first.
    #[serde(rename = "troubles")]
    pub problems: Vec<Problem>,
    /// Whether writers ring.
    pub bell: Bell,
    /// Counts of rows since the process began.
    pub rows: Rows,
    /// Bytes of the rows that were fetched: payload, key and headers.
    pub bytes: u64,
    /// Fetches.
    pub fetches: u64,
    /// Fetches that brought rows.
    pub batches: u64,
    /// Deletes that failed.
    pub delete_failures: u64,
    /// Times that the cursor went back to rows with ids below it.
    pub cursor_moves: u64,
    /// Times that the relay became the leader.
    pub takeovers: u64,
    /// Times that the relay had to reconnect.
    pub reconnects: u64,
    /// Producers that failed.
    pub producer_failures: u64,
    /// Headers that rows had of their own, and that were left out: the relay sets those names.
    pub reserved_headers: u64,
    /// Rows in flight; `None` unless the relay leads.
    pub in_flight: Option<InFlight>,
    /// Rows that wait; `None` unless the relay leads and has fetched.
    pub backlog: Option<Backlog>,
    /// The first row in flight, and for how many seconds it has waited for Kafka or its delete,
    /// over terms.
    #[serde(skip)]
    pub waiting: Option<(i64, f64)>,
    /// Time since the begin of the first of the fetches that failed or run, over terms; `None` if
    /// the last one has ended.
    #[serde(skip)]
    pub trying_seconds: Option<f64>,
    /// Dead letters, as of the last sweep; `None` unless the relay leads and may see them.
    pub dead_letters: Option<u64>,
    /// Rows that are not to be sent yet, as of the last sweep; `None` unless the relay leads and
    /// rows can have such a time.
    pub delayed: Option<Delayed>,
    /// Keys that wait behind a row that Kafka refused.
    pub held_keys: usize,
    /// Rows that Kafka has and that a trigger, a rule or a foreign key keeps in the table.
    pub kept_rows: usize,
    /// Ranges of ids that a fetch skipped and that may still commit.
    pub gaps: usize,
    /// When Kafka last acknowledged a row.
    pub last_acknowledged: Option<f64>,
    /// Time since the end of the last fetch; `None` unless the relay leads.
    pub look_seconds: Option<f64>,
    /// How many transactions ago the oldest open snapshot was taken, as of the last sweep.
    pub xmin_age: Option<i64>,
    /// The session that holds it for longer than a moment, as of the last sweep.
    pub pin: Option<OldSnapshot>,
    /// State of the connection to Kafka.
    pub kafka: KafkaState,
    /// Durations of the stages.
    #[serde(skip)]
    pub stages: Stages,
    /// The last changes of state, the oldest first.
    pub changes: Vec<Change>,
    /// Why the last row was moved to the dead letters since the process started.
    pub last_parked: Option<String>,
    /// Interval of the sweep.
    pub sweep_seconds: f64,
}

/// A problem of a relay that is alive.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The kind of problem.
    #[serde(rename = "ailment")]
    pub kind: ProblemKind,
    /// Its description.
    pub words: String,
    /// Time since it was raised.
    pub seconds: f64,
}

/// State of the bell.
#[derive(Debug, Clone, Serialize)]
pub struct Bell {
    /// Whether writers ring.
    pub state: BellState,
    /// Changes of this state.
    pub changes: u64,
    /// Rings that arrived.
    pub rings: u64,
}

/// Rows since the process started.
#[derive(Debug, Clone, Serialize)]
pub struct Rows {
    /// Brought by fetches.
    pub fetched: u64,
    /// Acknowledged by Kafka.
    pub published: u64,
    /// Deleted from the table.
    pub deleted: u64,
    /// Dropped by a route: deleted, and never sent.
    pub dropped: u64,
    /// Refused by Kafka.
    pub refused: u64,
    /// Moved to the dead letters.
    pub parked: u64,
    /// Handed to the producer, and sent once more.
    pub retried: u64,
    /// Found by nothing but the sweep.
    pub swept: u64,
}

/// Rows in flight.
#[derive(Debug, Clone, Serialize)]
pub struct InFlight {
    /// Rows that are fetched and not deleted.
    pub rows: usize,
    /// Those that Kafka has not acknowledged.
    pub unacknowledged: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Time since the last acknowledgement, while rows wait for one.
    pub unacknowledged_seconds: Option<f64>,
    /// Time since the last delete, while acknowledged rows wait for one.
    pub undeleted_seconds: Option<f64>,
}

/// Rows that wait.
#[derive(Debug, Clone, Serialize)]
pub struct Backlog {
    /// Rows in the table, as far as they were counted.
    pub rows: u64,
    /// Whether there are more.
    pub is_more: bool,
    /// Age of the oldest.
    pub oldest_seconds: Option<f64>,
    /// Those that Kafka refused and that are still in the table.
    pub refused: usize,
    /// Those that stay in the table because their key waits, as of the last look below the cursor.
    pub held: u64,
}

/// Rows whose time is to come. They are no backlog.
#[derive(Debug, Clone, Serialize)]
pub struct Delayed {
    /// Rows, as far as they were counted.
    pub rows: u64,
    /// Whether there are more.
    pub is_more: bool,
}

/// State of the connection to Kafka.
#[derive(Debug, Clone, Serialize)]
pub struct KafkaState {
    /// Time for which no broker has been reachable.
    pub away_seconds: Option<f64>,
    /// Why no broker is reachable.
    pub away_reason: Option<String>,
    /// Figures of librdkafka.
    pub traffic: Option<Traffic>,
}

/// Durations of the stages that a row passes.
#[derive(Debug, Clone)]
pub struct Stages {
    /// From the creation of the row to the ring or timer that led to its fetch.
    pub wake: Timing,
    /// From there to the end of the fetch.
    pub fetch: Timing,
    /// From there to the acknowledgement by Kafka.
    pub acknowledge: Timing,
    /// From there to the delete.
    pub delete: Timing,
    /// From the creation of the row to the acknowledgement by Kafka.
    pub total: Timing,
}
