//! Where it is measured: a scratch schema, topics, and the relay between them; all of it goes away again.

use std::process::Command;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret;
use tokio::time::{Duration, Instant, sleep};

use super::plan::Plan;
use super::process::Relay;
use crate::config::{Delivery, Outbox, Route, Settings, Transactions};
use crate::kafka::ScratchTopics;
use crate::postgres::Scratch;

/// A relay falls asleep within milliseconds of its last row; one that is of an earlier version, or of an earlier trigger, never does.
const FALLING_ASLEEP: Duration = Duration::from_secs(3);

pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) settings: Settings,
    pub(super) scratch: Scratch,
    pub(super) topics: ScratchTopics,
    pub(super) progress: Progress,
}

impl Stage {
    /// Starts a relay for the scratch outbox, with its defaults and `flags`.
    pub(super) async fn relay(&self, topic: &str, flags: &[&str]) -> anyhow::Result<Relay> {
        let program = std::env::current_exe().context("the program's own file is not known")?;
        let mut command = Command::new(program);
        let table = self.scratch.table().to_string();
        command
            .args(["run", "--config", "/dev/stdin", "--end-with-parent"])
            .args(["--table", &table, "--topic", topic])
            .args(flags)
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BROKERS")
            .env_remove("DOORBELL_CONFIG")
            .env("RUST_LOG", "info,librdkafka=off,rdkafka=off,sqlx=warn")
            .env("NO_COLOR", "1");
        Relay::lead(command, &self.configuration()?).await
    }

    /// The same database and brokers, but none of the user's outboxes. It goes through a pipe, since it has the passwords.
    fn configuration(&self) -> anyhow::Result<String> {
        // A string of JSON is one of TOML as well.
        let text = |value: &str| serde_json::to_string(value);
        let kafka = &self.settings.kafka;
        let mut file = format!(
            "[database]\nurl = {}\n[kafka]\nbrokers = {}\n",
            text(self.settings.database.url.text().expose_secret())?,
            text(&kafka.brokers)?
        );
        if let Some(path) = &kafka.token_file {
            file += &format!("token_file = {}\n", text(&path.to_string_lossy())?);
        }
        file += "[kafka.properties]\n";
        for (key, value) in &kafka.properties {
            file += &format!("{} = {}\n", text(key)?, text(value.expose_secret())?);
        }
        Ok(file)
    }

    /// What a relay in this process needs.
    pub(super) fn relay_settings(
        &self,
        topic: &str,
        receipts: Option<&str>,
    ) -> anyhow::Result<Settings> {
        let parse = |topic: &str| Route::parse(topic).map_err(anyhow::Error::msg);
        let route = parse(topic)?;
        let delivery = match receipts {
            None => Delivery::AtLeastOnce,
            Some(receipts) => Delivery::ExactlyOnce(Transactions {
                id: None,
                receipts: parse(receipts)?,
            }),
        };
        let outbox = Outbox {
            table: self.scratch.table(),
            topic: route,
            delivery,
            ..Outbox::default()
        };
        Ok(Settings {
            outboxes: vec![outbox],
            ..self.settings.clone()
        })
    }

    /// Waits until the relay sleeps; whether it does.
    pub(super) async fn relay_sleeps(&mut self) -> anyhow::Result<bool> {
        let begun = Instant::now();
        while !self.scratch.relay_sleeps().await? {
            if begun.elapsed() > FALLING_ASLEEP {
                return Ok(false);
            }
            // The interval of a poll: the loop ends by what it sees.
            sleep(Duration::from_millis(10)).await;
        }
        Ok(true)
    }
}

/// A bar at a terminal; nothing elsewhere.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let style = "{bar:30} {pos}/{len} {elapsed_precise} {wide_msg}";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    /// The next step begins.
    pub(super) fn step(&self, what: String) {
        if self.0.message().is_empty() {
            self.0.set_message(what);
        } else {
            self.0.inc(1);
            self.0.set_message(what);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
