//! What it ran on, and who took part.

use std::fmt;
use std::process::Command;

use doorbell::app::bench::machine::Machine as Here;
use doorbell::postgres::ServerFacts;
use serde::Serialize;
use sqlx::{Executor, Row};

use crate::stage::Stage;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    #[serde(flatten)]
    here: Here,
    kafka: String,
    rustc: String,
    /// Of this repository, with `-dirty` where the files were others.
    commit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    debezium: Option<String>,
}

impl Machine {
    pub(crate) async fn here(stage: &mut Stage, debezium: Option<String>) -> anyhow::Result<Self> {
        let facts = stage
            .session
            .fetch_one("SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync')")
            .await?;
        Ok(Self {
            here: Here::here(ServerFacts {
                version: facts.try_get(0)?,
                synchronous_commit: facts.try_get(1)?,
                fsync: facts.try_get(2)?,
            }),
            // The protocol does not tell it: whoever starts the broker knows.
            kafka: std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "unknown".into()),
            rustc: said_by("rustc", &["--version"]),
            commit: said_by("git", &["describe", "--always", "--dirty"]),
            debezium,
        })
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; Kafka {}", self.here, self.kafka)?;
        if let Some(debezium) = &self.debezium {
            write!(f, "; {debezium}")?;
        }
        write!(
            f,
            "; all on this machine; {}, commit {}",
            self.rustc, self.commit
        )
    }
}
