//! A benchmark's own outbox: made beside the user's tables, and removed without a trace.

use std::time::Duration;

use sqlx::Row;

use super::error::{Error, Result};
use super::schema::migration;
use super::session::{Server, Session};
use super::table::quote;
use crate::config::TableName;

/// All scratch schemas begin so: what a killed run leaves is known by it.
pub const SCRATCH_PREFIX: &str = "doorbell_bench_";

/// Held while a benchmark runs: two at once would measure each other. Beside the lock of the migration.
const RUNNING: &str = "1685024626, 1";

/// Vacuum, TRUNCATE and DROP of tables with gigabytes; an INSERT of millions of rows.
const DEADLINE: Duration = Duration::from_secs(1_800);

/// How a commit reaches the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ringing {
    /// None at all.
    None,
    /// Each insert notifies.
    Notify,
    /// As the migration makes it.
    Bell,
    /// The same, with the order of commits kept for each key.
    Ordered,
}

/// The optional trigger.
const STRICT_ORDER: &str = include_str!("../../sql/strict_order.sql");

/// The scratch schema, with the session that made it.
pub struct Scratch {
    session: Session,
    server: Server,
    schema: String,
    /// The schema `doorbell` was not there before.
    made_doorbell: bool,
    /// The functions of `sql/strict_order.sql` were not there before, though the schema was.
    made_order: bool,
    /// The order of commits is being kept.
    is_ordered: bool,
}

/// What is there before a benchmark begins.
pub struct Ground {
    session: Session,
    server: Server,
    /// The database's name.
    pub database: String,
    /// Whether the schema `doorbell` is there.
    pub has_doorbell: bool,
    /// Statements that remove what runs left that were killed.
    pub leftovers: Vec<String>,
}

impl Ground {
    /// Looks at what is there, whether a scratch schema may be made, and whether the server has so many sessions left. Changes nothing.
    pub async fn look(server: &Server, sessions: u32) -> Result<Self> {
        let mut session = Session::open(server, "bench").await?;
        session.settle_in().await?;
        let row = session.one(FACTS, |q| q).await?;
        let (user, database): (String, String) = (row.try_get("user")?, row.try_get("database")?);
        let has_doorbell: bool = row.try_get("doorbell")?;
        if !row.try_get::<bool, _>("may_create")? {
            return Err(Error::refused(
                format!("role {user} may not create a schema in database {database}"),
                format!(
                    "GRANT CREATE ON DATABASE {} TO {}, or name another role in DATABASE_URL",
                    quote(&database),
                    quote(&user)
                ),
            ));
        }
        if has_doorbell && !row.try_get::<bool, _>("may_register")? {
            return Err(Error::refused(
                format!("role {user} may not set up an outbox in database {database}"),
                format!(
                    "GRANT USAGE ON SCHEMA doorbell TO {0}; GRANT SELECT, INSERT, DELETE ON doorbell.outbox TO {0}",
                    quote(&user)
                ),
            ));
        }
        let free: i64 = row.try_get("sessions")?;
        if free < i64::from(sessions) {
            return Err(Error::refused(
                format!("the server takes {free} sessions more, and {sessions} are needed"),
                "measure with fewer --clients, or raise max_connections",
            ));
        }
        let lock = format!("SELECT pg_catalog.pg_try_advisory_lock({RUNNING})");
        if !session.one(&lock, |q| q).await?.try_get::<bool, _>(0)? {
            return Err(Error::refused(
                format!("another benchmark is running in database {database}"),
                "wait for its end: two at once would measure each other",
            ));
        }
        let leftovers = leftovers(&mut session, has_doorbell).await?;
        Ok(Self {
            session,
            server: server.clone(),
            database,
            has_doorbell,
            leftovers,
        })
    }

