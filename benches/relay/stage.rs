//! A database and topics of the bench's own, on the services that it was given.

use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use crate::process;

pub(crate) const PARTITIONS: i32 = 6;

/// Longer than any answer of a healthy broker or a drain of a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Stage {
    pub(crate) database_url: String,
    pub(crate) brokers: String,
    /// For whatever is not measured.
    pub(crate) session: PgConnection,
    maintenance_url: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
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
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .create()?;
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
            admin,
            topics: Vec::new(),
        })
    }

    /// An empty topic for one measurement: each begins with the same log at the broker.
    pub(crate) async fn new_topic(&mut self) -> anyhow::Result<String> {
        let name = format!("{}.{}", self.name, self.topics.len());
        let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.topics.push(name.clone());
        for result in self.admin.create_topics(&[new], &options).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
        }
        Ok(name)
    }

    /// The outbox as it is after its migration: no row, and none of the dead ones of the measurement before.
    pub(crate) async fn truncate(&mut self) -> anyhow::Result<()> {
        self.session
            .execute("TRUNCATE outbox RESTART IDENTITY")
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

    /// Removes everything.
    pub(crate) async fn strike(self) -> anyhow::Result<()> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if !topics.is_empty() {
            self.admin
                .delete_topics(&topics, &AdminOptions::new())
                .await?;
        }
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
