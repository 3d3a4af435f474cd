//! Metrics: name, help text, and source. `docs/metrics.md` explains them; a test compares the two.

use std::fs;
use std::sync::LazyLock;
use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use super::health::OutboxHealth;
use crate::relay::{BellState, InFlight, Role, Snapshot, Timing};

/// One metric, with a value for each outbox.
pub struct Metric {
    /// Name, without the `_total` of a counter.
    pub name: &'static str,
    /// One sentence, without a full stop.
    pub help: &'static str,
    pub(super) value: MetricValue,
}

impl Metric {
    /// Returns the name under which Prometheus stores it: that of a counter ends in `_total`.
    pub fn full_name(&self) -> String {
        match self.value {
            Count(_) => format!("{}_total", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Returns its Prometheus type.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Count(_) => "counter",
            Level(_) | States(..) => "gauge",
            Stages => "histogram",
        }
    }
}

/// Source of a metric. `None` if there is no value now.
pub(super) enum MetricValue {
    Count(fn(&Snapshot) -> Option<u64>),
    /// Gauge.
    Level(fn(&OutboxHealth) -> Option<f64>),
    /// Gauge for each word under this label: 1 for the one that applies, 0 for the others.
    States(&'static str, fn(&Snapshot) -> Vec<(&'static str, bool)>),
    /// Histogram for each stage of a row, under the label `stage`.
    Stages,
}

use MetricValue::{Count, Level, Stages, States};

/// Makes the table of metrics: name, help text, and source.
macro_rules! metrics {
    ($($name:literal $help:literal $value:expr;)*) => {
        &[$(Metric { name: $name, help: $help, value: $value },)*]
    };
}

/// All metrics with the label `outbox`.
pub const REGISTRY: &[Metric] = metrics! {
    "doorbell_ready" "1 if /readyz calls this outbox ready"
        Level(|it| Some(f64::from(it.readiness.ready)));
    "doorbell_role" "1 for the role of this relay"
        States("role", |it| Role::ALL.map(|role| (role.word(), role == it.role)).to_vec());
    "doorbell_stage_duration_seconds"
        "Latency of rows by stage: wake, fetch, acknowledge, delete, and total from creation to acknowledgement"
        Stages;
    "doorbell_rows_fetched" "Rows that fetches returned"
        Count(|it| Some(it.rows.fetched));
    "doorbell_rows_published" "Rows that Kafka acknowledged"
        Count(|it| Some(it.rows.published));
    "doorbell_rows_deleted" "Rows that were deleted from the table"
        Count(|it| Some(it.rows.deleted));
    "doorbell_rows_dropped" "Rows that a route dropped: they were deleted without having been sent"
        Count(|it| Some(it.rows.dropped));
    "doorbell_rows_refused" "Rows that Kafka can never accept"
        Count(|it| Some(it.rows.refused));
    "doorbell_rows_parked" "Rows that were moved to the dead letters"
        Count(|it| Some(it.rows.parked));
    "doorbell_rows_retried" "Rows that were handed to the producer and have to be sent again"
        Count(|it| Some(it.rows.retried));
    "doorbell_rows_swept" "Rows that only the sweep found, without a notification"
        Count(|it| Some(it.rows.swept));
    "doorbell_fetched_bytes" "Bytes of all columns of the rows that fetches returned"
        Count(|it| Some(it.bytes));
    "doorbell_fetches" "Fetches"
        Count(|it| Some(it.fetches));
    "doorbell_batches" "Fetches that returned rows"
        Count(|it| Some(it.batches));
    "doorbell_delete_failures" "Deletes that failed and were retried"
        Count(|it| Some(it.delete_failures));
    "doorbell_rings" "Notifications that were received"
        Count(|it| Some(it.bell.rings));
    "doorbell_bell" "1 for the state of the bell while this relay leads"
        States("state", |it| {
        let is = |state: BellState| it.role == Role::Leading && it.bell.state == state;
        BellState::ALL
            .map(|state| (state.word(), is(state)))
            .to_vec()
        });
    "doorbell_bell_changes" "Changes between the states asleep, awake and waiting"
        Count(|it| Some(it.bell.changes));
    "doorbell_cursor_moves" "Times the cursor was moved back to rows below it"
        Count(|it| Some(it.cursor_moves));
    "doorbell_takeovers" "Times this relay became the leader"
        Count(|it| Some(it.takeovers));
    "doorbell_reconnects" "Reconnects after a connection was lost"
        Count(|it| Some(it.reconnects));
    "doorbell_producer_failures" "Producers that failed and were replaced"
        Count(|it| Some(it.producer_failures));
    "doorbell_reserved_headers" "Headers of rows that were left out, since the relay sets headers of these names"
        Count(|it| Some(it.reserved_headers));
    "doorbell_backlog_rows" "Rows in the table, counted up to 100000 above those in flight"
        Level(|it| Some(it.relay.backlog.as_ref()?.rows as f64));
    "doorbell_oldest_row_age_seconds" "Age of the oldest row in the table; 0 without one"
        Level(|it| Some(it.relay.backlog.as_ref()?.oldest_seconds.unwrap_or(0.0)));
    "doorbell_delayed_rows" "Rows whose time is to come, counted up to 100000, as of the last sweep; they are no backlog"
        Level(|it| Some(it.relay.delayed.as_ref()?.rows as f64));
    "doorbell_refused_rows" "Refused rows that are still in the table"
        Level(|it| Some(it.relay.backlog.as_ref()?.refused as f64));
    "doorbell_dead_letters" "Dead letters, counted up to 100000, as of the last sweep"
        Level(|it| it.relay.dead_letters.map(|letters| letters as f64));
    "doorbell_held_keys" "Keys whose rows wait behind a row that Kafka rejected"
        Level(|it| (it.relay.role == Role::Leading).then_some(it.relay.held_keys as f64));
    "doorbell_kept_rows" "Rows that Kafka has and that the table keeps"
        Level(|it| (it.relay.role == Role::Leading).then_some(it.relay.kept_rows as f64));
    "doorbell_in_flight_rows" "Rows between fetch and delete"
        Level(|it| flight(it, |flight| flight.rows as f64));
    "doorbell_unacknowledged_rows" "Rows between fetch and acknowledgement"
        Level(|it| flight(it, |flight| flight.unacknowledged as f64));
    "doorbell_unacknowledged_bytes" "Bytes of rows between fetch and acknowledgement"
        Level(|it| flight(it, |flight| flight.bytes as f64));
    "doorbell_gaps" "Ranges of ids that a fetch skipped and that may still be committed"
        Level(|it| (it.relay.role == Role::Leading).then_some(it.relay.gaps as f64));
    "doorbell_last_acknowledged_timestamp_seconds" "When Kafka last acknowledged a row"
        Level(|it| it.relay.last_acknowledged);
    "doorbell_xmin_age_transactions"
        "Age in transactions of the oldest snapshot that is still held, as of the last sweep"
        Level(|it| it.relay.xmin_age.map(|age| age as f64));
    "doorbell_kafka_reachable" "1 if a broker is reachable, as far as the producer knows"
        Level(|it| {
        let is_there = it.relay.kafka.away_seconds.is_none();
        (it.relay.role == Role::Leading).then_some(f64::from(is_there))
        });
    "doorbell_kafka_brokers" "Brokers that the producer knows"
        Level(|it| Some(it.relay.kafka.traffic?.brokers as f64));
    "doorbell_kafka_brokers_up" "Brokers that the producer is connected to"
        Level(|it| Some(it.relay.kafka.traffic?.brokers_up as f64));
    "doorbell_kafka_queued_rows" "Records in the producer's queues and on the wire"
        Level(|it| Some(it.relay.kafka.traffic?.queued as f64));
    "doorbell_kafka_queued_bytes" "Bytes of records in the producer's queues and on the wire"
        Level(|it| Some(it.relay.kafka.traffic?.queued_bytes as f64));
    "doorbell_kafka_round_trip_mean_seconds"
        "Mean time from a request to its response, slowest broker"
        Level(|it| Some(it.relay.kafka.traffic?.round_trip?.0));
    "doorbell_kafka_round_trip_p99_seconds" "99th percentile of that time, slowest broker"
        Level(|it| Some(it.relay.kafka.traffic?.round_trip?.1));
    "doorbell_kafka_request_retries" "Requests that were sent to a broker again"
        Count(|it| Some(it.kafka.traffic?.request_retries));
    "doorbell_kafka_request_timeouts" "Requests that timed out"
        Count(|it| Some(it.kafka.traffic?.request_timeouts));
};