    /// The folder of the database's files, if the server is on this machine and tells it: else `None`.
    ///
    /// The answer of a server behind a tunnel names a folder of another machine. So the folder here must be that of a server that
    /// started at the same time.
    pub async fn data_directory(&mut self) -> Result<Option<String>> {
        let rows = self.session.all(DATA_DIRECTORY, |q| q).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let (folder, tablespace): (Option<String>, String) =
            (row.try_get("folder")?, row.try_get("tablespace")?);
        let Some(folder) = folder else {
            return Ok(None);
        };
        let started: i64 = row.try_get("started")?;
        let here = std::fs::read_to_string(format!("{folder}/postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().nth(2)?.trim().parse::<i64>().ok());
        let is_here = here.is_some_and(|here| (here - started).abs() <= 60);
        Ok(is_here.then_some(if tablespace.is_empty() {
            folder
        } else {
            tablespace
        }))
    }

    /// Makes the scratch schema and its outbox.
    pub async fn make(mut self) -> Result<Scratch> {
        let name =
            "SELECT $1 || substr(replace(pg_catalog.gen_random_uuid()::text, '-', ''), 1, 8)";
        let row = self.session.one(name, |q| q.bind(SCRATCH_PREFIX)).await?;
        let mut scratch = Scratch {
            schema: row.try_get(0)?,
            session: self.session,
            server: self.server,
            made_doorbell: !self.has_doorbell,
            made_order: false,
            is_ordered: false,
        };
        match scratch.fill_schema().await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                // What failed is the news, whatever becomes of the rest.
                scratch.remove().await.ok();
                Err(error)
            }
        }
    }
}

impl Scratch {
    /// The outbox, for `--table`.
    pub fn table(&self) -> TableName {
        TableName {
            schema: Some(self.schema.clone()),
            name: "outbox".to_owned(),
        }
    }

    /// The scratch schema's name, which nothing else has.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// For sessions of its own.
    pub fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    async fn fill_schema(&mut self) -> Result<()> {
        let (schema, table) = (&self.schema, self.table());
        // A look at the outbox must not scan its dead rows: that would take a core from what is measured.
        let settings = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET client_min_messages = warning";
        self.session.batch(settings).await?;
        let create = format!(
            "CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS 'Scratch of doorbell bench: may be dropped when none runs'; \
             CREATE TABLE {schema}.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL)"
        );
        self.session.batch(&create).await?;
        // An installed Doorbell stays as it is, of whatever version: only where there is none, ours is set up.
        let set_up = if self.made_doorbell {
            migration(&table)
        } else {
            format!("DO $$ BEGIN PERFORM doorbell.create_outbox('{table}'); END $$")
        };
        self.session.batch_within(DEADLINE, &set_up).await?;
        let notify = format!(
            "CREATE FUNCTION {schema}.notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM pg_catalog.pg_notify('doorbell:' OPERATOR(pg_catalog.||) TG_RELID::pg_catalog.text, ''); RETURN NULL; END $$; \
             CREATE TRIGGER always_notify AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.notify(); \
             ALTER TABLE {table} DISABLE TRIGGER always_notify"
        );
        self.session.batch(&notify).await
    }

    /// Keeps the order of commits for each key, or no longer.
    async fn keep_order(&mut self, keep: bool) -> Result<()> {
        let table = self.table();
        let outbox = table.to_string();
        if keep {
            // Where Doorbell was there before, its functions are the user's: they stay as they are.
            let known = "SELECT pg_catalog.to_regproc('doorbell.keep_order') IS NOT NULL";
            if !self
                .session
                .one(known, |q| q)
                .await?
                .try_get::<bool, _>(0)?
            {
                self.session.batch(STRICT_ORDER).await?;
                self.made_order = !self.made_doorbell;
            }
            let keep = "SELECT doorbell.keep_order($1)";
            self.session.run(keep, |q| q.bind(outbox)).await?;
        } else if self.is_ordered {
            let release = "SELECT doorbell.release_order($1)";
            self.session.run(release, |q| q.bind(outbox)).await?;
        }
        self.is_ordered = keep;
        Ok(())
    }

    /// Takes all rows away, and with them the dead ones; ids begin at 1 again.
    pub async fn empty(&mut self) -> Result<()> {
        let (schema, table) = (&self.schema, self.table());
        let truncate = format!("TRUNCATE {table}, {schema}.orders RESTART IDENTITY");
        self.session.batch_within(DEADLINE, &truncate).await
    }

    /// Puts one trigger in place and the others out.
    pub async fn ring_by(&mut self, ringing: Ringing) -> Result<()> {
        let state = |on: bool| if on { "ENABLE" } else { "DISABLE" };
        let alter = format!(
            "ALTER TABLE {0} {1} TRIGGER doorbell_ring; ALTER TABLE {0} {2} TRIGGER always_notify",
            self.table(),
            state(matches!(ringing, Ringing::Bell | Ringing::Ordered)),
            state(ringing == Ringing::Notify),
        );
        self.session.batch_within(DEADLINE, &alter).await?;
        self.keep_order(ringing == Ringing::Ordered).await
    }

