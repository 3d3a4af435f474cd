//! Debezium with its outbox event router, in a Kafka Connect of its own: a process with a fresh table, slot and folder for each start.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, Row};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::side::Side;
use crate::stage::{Stage, patience};
use crate::topic;

/// Long enough for a JVM on a busy machine; 6 s is usual.
const START: Duration = Duration::from_secs(120);
/// How often it is asked how far it is. No figure depends on it: rates are taken from the broker's own stamps.
const LOOK: Duration = Duration::from_millis(50);

const TABLE: &str = "DROP SCHEMA IF EXISTS peer CASCADE; CREATE SCHEMA peer; \
    CREATE TABLE peer.outbox (id uuid PRIMARY KEY, aggregatetype varchar NOT NULL, aggregateid varchar NOT NULL, \
        type varchar NOT NULL, payload jsonb) WITH (autovacuum_enabled = off)";

const STREAMS: &str = "SELECT EXISTS (SELECT FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid \
    WHERE s.slot_name = $1 AND r.state = 'streaming')";

const TUNED_WORKER: &[(&str, &str)] = &[
    ("producer.batch.size", "524288"),
    ("producer.buffer.memory", "134217728"),
    ("producer.max.in.flight.requests.per.connection", "5"),
    ("producer.enable.idempotence", "true"),
    ("producer.compression.type", "none"),
    ("producer.acks", "all"),
];
const TUNED_CONNECTOR: &[(&str, &str)] = &[
    ("max.batch.size", "16384"),
    ("max.queue.size", "65536"),
    ("snapshot.fetch.size", "20000"),
];

/// A connector that streams; dropped, it ends at once, and its slot is left to [`Stage::strike`].
pub(crate) struct Debezium {
    child: Child,
    /// Settings, offsets and log.
    folder: TempDir,
}

/// Whether it can be measured here at all, before anything is started.
pub(crate) async fn check(stage: &mut Stage) -> anyhow::Result<()> {
    home()?;
    java_version()?;
    let row = stage.session.fetch_one("SHOW wal_level").await?;
    let level: String = row.try_get(0)?;
    ensure!(
        level == "logical",
        "Debezium needs wal_level = logical, and this server has {level}: leave --peers away, or unset DATABASE_URL to have one started"
    );
    Ok(())
}

/// What it runs on.
pub(crate) fn version() -> anyhow::Result<String> {
    let version = std::env::var("DEBEZIUM_VERSION").unwrap_or_else(|_| "unknown".into());
    Ok(format!("Debezium {version} on Java {}", java_version()?))
}

fn java_version() -> anyhow::Result<String> {
    let output = Command::new(java())
        .arg("-version")
        .output()
        .context("Java does not start: scripts/need names what is missing")?;
    // The first line reads: openjdk version "17.0.15" 2025-04-15
    let text = String::from_utf8_lossy(&output.stderr);
    let version = text.split('"').nth(1).unwrap_or("unknown");
    Ok(version.to_owned())
}

fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or("java".into(), |home| Path::new(&home).join("bin/java"))
}

fn home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("DEBEZIUM_HOME").context(
        "DEBEZIUM_HOME is not set: `scripts/bench --peers` fetches Debezium and sets it",
    )?;
    Ok(home.into())
}

