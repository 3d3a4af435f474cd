//! The bare loop: fetch by cursor, produce, delete, at the same time and with nothing else. It loses rows that commit late, holds any
//! number of bytes, stops at the first trouble, and cannot route; what the relay does about all of that is what the comparison shows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use sqlx::postgres::{PgConnection, PgListener, PgRow};
use sqlx::{Executor, Row, ValueRef};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use doorbell::event::OutboxId;

use crate::stage::{Stage, connect};

/// The relay's bounds.
const WINDOW: usize = 20_000;
const FETCH: usize = 4_000;
/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_2000: i64 = 946_684_800_000_000;

const FETCH_ROWS: &str = "SELECT id, created_at, type, payload, key, topic, headers FROM outbox WHERE id > $1 ORDER BY id LIMIT $2";

/// A bare loop at work; dropped, it ends where it is.
pub(crate) struct Bare {
    acks: Arc<Acks>,
    tasks: JoinSet<anyhow::Result<()>>,
    /// When its first fetch began.
    pub(crate) begun: Instant,
}

/// Ids that Kafka has.
#[derive(Default)]
struct Acks {
    ids: Mutex<Vec<i64>>,
    /// When each came, for the latency; one number a row.
    times: Option<Mutex<Vec<(i64, Instant)>>>,
    arrived: Notify,
}

/// What librdkafka calls.
struct Context(Arc<Acks>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        // A failed record stays in the table, and the bench ends by its patience.
        if result.is_err() {
            return;
        }
        let id = id as i64;
        if let Some(times) = &self.0.times {
            lock(times).push((id, Instant::now()));
        }
        let mut ids = lock(&self.0.ids);
        ids.push(id);
        if ids.len() == 1 {
            self.0.arrived.notify_one();
        }
    }
}

impl Bare {
    /// Everything is connected before its clock starts.
    pub(crate) async fn start(
        stage: &mut Stage,
        topic: &str,
        note_times: bool,
    ) -> anyhow::Result<Self> {
        let acks = Arc::new(Acks {
            times: note_times.then(Mutex::default),
            ..Acks::default()
        });
        let mut listener = PgListener::connect(&stage.database_url).await?;
        listener.listen(&stage.channel().await?).await?;
        // The key that a relay holds while it sleeps: with it held, every insert rings.
        listener
            .execute("SELECT pg_advisory_lock(1650814060, 'outbox'::regclass::oid::int4)")
            .await?;
        let (reader, deleter) = (session(stage).await?, session(stage).await?);
        let producer: ThreadedProducer<Context> =
            settings(&stage.brokers).create_with_context(Context(Arc::clone(&acks)))?;
        let window = Arc::new(Semaphore::new(WINDOW));
        let (batches, to_produce) = mpsc::channel(1);
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(fetch(reader, listener, batches, Arc::clone(&window)));
        tasks.spawn(produce(producer, topic.to_owned(), to_produce));
        tasks.spawn(delete(deleter, Arc::clone(&acks), window));
        Ok(Self { acks, tasks, begun })
    }

    /// When Kafka had each row.
    pub(crate) fn times(&self) -> Vec<(i64, Instant)> {
        self.acks
            .times
            .as_ref()
            .map(|times| lock(times).clone())
            .unwrap_or_default()
    }

    /// Ends it; an error that one of its tasks met is an error of the measurement.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The settings of the relay's producer.
fn settings(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("socket.keepalive.enable", "true")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", (WINDOW * 2).to_string())
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("batch.size", "1000000");
    config
}

/// A session with the relay's settings for plans.
async fn session(stage: &Stage) -> anyhow::Result<PgConnection> {
    let mut session = connect(&stage.database_url).await?;
    session
        .execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0")
        .await?;
    Ok(session)
}

async fn fetch(
    mut session: PgConnection,
    mut rings: PgListener,
    batches: mpsc::Sender<Vec<PgRow>>,
    window: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let mut cursor = i64::MIN;
    loop {
        let room = window.acquire_many(FETCH as u32).await?;
        let rows = session
            .fetch_all(sqlx::query(FETCH_ROWS).bind(cursor).bind(FETCH as i64))
            .await?;
        room.forget();
        // The room that the rows do not take.
        window.add_permits(FETCH - rows.len());
        let full = rows.len() == FETCH;
        if let Some(last) = rows.last() {
            cursor = int(last, 0)?;
            batches.send(rows).await?;
        }
        if !full {
            rings.recv().await?;
        }
    }
}

async fn produce(
    producer: ThreadedProducer<Context>,
    topic: String,
    mut batches: mpsc::Receiver<Vec<PgRow>>,
) -> anyhow::Result<()> {
    let outbox = OutboxId(Uuid::nil());
    while let Some(rows) = batches.recv().await {
        for row in &rows {
            send(&producer, &topic, outbox, row)?;
        }
    }
    Ok(())
}

/// The relay's record.
fn send(
    producer: &ThreadedProducer<Context>,
    topic: &str,
    outbox: OutboxId,
    row: &PgRow,
) -> anyhow::Result<()> {
    let id = int(row, 0)?;
    let created_at = int(row, 1)? + EPOCH_2000;
    let mut event_id = [0; 36];
    outbox
        .event_id(id, created_at)
        .as_hyphenated()
        .encode_lower(&mut event_id);
    let headers = OwnedHeaders::new_with_capacity(3)
        .insert(Header {
            key: "id",
            value: Some(&event_id[..]),
        })
        .insert(Header {
            key: "seq",
            value: Some(id.to_string().as_bytes()),
        })
        .insert(Header {
            key: "type",
            value: bytes(row, 2)?,
        });
    let record = BaseRecord::<[u8], [u8], usize> {
        topic,
        partition: None,
        payload: bytes(row, 3)?,
        key: bytes(row, 4)?,
        timestamp: Some(created_at / 1_000),
        headers: Some(headers),
        delivery_opaque: id as usize,
    };
    producer.send(record).map_err(|(error, _)| error.into())
}

async fn delete(
    mut session: PgConnection,
    acks: Arc<Acks>,
    window: Arc<Semaphore>,
) -> anyhow::Result<()> {
    loop {
        acks.arrived.notified().await;
        let ids = std::mem::take(&mut *lock(&acks.ids));
        let count = ids.len();
        session
            .execute(sqlx::query("DELETE FROM outbox WHERE id = ANY ($1)").bind(ids))
            .await?;
        window.add_permits(count);
    }
}

fn bytes(row: &PgRow, index: usize) -> anyhow::Result<Option<&[u8]>> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(None);
    }
    value
        .as_bytes()
        .map(Some)
        .map_err(anyhow::Error::from_boxed)
}

fn int(row: &PgRow, index: usize) -> anyhow::Result<i64> {
    let bytes = bytes(row, index)?.context("a number is NULL")?;
    Ok(i64::from_be_bytes(bytes.try_into()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
