//! Writers that continue through outages, and what must have arrived afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::{Received, World, eventually};

/// Rows of each transaction, and keys in all.
const KEYS: usize = 10;
/// The pause between two transactions: some thousand rows a second, which a busy machine can
/// handle.
const PAUSE: Duration = Duration::from_millis(3);

/// One session that inserts until it is told to end. The payload of each row is `key number`; the
/// numbers of a key ascend.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicUsize>,
    writer: JoinHandle<Written>,
}

/// What was written.
pub(crate) struct Written {
    committed: Vec<String>,
    /// Rows whose COMMIT was not answered.
    unknown: HashSet<String>,
}

impl Load {
    pub(crate) fn start(world: &World) -> Self {
        Self::to(vec![world.database_url.clone()])
    }

    /// Writes to the server that is not in recovery, as a driver with several hosts does.
    pub(crate) fn to(urls: Vec<String>) -> Self {
        let (stop, rows) = (Arc::default(), Arc::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rows));
        let writer = std::thread::spawn(move || write(&urls, &stopped, &counted));
        Self { stop, rows, writer }
    }

    /// Waits until so many more rows are committed.
    #[track_caller]
    pub(crate) fn await_rows(&self, more: usize) {
        let until = self.rows.load(Ordering::Relaxed) + more;
        eventually(&format!("{until} rows are written"), || {
            (self.rows.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    pub(crate) fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.writer
            .join()
            .expect("the writer goes on through outages")
    }
}

/// Opens a session that may write.
async fn connect(url: &str) -> Option<PgConnection> {
    let options: PgConnectOptions = url.parse().expect("a database URL");
    let mut session = options.disable_statement_logging().connect().await.ok()?;
    let row = session.fetch_one("SELECT pg_is_in_recovery()").await.ok()?;
    (!row.get::<bool, _>(0)).then_some(session)
}

fn write(urls: &[String], stop: &AtomicBool, rows: &AtomicUsize) -> Written {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let connect = || -> PgConnection {
        eventually("PostgreSQL takes connections", || {
            urls.iter().find_map(|url| runtime.block_on(connect(url)))
        })
    };
    let mut session = connect();
    let mut written = Written {
        committed: Vec::new(),
        unknown: HashSet::new(),
    };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payloads = (0..KEYS).map(|key| format!("k{key} {number}"));
        let insert = format!(
            "INSERT INTO outbox (type, key, payload) SELECT 'load', 'k' || k, 'k' || k || ' {number}' FROM generate_series(0, {}) k",
            KEYS - 1
        );
        match runtime.block_on(session.execute(AssertSqlSafe(insert))) {
            Ok(_) => {
                written.committed.extend(payloads);
                rows.fetch_add(KEYS, Ordering::Relaxed);
            }
            Err(_) => {
                written.unknown.extend(payloads);
                session = connect();
            }
        }
        std::thread::sleep(PAUSE);
    }
    written
}

impl Written {
    pub(crate) fn rows(&self) -> usize {
        self.committed.len()
    }

    /// Checks that nothing is lost, nothing is made up, and the first arrivals of each key are in
    /// order. Returns how many rows arrived more than once.
    #[track_caller]
    pub(crate) fn check(&self, received: &[Received]) -> usize {
        let mut seen = HashSet::new();
        let mut last: HashMap<&str, u64> = HashMap::new();
        let mut duplicates = 0;
        for record in received {
            let text = record.text();
            if !seen.insert(text) {
                duplicates += 1;
                continue;
            }
            let (key, number) = text.split_once(' ').expect("a key and a number");
            let number: u64 = number.parse().expect("a number");
            assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
            if let Some(before) = last.insert(key, number) {
                assert!(before < number, "{key}: {number} came after {before}");
            }
        }
        let committed: HashSet<&str> = self.committed.iter().map(String::as_str).collect();
        let lost: Vec<_> = committed.difference(&seen).take(5).collect();
        assert!(lost.is_empty(), "lost: {lost:?} ...");
        let made_up = |text: &&&str| !committed.contains(**text) && !self.unknown.contains(**text);
        let made_up: Vec<_> = seen.iter().filter(made_up).take(5).collect();
        assert!(made_up.is_empty(), "never committed: {made_up:?} ...");
        duplicates
    }
}