impl Debezium {
    /// Starts it on an empty table, and waits until it streams.
    pub(crate) async fn stream(side: Side, stage: &mut Stage, topic: &str) -> anyhow::Result<Self> {
        stage.session.execute(sqlx::raw_sql(TABLE)).await?;
        let folder = tempfile::tempdir()?;
        let worker = worker(side, stage, folder.path())?;
        let connector = connector(side, stage, topic)?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(java())
            .args([
                "-Xms256M",
                "-Xmx2G",
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
            ])
            .args(["-Dlog4j2.level=INFO", "-cp"])
            .arg(home()?.join("connect/*"))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .arg(properties(folder.path(), "worker", &worker)?)
            .arg(properties(folder.path(), "connector", &connector)?)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("Java does not start")?;
        let mut debezium = Self { child, folder };
        let begun = Instant::now();
        loop {
            let query = sqlx::query(STREAMS).bind(stage.name());
            if stage.session.fetch_one(query).await?.try_get(0)? {
                return Ok(debezium);
            }
            debezium.look(begun, START)?;
            sleep(LOOK).await;
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the topic has so many records.
    pub(crate) async fn until(
        &mut self,
        stage: &Stage,
        topic: &str,
        records: i64,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while topic::ends(stage, topic)?.iter().sum::<i64>() < records {
            self.look(begun, patience(records))?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// An error where nothing is to be hoped for any more.
    fn look(&mut self, begun: Instant, patience: Duration) -> anyhow::Result<()> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // Connect itself lives on after the death of its only task.
        let reason = if let Some(status) = self.child.try_wait()? {
            format!("ended: {status}")
        } else if log.contains("unrecoverable exception") {
            "gave up".to_owned()
        } else if begun.elapsed() > patience {
            format!("did not come so far in {patience:?}")
        } else {
            return Ok(());
        };
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(30)..].join("\n    ");
        bail!("Debezium {reason}; the end of its log:\n    {end}");
    }

    /// Ends it and drops its slot. Its offsets are thrown away with it, so there is nothing that an orderly end would save.
    pub(crate) async fn stop(self, stage: &mut Stage) -> anyhow::Result<()> {
        drop(self);
        stage.drop_slots().await?;
        stage
            .session
            .execute("DROP PUBLICATION IF EXISTS doorbell_bench; DROP SCHEMA peer CASCADE")
            .await?;
        Ok(())
    }
}

impl Drop for Debezium {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

type Properties = Vec<(&'static str, String)>;

fn worker(side: Side, stage: &Stage, folder: &Path) -> anyhow::Result<Properties> {
    // Another program may take the port before Connect does; then the start fails, and says so.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let string = "org.apache.kafka.connect.storage.StringConverter";
    let mut worker = vec![
        ("bootstrap.servers", stage.brokers.clone()),
        ("key.converter", string.to_owned()),
        ("value.converter", string.to_owned()),
        (
            "offset.storage.file.filename",
            folder.join("offsets").display().to_string(),
        ),
        ("plugin.path", home()?.join("plugins").display().to_string()),
        ("listeners", format!("http://127.0.0.1:{port}")),
    ];
    if side != Side::DebeziumDefault {
        worker.extend(owned(TUNED_WORKER));
        let linger = if side == Side::DebeziumEager {
            "0"
        } else {
            "5"
        };
        worker.push(("producer.linger.ms", linger.to_owned()));
    }
    Ok(worker)
}

fn connector(side: Side, stage: &Stage, topic: &str) -> anyhow::Result<Properties> {
    let url: PgConnectOptions = stage.database_url.parse()?;
    let mut connector = owned(&[
        ("name", "outbox"),
        (
            "connector.class",
            "io.debezium.connector.postgresql.PostgresConnector",
        ),
        ("tasks.max", "1"),
        ("plugin.name", "pgoutput"),
        ("publication.name", "doorbell_bench"),
        ("publication.autocreate.mode", "filtered"),
        ("table.include.list", "peer.outbox"),
        ("snapshot.mode", "initial"),
        ("tombstones.on.delete", "false"),
        ("topic.prefix", "doorbell_bench"),
        ("transforms", "outbox"),
        (
            "transforms.outbox.type",
            "io.debezium.transforms.outbox.EventRouter",
        ),
    ]);
    connector.extend([
        ("database.hostname", url.get_host().to_owned()),
        ("database.port", url.get_port().to_string()),
        ("database.user", url.get_username().to_owned()),
        ("database.password", password(&stage.database_url)?),
        ("database.dbname", stage.name().to_owned()),
        ("slot.name", stage.name().to_owned()),
        (
            "transforms.outbox.route.topic.replacement",
            topic.to_owned(),
        ),
    ]);
    if side != Side::DebeziumDefault {
        connector.extend(owned(TUNED_CONNECTOR));
        let poll = if side == Side::DebeziumEager {
            "1"
        } else {
            "10"
        };
        connector.push(("poll.interval.ms", poll.to_owned()));
    }
    Ok(connector)
}

/// The driver keeps it to itself, and Debezium takes no URL.
fn password(url: &str) -> anyhow::Result<String> {
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let password = login
        .and_then(|(login, _)| login.split_once(':'))
        .map_or("", |(_, word)| word);
    ensure!(
        !password.contains('%'),
        "DATABASE_URL's password has encoded characters, which Debezium would take as they are: use another password, or leave --peers away"
    );
    Ok(password.to_owned())
}

fn owned(pairs: &[(&'static str, &str)]) -> Properties {
    pairs
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect()
}

/// Writes NAME.properties; its path.
fn properties(folder: &Path, name: &str, pairs: &Properties) -> anyhow::Result<PathBuf> {
    let text: String = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}\n", value.replace('\\', "\\\\")))
        .collect();
    let path = folder.join(name).with_extension("properties");
    fs::write(&path, text)?;
    Ok(path)
}
