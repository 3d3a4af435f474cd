//! Debezium with its outbox event router, in a Kafka Connect of its own: a process with a fresh
//! table, slot and folder for each start.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::side::Side;
use crate::fixture::{Fixture, drop_slot, patience};

/// Long enough for a JVM on a busy machine; 6 s is usual.
const START: Duration = Duration::from_secs(120);
/// How often it is asked how far it is. No figure depends on it: rates are taken from the broker's
/// own stamps.
const LOOK: Duration = Duration::from_millis(50);

/// The shape that its documentation gives.
const TABLE: &str = "(id uuid PRIMARY KEY, aggregatetype varchar NOT NULL, aggregateid varchar NOT NULL, \
    type varchar NOT NULL, payload jsonb) WITH (autovacuum_enabled = off)";

/// A connector that streams; dropped, it ends at once, and its slot is left to the end of the
/// fixture.
pub(crate) struct Debezium {
    child: Child,
    pub(super) id: u32,
    folder: TempDir,
}

/// Whether it can be measured here at all, before anything is started.
pub(crate) async fn check(fixture: &mut Fixture) -> anyhow::Result<()> {
    home()?;
    java_version().await?;
    let level: String = fixture.scratch.session.value("SHOW wal_level").await?;
    ensure!(
        level == "logical",
        "Debezium needs wal_level = logical, and this server has {level}: leave out --peers, or unset DATABASE_URL to have one started"
    );
    Ok(())
}

pub(crate) async fn version() -> anyhow::Result<String> {
    let version = std::env::var("DEBEZIUM_VERSION").unwrap_or_else(|_| "unknown".into());
    Ok(format!(
        "Debezium {version} on Java {}",
        java_version().await?
    ))
}

async fn java_version() -> anyhow::Result<String> {
    let output = Command::new(java()).arg("-version").output().await;
    let output = output.context("Java does not start: scripts/need names what is missing")?;
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
    pub(crate) async fn stream(
        side: Side,
        fixture: &mut Fixture,
        topic: &str,
    ) -> anyhow::Result<Self> {
        let name = fixture.scratch.schema().to_owned();
        let table = format!("DROP TABLE IF EXISTS {name}.peer; CREATE TABLE {name}.peer {TABLE}");
        fixture.scratch.session.batch(&table).await?;
        let folder = tempfile::tempdir()?;
        let (worker, connector) = settings(side, fixture, topic, folder.path())?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(java())
            .args(["-Xms256M", "-Xmx2G", "-server"])
            .args(["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
            .args(["-Dlog4j2.level=INFO", "-cp"])
            .arg(home()?.join("connect/*"))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .args([worker, connector])
            .current_dir(folder.path())
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("Java does not start")?;
        let id = child.id().context("no process")?;
        let mut debezium = Self { child, id, folder };
        let begun = Instant::now();
        let streams = format!(
            "SELECT EXISTS (SELECT FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid \
             WHERE s.slot_name = '{name}' AND r.state = 'streaming')"
        );
        while !fixture.scratch.session.value::<bool>(&streams).await? {
            debezium.look(begun, START)?;
            sleep(LOOK).await;
        }
        Ok(debezium)
    }

    pub(crate) async fn until(
        &mut self,
        fixture: &Fixture,
        topic: &str,
        records: i64,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while fixture.topics.ends(topic)?.iter().sum::<i64>() < records {
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

    /// Ends it and drops its slot. Its offsets go with it, so an orderly end would save nothing.
    pub(crate) async fn stop(self, fixture: &mut Fixture) -> anyhow::Result<()> {
        drop(self);
        let name = fixture.scratch.schema().to_owned();
        let session = &mut fixture.scratch.session;
        drop_slot(session, &name).await?;
        let drop = format!("DROP PUBLICATION IF EXISTS {name}; DROP TABLE {name}.peer");
        Ok(session.batch(&drop).await?)
    }
}

/// Writes the settings of the worker and of its connector; their files.
fn settings(
    side: Side,
    fixture: &Fixture,
    topic: &str,
    folder: &Path,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    // Another program may take the port before Connect does; then the start fails, and says so.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut worker = format!(
        include_str!("../../templates/worker.properties"),
        brokers = fixture.settings.kafka.brokers,
        folder = folder.display(),
        home = home()?.display(),
        port = port
    );
    let server = fixture.scratch.server.options("bench");
    let mut connector = format!(
        include_str!("../../templates/connector.properties"),
        name = fixture.scratch.schema(),
        topic = topic,
        host = server.get_host(),
        port = server.get_port(),
        user = server.get_username(),
        password = password(fixture.settings.database.url.text().expose_secret())?,
        database = server.get_database().unwrap_or("postgres"),
    );
    if side != Side::DebeziumDefault {
        let is_eager = side == Side::DebeziumEager;
        let (linger, poll) = if is_eager { (0, 1) } else { (5, 10) };
        worker += &format!(
            include_str!("../../templates/worker-tuned.properties"),
            linger = linger
        );
        connector += &format!(
            include_str!("../../templates/connector-tuned.properties"),
            poll = poll
        );
    }
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text.replace('\\', "\\\\")).map(|()| path)
    };
    Ok((
        file("worker.properties", &worker)?,
        file("connector.properties", &connector)?,
    ))
}

/// The driver keeps it to itself, and Debezium takes no URL.
fn password(url: &str) -> anyhow::Result<String> {
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let pair = login.and_then(|(login, _)| login.split_once(':'));
    let password = pair.map_or("", |(_, password)| password);
    ensure!(
        !password.contains('%'),
        "DATABASE_URL's password has encoded characters, which Debezium would take as they are: use another password, or leave out --peers"
    );
    Ok(password.to_owned())
}