    /// Ends what still works in the scratch schema, and removes all that was made.
    pub async fn remove(&mut self) -> Result<()> {
        let schema = &self.schema;
        // A measurement that was cut short may have left a statement on its session that runs for minutes.
        let mut session = Session::open(&self.server, "bench").await?;
        session.all(END_OTHERS, |q| q.bind(schema.clone())).await?;
        let mut drop = String::new();
        if self.is_ordered {
            drop += &format!("SELECT doorbell.release_order('{}');", self.table());
        }
        if self.made_order {
            drop += "DROP FUNCTION doorbell.keep_order, doorbell.release_order;";
        }
        drop += &format!("DROP SCHEMA IF EXISTS {schema} CASCADE;");
        let known = "SELECT pg_catalog.to_regclass('doorbell.outbox') IS NOT NULL";
        if session.one(known, |q| q).await?.try_get(0)? {
            session
                .run("DELETE FROM doorbell.outbox WHERE name LIKE $1", |q| {
                    q.bind(format!("{schema}.%"))
                })
                .await?;
            // Somebody else may have set up an outbox meanwhile: then it stays.
            let unused = "SELECT NOT EXISTS (SELECT FROM doorbell.outbox)";
            if self.made_doorbell && session.one(unused, |q| q).await?.try_get(0)? {
                drop += "DROP SCHEMA doorbell CASCADE;";
            }
        }
        let quiet = "SET LOCAL client_min_messages = warning;";
        session
            .batch_within(DEADLINE, &format!("BEGIN; {quiet} {drop} COMMIT"))
            .await
    }
}

/// What would have removed the scratch schemas that are there while no benchmark runs.
async fn leftovers(session: &mut Session, has_doorbell: bool) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for row in session.all(LEFTOVERS, |q| q.bind(SCRATCH_PREFIX)).await? {
        let schema: String = row.try_get(0)?;
        statements.push(format!("DROP SCHEMA {schema} CASCADE"));
        if has_doorbell {
            statements.push(format!(
                "DELETE FROM doorbell.outbox WHERE name LIKE '{schema}.%'"
            ));
        }
    }
    if has_doorbell && !statements.is_empty() {
        let others = "SELECT EXISTS (SELECT FROM doorbell.outbox WHERE NOT pg_catalog.starts_with(name, $1))";
        let row = session.one(others, |q| q.bind(SCRATCH_PREFIX)).await?;
        if !row.try_get::<bool, _>(0)? {
            statements.push("DROP SCHEMA doorbell CASCADE".to_owned());
        }
    }
    Ok(statements)
}

/// `may_register`: what `doorbell.create_outbox` needs, and its removal.
const FACTS: &str = "SELECT current_user::text AS user, pg_catalog.current_database()::text AS database, \
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create, \
    pg_catalog.to_regnamespace('doorbell') IS NOT NULL AS doorbell, \
    (pg_catalog.current_setting('max_connections')::int - pg_catalog.current_setting('superuser_reserved_connections')::int \
    - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'))::bigint AS sessions, \
    CASE WHEN pg_catalog.to_regnamespace('doorbell') IS NULL THEN true \
         WHEN NOT pg_catalog.has_schema_privilege('doorbell', 'USAGE') THEN false \
         WHEN pg_catalog.to_regclass('doorbell.outbox') IS NULL THEN true \
         ELSE pg_catalog.has_table_privilege('doorbell.outbox', 'SELECT') AND pg_catalog.has_table_privilege('doorbell.outbox', 'INSERT') \
              AND pg_catalog.has_table_privilege('doorbell.outbox', 'DELETE') END AS may_register";

const LEFTOVERS: &str = "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE pg_catalog.starts_with(nspname::text, $1) ORDER BY 1";

/// The folder is NULL where we may not know it.
const DATA_DIRECTORY: &str = "SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory') AS folder, \
    pg_catalog.pg_tablespace_location(d.dattablespace) AS tablespace, \
    pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())::bigint AS started \
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// Our other sessions that hold a lock on something of the schema $1: nobody else knows its name.
const END_OTHERS: &str = "SELECT pg_catalog.pg_terminate_backend(a.pid, 5000) FROM pg_catalog.pg_stat_activity a \
    WHERE a.usename = current_user AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid() \
    AND a.datname = pg_catalog.current_database() AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l \
    JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1)";
