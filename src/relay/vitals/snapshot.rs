//! All that a relay knows of itself at one moment.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::{
    Ailment, BellState, Histograms, Role, Seen, State, Timing, Vitals, is_finite, unix_micros,
};
use crate::kafka::Traffic;
use crate::postgres::survey::Pin;
use crate::relay::window::Standing;

/// One outbox's relay at one moment. Durations are in seconds, points in time are seconds since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The table, as it is configured.
    pub outbox: String,
    /// The route of rows that name no topic.
    pub topic: String,
    /// What it is.
    pub role: Role,
    /// For how long.
    pub role_seconds: f64,
    /// The PostgreSQL that it speaks to, or spoke to last: host and port.
    pub server: Option<String>,
    /// What is wrong, the worst first.
    pub troubles: Vec<Trouble>,
    /// Whether writers ring.
    pub bell: Bell,
    /// Counts of rows since the process began.
    pub rows: Rows,
    /// Bytes of the rows that were fetched: payload, key and headers.
    pub bytes: u64,
    /// Fetches, and those of them that brought rows.
    pub fetches: u64,
    /// Fetches that brought rows.
    pub batches: u64,
    /// Deletes that failed.
    pub delete_failures: u64,
    /// Times the cursor went back, to rows with ids below it.
    pub cursor_moves: u64,
    /// Times it became the leader.
    pub takeovers: u64,
    /// Times it had to connect anew after something was lost.
    pub reconnects: u64,
    /// Producers that were of no more use.
    pub producer_failures: u64,
    /// What is under way; `None` where it does not lead.
    pub in_flight: Option<InFlight>,
    /// What waits; `None` where it does not lead, or has not looked yet.
    pub backlog: Option<Backlog>,
    /// Keys that wait behind a row which Kafka cannot take. Their rows are not counted in the backlog.
    pub held_keys: usize,
    /// Ranges of ids that a fetch jumped over and that may still commit.
    pub gaps: usize,
    /// When Kafka last acknowledged a row.
    pub last_acknowledged: Option<f64>,
    /// For how long no fetch came to an end; `None` where it does not lead.
    pub look_seconds: Option<f64>,
    /// How many transactions ago the oldest snapshot was taken that somebody still holds, as of the sweep.
    pub xmin_age: Option<i64>,
    /// Who holds it, as of the sweep, if that is for longer than a moment.
    pub pin: Option<Pin>,
    /// What is known of Kafka.
    pub kafka: KafkaState,
    /// Stages of the rows' way.
    #[serde(skip)]
    pub stages: Stages,
    /// Its last changes of state, the oldest first.
    pub changes: Vec<Change>,
    /// Why the last row was parked since the process began.
    pub last_parked: Option<String>,
    /// How long the sweep waits between two looks.
    pub sweep_seconds: f64,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    /// What kind of thing.
    pub ailment: Ailment,
    /// What it is.
    pub words: String,
    /// For how long.
    pub seconds: f64,
}

/// A change of state.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When.
    pub at: f64,
    /// To what.
    pub words: String,
}

/// The bell.
#[derive(Debug, Clone, Serialize)]
pub struct Bell {
    /// Whether writers ring.
    pub state: BellState,
    /// How often that changed.
    pub changes: u64,
    /// Rings that were heard.
    pub rings: u64,
}

/// Rows since the process began.
#[derive(Debug, Clone, Serialize)]
pub struct Rows {
    /// Brought by fetches.
    pub fetched: u64,
    /// Acknowledged by Kafka.
    pub published: u64,
    /// Deleted from the table.
    pub deleted: u64,
    /// Such as Kafka can never take.
    pub refused: u64,
    /// Moved to the dead letters.
    pub parked: u64,
    /// Handed over, and to be sent once more.
    pub retried: u64,
    /// Found by the sweep alone.
    pub swept: u64,
}

/// What is under way.
#[derive(Debug, Clone, Serialize)]
pub struct InFlight {
    /// Rows that are fetched and not deleted.
    pub rows: usize,
    /// Those of them that Kafka has not acknowledged.
    pub unacknowledged: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Rows wait for Kafka, and none was acknowledged for so long.
    pub unacknowledged_seconds: Option<f64>,
    /// Rows that Kafka has are to be deleted, and none was for so long.
    pub undeleted_seconds: Option<f64>,
}

/// What waits.
#[derive(Debug, Clone, Serialize)]
pub struct Backlog {
    /// Rows in the table, as far as they were counted.
    pub rows: u64,
    /// Whether there are more.
    pub is_more: bool,
    /// The age of the oldest.
    pub oldest_seconds: Option<f64>,
    /// Those of them that Kafka can never take and that are not parked yet.
    pub refused: usize,
}

/// What is known of Kafka.
#[derive(Debug, Clone, Serialize)]
pub struct KafkaState {
    /// For how long no broker can be reached.
    pub away_seconds: Option<f64>,
    /// Why.
    pub away_reason: Option<String>,
    /// librdkafka's figures.
    pub traffic: Option<Traffic>,
}

/// Stages of the rows' way.
#[derive(Debug, Clone)]
pub struct Stages {
    /// From the row's creation to the ring or the pause's end that led to its fetch.
    pub wake: Timing,
    /// From there to the fetch's end.
    pub fetch: Timing,
    /// From there to Kafka's acknowledgement.
    pub acknowledge: Timing,
    /// From there to the delete.
    pub delete: Timing,
    /// From the row's creation to Kafka's acknowledgement.
    pub total: Timing,
}

