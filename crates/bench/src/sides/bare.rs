//! The bare loop: fetch by cursor, produce, delete, at the same time and with nothing else. It
//! loses rows that commit late, holds any number of bytes, stops at the first trouble, and cannot
//! route; what the relay does about all of that is what the comparison shows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Executor, Row};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use doorbell::RowId;
use doorbell::bench_support::OutboxId;

use super::embedded::Stations;
use crate::fixture::{BELL_CLASS, Fixture, Session};

/// The relay's bounds.
const WINDOW: usize = 20_000;
const FETCH: usize = 4_000;
/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// A bare loop at work; dropped, it ends where it is.
pub(crate) struct Bare {
    acks: Arc<Acks>,
    /// Room for rows in flight.
    window: Arc<Semaphore>,
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

struct Callback(Arc<Acks>);

impl ClientContext for Callback {}

impl ProducerContext for Callback {
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
        fixture: &mut Fixture,
        topic: &str,
        note_times: bool,
    ) -> anyhow::Result<Self> {
        let acks = Arc::new(Acks {
            times: note_times.then(Mutex::default),
            ..Acks::default()
        });
        let scratch = &mut fixture.scratch;
        let table = scratch.table();
        let channel = format!("SELECT 'doorbell:' || '{table}'::regclass::oid");
        let channel: String = scratch.session.value(&channel).await?;
        let options = scratch.server.options("bench bare loop");
        let pool = PgPoolOptions::new().max_connections(1);
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
        listener.listen(&channel).await?;
        // The key that a relay holds while it sleeps: with it held, every insert rings.
        let key = format!("SELECT pg_advisory_lock({BELL_CLASS}, '{table}'::regclass::oid::int4)");
        listener.execute(AssertSqlSafe(key)).await?;
        let (reader, deleter) = (session(fixture).await?, session(fixture).await?);
        let producer: ThreadedProducer<Callback> = settings(&fixture.settings.kafka.brokers)
            .create_with_context(Callback(Arc::clone(&acks)))?;
        let window = Arc::new(Semaphore::new(WINDOW));
        let (batches, to_produce) = mpsc::channel(1);
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        let (room, noted) = (Arc::clone(&window), Arc::clone(&acks));
        tasks.spawn(fetch(reader, table.clone(), listener, batches, room));
        tasks.spawn(produce(producer, topic.to_owned(), to_produce));
        tasks.spawn(delete(deleter, table, noted, Arc::clone(&window)));
        Ok(Self {
            acks,
            window,
            tasks,
            begun,
        })
    }

    /// Ends it, once the acknowledgement of each record is back: a consumer may have it before.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Stations> {
        // None of its tasks ends by itself: one that has ended has failed.
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        let all = self.window.acquire_many(WINDOW as u32);
        let all = timeout(Duration::from_secs(10), all).await;
        all.context("a record was not acknowledged")?.map(drop)?;
        self.tasks.shutdown().await;
        let times = self.acks.times.as_ref().map(|times| lock(times).clone());
        Ok(Stations::of_acknowledgements(times.unwrap_or_default()))
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
async fn session(fixture: &Fixture) -> anyhow::Result<Session> {
    let mut session = fixture.scratch.connect("bench bare loop").await?;
    let settings = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";
    session.batch(settings).await?;
    Ok(session)
}

async fn fetch(
    mut session: Session,
    table: String,
    mut rings: PgListener,
    batches: mpsc::Sender<Vec<PgRow>>,
    window: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT id, created_at, type, payload, key, topic, headers FROM {table} WHERE id > $1 ORDER BY id LIMIT $2"
    );
    let mut cursor = i64::MIN;
    loop {
        let room = window.acquire_many(FETCH as u32).await?;
        let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind(cursor);
        let query = query.bind(FETCH as i64);
        let rows = query.fetch_all(session.connection()).await?;
        room.forget();
        // The room that the rows do not take.
        window.add_permits(FETCH - rows.len());
        let full = rows.len() == FETCH;
        if let Some(last) = rows.last() {
            cursor = last.try_get(0)?;
            batches.send(rows).await?;
        }
        if !full {
            rings.recv().await?;
        }
    }
}

async fn produce(
    producer: ThreadedProducer<Callback>,
    topic: String,
    mut batches: mpsc::Receiver<Vec<PgRow>>,
) -> anyhow::Result<()> {
    while let Some(rows) = batches.recv().await {
        for row in &rows {
            send(&producer, &topic, row)?;
        }
    }
    Ok(())
}

fn send(producer: &ThreadedProducer<Callback>, topic: &str, row: &PgRow) -> anyhow::Result<()> {
    let id: i64 = row.try_get(0)?;
    let created_at = row.try_get_unchecked::<i64, _>(1)? + EPOCH_2000;
    let mut event_id = [0; 36];
    OutboxId(Uuid::nil())
        .event_id(RowId { id, created_at })
        .as_hyphenated()
        .encode_lower(&mut event_id);
    let seq = id.to_string();
    let mut headers = OwnedHeaders::new_with_capacity(3);
    for (key, value) in [
        ("id", Some(&event_id[..])),
        ("seq", Some(seq.as_bytes())),
        ("type", raw(row, 2)?),
    ] {
        headers = headers.insert(Header { key, value });
    }
    let record = BaseRecord::<[u8], [u8], usize> {
        topic,
        partition: None,
        payload: raw(row, 3)?,
        key: raw(row, 4)?,
        timestamp: Some(created_at / 1_000),
        headers: Some(headers),
        delivery_opaque: id as usize,
    };
    producer.send(record).map_err(|(error, _)| error.into())
}

async fn delete(
    mut session: Session,
    table: String,
    acks: Arc<Acks>,
    window: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let sql = format!("DELETE FROM {table} WHERE id = ANY ($1)");
    loop {
        acks.arrived.notified().await;
        let ids = std::mem::take(&mut *lock(&acks.ids));
        let count = ids.len();
        let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind(ids);
        query.execute(session.connection()).await?;
        window.add_permits(count);
    }
}

/// A column as it came; the relay does not decode texts either.
fn raw(row: &PgRow, index: usize) -> sqlx::Result<Option<&[u8]>> {
    row.try_get_unchecked(index)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
