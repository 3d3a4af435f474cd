//! One test's own database and topics.

use std::cell::RefCell;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::{LEFT, PATIENCE, Services, eventually, processes_of, within};

/// A database, a prefix for topics, and a session.
pub(crate) struct World {
    pub(crate) services: Services,
    pub(crate) database_url: String,
    /// The topic that the relay's route makes.
    pub(crate) topic: String,
    name: String,
    runtime: tokio::runtime::Runtime,
    session: Option<PgConnection>,
    /// Topics that were made for the test.
    pub(super) topics: RefCell<Vec<String>>,
}

impl World {
    /// Creates a migrated database on the shared services.
    pub(crate) fn new(test: &str) -> Self {
        let world = Self::empty(test, Services::shared().clone());
        world.migrate(&[]);
        world
    }

    /// Creates a migrated database on services of its own.
    pub(crate) fn on(test: &str, services: Services) -> Self {
        let world = Self::empty(test, services);
        world.migrate(&[]);
        world
    }

    /// Creates an empty database.
    pub(crate) fn empty(test: &str, services: Services) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("doorbell_{test}_{}_{number}", std::process::id());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (server, _) = services
            .database_url
            .rsplit_once('/')
            .expect("a URL with a database");
        let database_url = format!("{server}/{name}");
        let mut world = Self {
            topic: format!("{name}.outbox"),
            services,
            database_url,
            name,
            runtime,
            session: None,
            topics: RefCell::default(),
        };
        let admin = world.services.database_url.clone();
        world.execute_at(&admin, &format!("CREATE DATABASE {}", world.name));
        world.session = Some(world.connect());
        world
    }

    /// Creates a migrated database with another encoding than UTF-8.
    pub(crate) fn encoded(test: &str, encoding: &str) -> Self {
        let mut world = Self::empty(test, Services::shared().clone());
        world.recreate(&format!(
            "TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        ));
        world.migrate(&[]);
        world
    }

    /// Copies the database: its tables have the same OIDs.
    pub(crate) fn copy(&mut self, test: &str) -> Self {
        let mut copy = Self::empty(test, self.services.clone());
        self.session = None;
        copy.recreate(&format!("TEMPLATE {}", self.name));
        self.session = Some(self.connect());
        copy
    }

    fn recreate(&mut self, options: &str) {
        self.session = None;
        let (admin, name) = (self.services.database_url.clone(), self.name.clone());
        self.execute_at(&admin, &format!("DROP DATABASE {name} WITH (FORCE)"));
        // A session that has just been closed may still be there for a moment.
        eventually("the database is created", || {
            let mut session = self.connect_to(&admin);
            let create = format!("CREATE DATABASE {name} {options}");
            self.try_sql_on(&mut session, &create).ok()
        });
        self.session = Some(self.connect());
    }

    /// Deletes a topic that another client creates with the world as well.
    pub(crate) fn will_delete(&self, topic: &str) {
        let mut topics = self.topics.borrow_mut();
        // The library does not accept the same topic twice.
        if !topics.iter().any(|known| known == topic) {
            topics.push(topic.to_owned());
        }
    }

    /// Returns the database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns `host:port` of the server.
    pub(crate) fn host_port(&self) -> &str {
        let rest = self.database_url.split('@').nth(1).expect("a host");
        rest.split('/').next().expect("a host")
    }

    /// Runs `doorbell migrate`.
    pub(crate) fn migrate(&self, flags: &[&str]) {
        let output = self.doorbell(&[&["migrate"], flags].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns the address of the world's database at another server.
    pub(crate) fn database_at(&self, server_url: &str) -> String {
        let (server, _) = server_url.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{}", self.name)
    }

    /// Opens one more session.
    pub(crate) fn connect(&self) -> PgConnection {
        self.connect_to(&self.database_url)
    }

    /// Opens a session at another address.
    pub(crate) fn connect_to(&self, url: &str) -> PgConnection {
        let options: PgConnectOptions = url.parse().expect("a database URL");
        self.runtime
            .block_on(options.disable_statement_logging().connect())
            .expect("a session")
    }

    fn execute_at(&self, url: &str, sql: &str) {
        let mut session = self.connect_to(url);
        self.sql_on(&mut session, sql);
        self.runtime
            .block_on(session.close())
            .expect("a closed session");
    }

    /// Runs statements on the world's session.
    pub(crate) fn sql(&mut self, sql: &str) {
        let mut session = self.session.take().expect("the world's session");
        self.sql_on(&mut session, sql);
        self.session = Some(session);
    }

    /// Runs statements on another session.
    pub(crate) fn sql_on(&self, session: &mut PgConnection, sql: &str) {
        self.try_sql_on(session, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Runs statements that may fail.
    pub(crate) fn try_sql_on(
        &self,
        session: &mut PgConnection,
        sql: &str,
    ) -> Result<(), sqlx::Error> {
        self.runtime
            .block_on(session.execute(sqlx::raw_sql(AssertSqlSafe(sql))))
            .map(drop)
    }

    /// Returns the one text that statements give on another session. They are sent in one round
    /// trip, so they may pass a pooler.
    pub(crate) fn text_on(&self, session: &mut PgConnection, sql: &str) -> String {
        let row = self
            .runtime
            .block_on(session.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql))));
        let row = row.unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.try_get(0).expect("a text")
    }

    /// Returns all rows of a query.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<PgRow> {
        let mut session = self.session.take().expect("the world's session");
        let rows = self
            .runtime
            .block_on(session.fetch_all(sqlx::query(AssertSqlSafe(sql))));
        self.session = Some(session);
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Returns the texts that a query gives.
    pub(crate) fn texts(&mut self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Returns the one number that a query gives.
    pub(crate) fn number(&mut self, sql: &str) -> i64 {
        let row = self.rows(sql).pop().expect("one row");
        row.try_get(0).expect("a bigint")
    }

    /// Waits until the query gives the number.
    #[track_caller]
    pub(crate) fn await_number(&mut self, sql: &str, number: i64) {
        eventually(&format!("{sql} gives {number}"), || {
            (self.number(sql) == number).then_some(())
        });
    }

    /// Waits until no row is left.
    #[track_caller]
    pub(crate) fn await_empty(&mut self) {
        self.await_number("SELECT count(*) FROM outbox", 0);
    }

    /// Waits until the relay of the table `outbox` sleeps: it holds the wake lock.
    #[track_caller]
    pub(crate) fn await_asleep(&mut self) {
        self.await_number(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1650814060 AND mode = 'ExclusiveLock' \
             AND granted AND objid = 'outbox'::regclass::oid \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            1,
        );
    }

    /// Runs a command of the binary in this world.
    pub(crate) fn doorbell(&self, arguments: &[&str]) -> Output {
        doorbell(self, arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs")
    }

    /// Reopens a session that was lost with a restart of the server.
    pub(crate) fn reconnect(&mut self) {
        self.session = None;
        let options: PgConnectOptions = self.database_url.parse().expect("a database URL");
        let options = options.disable_statement_logging();
        let session = eventually("PostgreSQL takes connections", || {
            self.runtime.block_on(options.connect()).ok()
        });
        self.session = Some(session);
    }

    /// Relays end before their world: nothing of theirs may be left. A server that the test has
    /// ended keeps nothing.
    fn await_nothing_left(&mut self) {
        let mut processes = Vec::new();
        let ended = within(PATIENCE, || {
            processes = processes_of(&self.name);
            processes.is_empty().then_some(())
        });
        assert!(ended.is_some(), "processes are left: {processes:?}");
        let Some(mut session) = self.session.take() else {
            return;
        };
        for (what, count) in LEFT {
            // A session ends shortly after its client.
            let gone = within(PATIENCE, || {
                let row = self.runtime.block_on(session.fetch_one(count)).ok();
                let left: i64 = row.map_or(0, |row| row.get(0));
                (left == 0).then_some(())
            });
            assert!(gone.is_some(), "left behind: a {what}");
        }
    }

    /// Runs a future of the test.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // what is left helps to see what happened
        }
        self.await_nothing_left();
        self.session = None;
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let options: PgConnectOptions = self.services.database_url.parse().expect("a URL");
        self.runtime.block_on(async {
            if let Ok(mut session) = options.disable_statement_logging().connect().await {
                session.execute(AssertSqlSafe(drop_it)).await.ok();
            }
        });
        super::kafka::delete_topics(self);
    }
}

/// The binary, with the world's addresses and nothing else of this process's configuration.
pub(crate) fn doorbell(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell"));
    command
        .args(arguments)
        .env_remove("DOORBELL_CONFIG")
        .env_remove("RUST_LOG")
        // Many relays run at once here; a test that sends requests gives its relay a port.
        .env("DOORBELL_LISTEN", "off")
        .env("DATABASE_URL", &world.database_url)
        .env("KAFKA_BROKERS", &world.services.kafka_brokers);
    command
}