impl Vitals {
    /// All of it now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let ago = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        let UnderWay {
            standing,
            refused,
            held_keys,
        } = self.under_way();
        let state = self.state();
        let leads = state.role == Role::Leading;
        let seen = self.seen();
        let acknowledged = self.acknowledged_at.load(Ordering::Relaxed);
        Snapshot {
            outbox: self.outbox.clone(),
            topic: self.topic.clone(),
            role: state.role,
            role_seconds: ago(state.since),
            server: state.server.clone(),
            troubles: state.troubles(&ago),
            bell: Bell {
                state: state.bell,
                changes: self.bell_changes.get(),
                rings: self.rings.get(),
            },
            rows: self.rows(),
            bytes: self.bytes.get(),
            fetches: self.fetches.get(),
            batches: self.batches.get(),
            delete_failures: self.delete_failures.get(),
            cursor_moves: self.cursor_moves.get(),
            takeovers: self.takeovers.get(),
            reconnects: self.reconnects.get(),
            producer_failures: self.producer_failures.get(),
            backlog: standing.as_ref().and_then(|it| seen.backlog(it, refused)),
            in_flight: standing.map(in_flight),
            held_keys,
            gaps: self.gaps.load(Ordering::Relaxed),
            last_acknowledged: (acknowledged > 0).then_some(acknowledged as f64 / 1e6),
            look_seconds: leads.then(|| ago(seen.looked.unwrap_or(state.since))),
            xmin_age: seen.xmin_age.filter(|_| leads),
            pin: seen.pin(&ago).filter(|_| leads),
            kafka: self.kafka_state(&ago),
            stages: self.stages.read(),
            changes: state.changes.iter().cloned().collect(),
            last_parked: state.last_parked.clone(),
            sweep_seconds: self.sweep.as_secs_f64(),
        }
    }

    /// What is under way while it leads. One lock at a time: the stages hold them too.
    fn under_way(&self) -> UnderWay {
        let state = self.state();
        let leads = state.role == Role::Leading;
        let (shared, memory) = (state.term.upgrade(), state.memory.upgrade());
        drop(state);
        let (refused, held_keys) = memory.filter(|_| leads).map_or((0, 0), |memory| {
            let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            (memory.refused.len(), memory.held.count())
        });
        let standing = shared.filter(|_| leads).map(|it| it.window().standing());
        UnderWay {
            standing,
            refused,
            held_keys,
        }
    }

    fn kafka_state(&self, ago: &dyn Fn(Instant) -> f64) -> KafkaState {
        let away = self.kafka.away();
        KafkaState {
            away_seconds: away.as_ref().map(|(since, _)| ago(*since)),
            away_reason: away.map(|(_, reason)| reason),
            traffic: self.kafka.traffic(),
        }
    }

    fn rows(&self) -> Rows {
        Rows {
            fetched: self.fetched.get(),
            published: self.published.get(),
            deleted: self.deleted.get(),
            refused: self.refused.get(),
            parked: self.parked.get(),
            retried: self.retried.get(),
            swept: self.swept.get(),
        }
    }
}

/// What is under way.
struct UnderWay {
    standing: Option<Standing>,
    /// Refused rows that are in the table.
    refused: usize,
    held_keys: usize,
}

impl State {
    fn troubles(&self, ago: &dyn Fn(Instant) -> f64) -> Vec<Trouble> {
        let trouble = |(ailment, (since, words)): (&Ailment, &(Instant, String))| Trouble {
            ailment: *ailment,
            words: words.clone(),
            seconds: ago(*since),
        };
        self.troubles.iter().map(trouble).collect()
    }
}

impl Seen {
    /// Held for as much longer as nobody looked.
    fn pin(&self, ago: &dyn Fn(Instant) -> f64) -> Option<Pin> {
        let (pin, seen) = self.pin.clone()?;
        let seconds = pin.seconds.map(|seconds| seconds + ago(seen));
        Some(Pin { seconds, ..pin })
    }

    /// Rows above the cursor, and those that were fetched and are still in the table.
    fn backlog(&self, standing: &Standing, refused: usize) -> Option<Backlog> {
        // Rows below the cursor are older than those above it, as a rule.
        let oldest = standing.oldest.or(self.oldest).filter(|at| is_finite(*at));
        let age = |at: i64| unix_micros(SystemTime::now()).saturating_sub(at).max(0) as f64 / 1e6;
        Some(Backlog {
            rows: self.above? + (standing.rows + refused) as u64,
            is_more: self.is_more,
            oldest_seconds: oldest.map(age),
            refused,
        })
    }
}

impl Histograms {
    fn read(&self) -> Stages {
        Stages {
            wake: self.wake.read(),
            fetch: self.fetch.read(),
            acknowledge: self.acknowledge.read(),
            delete: self.delete.read(),
            total: self.total.read(),
        }
    }
}

fn in_flight(standing: Standing) -> InFlight {
    let seconds = |micros: u64| micros as f64 / 1e6;
    InFlight {
        rows: standing.rows,
        unacknowledged: standing.unacknowledged,
        bytes: standing.bytes,
        unacknowledged_seconds: standing.unacknowledged_for.map(seconds),
        undeleted_seconds: standing.undeleted_for.map(seconds),
    }
}
