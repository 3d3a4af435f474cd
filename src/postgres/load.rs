//! What a benchmark does to its scratch outbox: it writes, fills, and holds an old snapshot.

use std::time::{Duration, Instant};

use sqlx::Row;

use super::error::{Error, Result};
use super::key::BELL_CLASS;
use super::scratch::Scratch;
use super::session::Session;

/// Inserting and vacuuming gigabytes on a slow disk.
const DEADLINE: Duration = Duration::from_secs(1_800);

/// As many keys as a busy service has at a time.
const KEYS: u32 = 1_000;

/// An SQL expression for JSON text of so many bytes.
fn payload(number: &str, bytes: u32) -> String {
    format!(
        "rpad('{{\"order\": ' || {number} || ', \"note\": \"', {}, 'x') || '\"}}'",
        bytes.saturating_sub(2)
    )
}

impl Scratch {
    /// Inserts rows with one statement; how long that took.
    pub async fn insert(&mut self, rows: u64, bytes: u32) -> Result<Duration> {
        let insert = format!(
            "INSERT INTO {} (type, key, payload) SELECT 'OrderCreated', 'key-' || n % {KEYS}, {} FROM generate_series(1, {rows}) n",
            self.table(),
            payload("n", bytes)
        );
        let begun = Instant::now();
        self.session().batch_within(DEADLINE, &insert).await?;
        Ok(begun.elapsed())
    }

    /// Makes the backlog of one drain, of rows inserted since the table was last emptied, ready; the highest id. The vacuum writes what
    /// the first reader would: each drain finds the same pages.
    pub async fn settle_backlog(&mut self) -> Result<i64> {
        let table = self.table();
        let vacuum = format!("VACUUM {table}");
        self.session().batch_within(DEADLINE, &vacuum).await?;
        let highest = format!("SELECT coalesce(max(id), 0) FROM {table}");
        Ok(self.session().one(&highest, |q| q).await?.try_get(0)?)
    }

    /// Whether all rows up to `last` are gone. Asks for the last row first: a look over the whole table, full of dead rows, would take what is
    /// to be measured.
    pub async fn is_drained(&mut self, last: i64) -> Result<bool> {
        let table = self.table();
        for side in [">=", "<="] {
            let any = format!("SELECT EXISTS (SELECT FROM {table} WHERE id {side} $1)");
            let row = self.session().one(&any, |q| q.bind(last)).await?;
            if row.try_get(0)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows in the outbox.
    pub async fn backlog(&mut self) -> Result<i64> {
        let count = format!("SELECT count(*) FROM {}", self.table());
        let row = self.session().one_within(DEADLINE, &count, |q| q).await?;
        Ok(row.try_get(0)?)
    }

    /// Whether the relay of the scratch outbox sleeps: it holds the lock that writers ask for.
    pub async fn relay_sleeps(&mut self) -> Result<bool> {
        let held = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
            AND l.mode = 'ExclusiveLock' AND l.classid = $1::bigint::oid AND l.objid = pg_catalog.to_regclass($2)::oid \
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))";
        let table = self.table().to_string();
        let row = self
            .session()
            .one(held, |q| q.bind(i64::from(BELL_CLASS)).bind(table))
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Whether our role may make its own commits slower.
    pub async fn may_delay_commits(&mut self) -> Result<bool> {
        match self.session().batch(&delay(Duration::ZERO)).await {
            Ok(()) => Ok(true),
            Err(Error::Refused { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

/// Settings that make each commit of a session wait before it is flushed, as a slow disk would.
fn delay(delay: Duration) -> String {
    format!(
        "SET commit_delay = {}; SET commit_siblings = 0",
        delay.as_micros()
    )
}

/// One client that writes transactions.
pub struct Writer {
    session: Session,
    transaction: String,
    insert: String,
}

impl Writer {
    /// Connects. `number` tells the writers apart; `commit_delay` is for its commits.
    pub async fn open(
        scratch: &Scratch,
        number: u32,
        commit_delay: Option<Duration>,
    ) -> Result<Self> {
        let mut session = Session::open(scratch.server(), "bench writer").await?;
        if let Some(wanted) = commit_delay {
            session
                .batch(&delay(wanted))
                .await
                .map_err(|error| match error {
                    Error::Refused { problem, .. } => Error::refused(
                        problem,
                        "leave --commit-delay out, or let a superuser measure",
                    ),
                    other => other,
                })?;
        }
        let (schema, table) = (scratch.schema(), scratch.table());
        let key = number % KEYS;
        let insert = format!("INSERT INTO {table} (type, key, payload)");
        let event = format!(
            "'OrderCreated', 'key-{key}', {}",
            payload(&number.to_string(), 200)
        );
        Ok(Self {
            session,
            transaction: format!(
                "BEGIN; INSERT INTO {schema}.orders (customer, total) VALUES ('customer-{key}', 12.50); \
                 {insert} VALUES ({event})"
            ),
            insert: format!("{insert} SELECT {event} FROM generate_series(1, $1) RETURNING id"),
        })
    }

    /// One business row and one event in a transaction; how long its COMMIT took.
    pub async fn transact(&mut self) -> Result<Duration> {
        self.session.batch(&self.transaction).await?;
        let begun = Instant::now();
        self.session.batch("COMMIT").await?;
        Ok(begun.elapsed())
    }

    /// The same, rolled back: the session knows its tables and plans afterwards, and a relay that sleeps is not woken.
    pub async fn rehearse(&mut self) -> Result<()> {
        self.session.batch(&self.transaction).await?;
        self.session.batch("ROLLBACK").await
    }

    /// Some events in a transaction of their own; their ids, once they are committed.
    pub async fn insert(&mut self, rows: u32) -> Result<Vec<i64>> {
        let inserted = self
            .session
            .all(&self.insert, |q| q.bind(i64::from(rows)))
            .await?;
        let ids = inserted.iter().map(|row| row.try_get(0));
        Ok(ids.collect::<std::result::Result<_, sqlx::Error>>()?)
    }
}

/// An idle transaction with an old snapshot: no row that was deleted since can be vacuumed away.
pub struct Horizon {
    session: Session,
}

impl Horizon {
    /// Takes the snapshot.
    pub async fn hold(scratch: &Scratch) -> Result<Self> {
        let mut session = Session::open(scratch.server(), "bench horizon").await?;
        session.settle_in().await?;
        session
            .batch("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await?;
        session
            .one("SELECT count(*) FROM pg_catalog.pg_class", |q| q)
            .await?;
        Ok(Self { session })
    }

    /// Lets it go.
    pub async fn release(mut self) -> Result<()> {
        self.session.batch("ROLLBACK").await
    }
}
