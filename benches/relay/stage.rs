//! A database and topics of the bench's own, on the services that it was given.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::sleep;

use crate::process;
use crate::side::Side;
use crate::topic;

pub(crate) const PARTITIONS: i32 = 6;

/// Longer than any answer of a healthy broker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Longer than a slow machine takes for so many rows.
pub(crate) fn patience(rows: i64) -> Duration {
    PATIENCE + Duration::from_millis(rows.unsigned_abs() / 5)
}

pub(crate) struct Stage {
    pub(crate) database_url: String,
    pub(crate) brokers: String,
    /// For whatever is not measured.
    pub(crate) session: PgConnection,
    /// Asks how far topics go.
    pub(crate) observer: BaseConsumer,
    maintenance_url: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
    /// How many there were.
    made: u32,
    /// Those that are there, or may be made by a relay.
    topics: Vec<String>,
}

impl Stage {
    /// Creates the database and migrates it.
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: scripts/bench starts the services and sets it")
            })
        };
        let (maintenance_url, brokers) = (variable("DATABASE_URL")?, variable("KAFKA_BROKERS")?);
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &brokers);
        let name = format!("doorbell_bench_{}", std::process::id());
        let (server, _) = maintenance_url
            .rsplit_once('/')
            .context("DATABASE_URL names no database")?;
        let database_url = format!("{server}/{name}");
        execute(&maintenance_url, &format!("CREATE DATABASE {name}")).await?;
        process::migrate(&database_url)?;
        let mut session = connect(&database_url).await?;
        // A look at the outbox must not scan it: that would take a core from what is measured.
        session
            .execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
            .await?;
        Ok(Self {
            session,
            database_url,
            brokers,
            maintenance_url,
            name,
            observer: client.create()?,
            admin: client.create()?,
            made: 0,
            topics: Vec::new(),
        })
    }

    /// An empty topic in place of the one before: each measurement begins with the same log at the broker. The broker stamps the records.
    pub(crate) async fn new_topic(&mut self) -> anyhow::Result<String> {
        self.delete_topics().await?;
        let name = format!("{}.{}", self.name, self.made);
        let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.made += 1;
        self.topics.push(name.clone());
        for result in self.admin.create_topics(&[new], &options).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
        }
        self.await_leaders(&name).await?;
        Ok(name)
    }

    /// A new topic's partitions may have no leader yet, or one that does not know it.
    async fn await_leaders(&self, topic: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            // Without it, the client goes on believing its first answer, that there is no such partition.
            self.observer.fetch_metadata(Some(topic), topic::ANSWER)?;
            let Err(error) = topic::ends(self, topic) else {
                return Ok(());
            };
            ensure!(begun.elapsed() < PATIENCE, error);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Large ones must not heap up on the disk.
    async fn delete_topics(&mut self) -> anyhow::Result<()> {
        if !self.topics.is_empty() {
            let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new();
            self.admin.delete_topics(&topics, &options).await?;
            self.topics.clear();
        }
        Ok(())
    }

    /// The name of a topic for receipts, which the relay makes itself. It goes with the others.
    pub(crate) fn receipts(&mut self) -> String {
        let name = format!("{}.receipts.{}", self.name, self.made);
        self.topics.push(name.clone());
        name
    }

    /// The name of the database, and of a replication slot in it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Inserts the rows of these numbers in one statement.
    pub(crate) async fn insert(&mut self, side: Side, from: i64, to: i64) -> anyhow::Result<()> {
        let query = sqlx::query(side.insert()).bind(from).bind(to);
        self.session.execute(query).await?;
        Ok(())
    }

    /// The outbox as it is after its migration: no row, and none of the dead ones of the measurement before.
    pub(crate) async fn truncate(&mut self) -> anyhow::Result<()> {
        self.session
            .execute("TRUNCATE outbox, doorbell.receipt RESTART IDENTITY")
            .await?;
        Ok(())
    }

    /// The name of the channel that the trigger rings on.
    pub(crate) async fn channel(&mut self) -> anyhow::Result<String> {
        let row = self
            .session
            .fetch_one("SELECT 'doorbell:' || 'outbox'::regclass::oid")
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Drops the replication slots of this database: one that stayed would keep every later byte of the server's WAL.
    pub(crate) async fn drop_slots(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            // Whoever used it has been ended, but the server may not have noticed yet.
            for sql in [
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL",
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NULL",
            ] {
                self.session.execute(sql).await?;
            }
            let row = self
                .session
                .fetch_one("SELECT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())")
                .await?;
            if !row.try_get(0)? {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "a replication slot of {} cannot be dropped",
                self.name
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes everything.
    pub(crate) async fn strike(mut self) -> anyhow::Result<()> {
        self.delete_topics().await?;
        self.drop_slots().await?;
        self.session.close().await?;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        execute(&self.maintenance_url, &drop).await
    }
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = url.parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let mut session = connect(url).await?;
    session.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    session.close().await?;
    Ok(())
}