fn flight(it: &OutboxHealth, of: fn(&InFlight) -> f64) -> Option<f64> {
    it.relay.in_flight.as_ref().map(of)
}

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

/// Name (without the `_total` of a counter), help text, and whether it is a counter, in the order
/// of `process_figures`.
pub const PROCESS: [(&str, &str, bool); 7] = [
    (
        "process_cpu_seconds",
        "CPU time used, in user and in system mode",
        true,
    ),
    (
        "process_resident_memory_bytes",
        "Memory of the process that is resident",
        false,
    ),
    (
        "process_virtual_memory_bytes",
        "Address space of the process",
        false,
    ),
    (
        "process_start_time_seconds",
        "When the process started",
        false,
    ),
    ("process_open_fds", "Open file descriptors", false),
    (
        "process_max_fds",
        "Most file descriptors that the process may open",
        false,
    ),
    ("process_threads", "Threads of the process", false),
];

/// Figures of the process, under the names that Prometheus's clients give them. `None` where there
/// is no /proc.
pub(super) fn process_figures() -> Option<[f64; PROCESS.len()]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses, and may have any character. The third field is the
    // first behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Some([
        (field(14)? + field(15)?) / ticks,
        field(24)? * page,
        field(23)?,
        *BOOTED + field(22)? / ticks,
        open as f64,
        most.map_or(f64::INFINITY, |most| most as f64),
        field(20)?,
    ])
}

/// When the machine started; read once, so that a clock that is set does not move it. Not from
/// /proc/stat, which `ProcSubset=pid` of the unit hides.
static BOOTED: LazyLock<f64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0.0, |it| it.as_secs_f64());
    let up = clock_gettime(SINCE_BOOT);
    now - (up.tv_sec as f64 + up.tv_nsec as f64 / 1e9)
});

/// The clock by which the kernel counts the start of a process.
#[cfg(target_os = "linux")]
const SINCE_BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;
