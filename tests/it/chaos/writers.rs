//! Sessions that insert until they are told to stop, in spite of every outage of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::database::{CITED, Database, OUTBOXES, TWINS};
use super::ledger::{Fate, Ledger, Name};

/// A commit may wait for an unreachable standby; its outcome is then unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// The writers' `application_name` in `pg_stat_activity`.
pub(crate) const APPLICATION: &str = "chaos writer";

pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(crate) fn start(ledger: &Arc<Ledger>, database: &Database, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let write = |name: usize| {
            let writer = Writer {
                name,
                ledger: Arc::clone(ledger),
                database: database.clone(),
                random: fastrand::Rng::with_seed(seed.wrapping_add(1 + name as u64)),
                runtime: super::database::runtime(),
                session: None,
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || writer.write(&stop))
        };
        let threads = (0..ledger.writers()).map(write).collect();
        Self { stop, threads }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a writer goes on through outages");
        }
    }
}

struct Writer {
    name: usize,
    ledger: Arc<Ledger>,
    database: Database,
    random: fastrand::Rng,
    runtime: Runtime,
    session: Option<PgConnection>,
}

/// The session broke, and the transaction with it.
struct Broken;

impl Writer {
    fn write(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            if self.session.is_none() {
                self.session = self.runtime.block_on(self.database.connect(APPLICATION));
                self.pause(5..50);
                continue;
            }
            if self.act().is_err() {
                self.session = None;
            }
            self.pause(0..25);
        }
        if let Some(session) = self.session.take() {
            self.runtime.block_on(session.close()).ok();
        }
    }

    fn pause(&mut self, millis: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.random.u64(millis)));
    }

    /// One transaction.
    fn act(&mut self) -> Result<(), Broken> {
        match self.random.u32(0..100) {
            0..55 => {
                let rows = self.insert("BEGIN;", 1, "")?;
                self.commit(&rows)
            }
            55..75 => {
                let count = self.random.usize(2..30);
                let mut rows = self.insert("BEGIN;", count, "")?;
                rows.extend(self.insert_within(&rows, "", 3, "")?);
                self.commit(&rows)
            }
            // Savepoints: one is rolled back, one released.
            75..85 => {
                let mut rows = self.insert("BEGIN;", 2, "; SAVEPOINT s")?;
                let lost = self.insert_within(&rows, "", 2, "; ROLLBACK TO s")?;
                self.ledger.settle(&lost, Fate::RolledBack);
                let kept = self.insert_within(&rows, "SAVEPOINT t;", 2, "; RELEASE t")?;
                rows.extend(kept);
                self.commit(&rows)
            }
            85..95 => {
                let count = self.random.usize(1..20);
                let rows = self.insert("BEGIN;", count, "")?;
                self.ledger.settle(&rows, Fate::RolledBack);
                self.run("ROLLBACK").map(drop)
            }
            // Open for long.
            95..99 => {
                let rows = self.insert("BEGIN;", 1, "")?;
                self.pause(20..300);
                self.commit(&rows)
            }
            _ => {
                let rows = self.insert("BEGIN;", 1, "")?;
                self.pause(300..1_500);
                self.commit(&rows)
            }
        }
    }

    /// Inserts rows of its keys in one round trip. If that fails, they were never committed,
    /// because no COMMIT was sent.
    fn insert(&mut self, before: &str, count: usize, after: &str) -> Result<Vec<Name>, Broken> {
        let mut names: Vec<Name> = (0..count).map(|_| self.ledger.open(self.name)).collect();
        // The ids come by outbox.
        names.sort_by_key(|name| name.outbox());
        let inserts: Vec<String> = names
            .chunk_by(|one, next| one.outbox() == next.outbox())
            .map(|names| self.insert_into(OUTBOXES[names[0].outbox()], names))
            .collect();
        let sql = format!("{before} {} {after}", inserts.join("; "));
        match self.run(&sql) {
            Ok(ids) => {
                self.ledger.number(&names, &ids);
                Ok(names)
            }
            Err(broken) => {
                self.ledger.settle(&names, Fate::RolledBack);
                Err(broken)
            }
        }
    }

    /// Returns the statement that inserts rows into one outbox and gives their ids.
    fn insert_into(&self, table: &str, names: &[Name]) -> String {
        let id = if table == TWINS {
            "nextval('twin_ids') / 2"
        } else {
            "DEFAULT"
        };
        let values: Vec<String> = names
            .iter()
            .map(|name| format!("({id}, 'chaos', '{}', '{}')", name.key(), name.text()))
            .collect();
        let insert = format!(
            "INSERT INTO {table} (id, type, key, payload) VALUES {} RETURNING id",
            values.join(", ")
        );
        if table == CITED {
            let writer = self.name;
            return format!(
                "DELETE FROM citation WHERE writer = {writer}; \
                 WITH new AS ({insert}), citing AS (INSERT INTO citation SELECT {writer}, min(id) FROM new) SELECT id FROM new"
            );
        }
        insert
    }

    /// Inserts rows in a transaction that already has some: they share its outcome.
    fn insert_within(
        &mut self,
        earlier: &[Name],
        before: &str,
        count: usize,
        after: &str,
    ) -> Result<Vec<Name>, Broken> {
        self.insert(before, count, after).inspect_err(|_| {
            self.ledger.settle(earlier, Fate::RolledBack);
        })
    }

    fn commit(&mut self, rows: &[Name]) -> Result<(), Broken> {
        match self.run("COMMIT") {
            Ok(_) => {
                self.ledger.settle(rows, Fate::Committed(Instant::now()));
                Ok(())
            }
            Err(broken) => {
                self.ledger.settle(rows, Fate::Unknown);
                Err(broken)
            }
        }
    }

    /// Runs statements, and returns the numbers that they give.
    fn run(&mut self, sql: &str) -> Result<Vec<i64>, Broken> {
        let session = self.session.as_mut().ok_or(Broken)?;
        let work = session.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)));
        // Creating the time-out needs the runtime's clock, too.
        let answer = self
            .runtime
            .block_on(async { timeout(PATIENCE, work).await });
        let rows = answer.map_err(|_| Broken)?.map_err(|_| Broken)?;
        rows.iter()
            .map(|row| row.try_get(0).map_err(|_| Broken))
            .collect()
    }
}
