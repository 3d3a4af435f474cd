//! What a relay costs while nothing happens.

use std::collections::HashMap;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;
use tokio::time::sleep;

use super::report::{Section, Table};
use super::stage::Stage;
use crate::postgres::Source;

#[derive(Debug, Serialize)]
pub(super) struct Results {
    seconds: f64,
    /// Whether the relay was seen asleep before it was watched.
    relay_slept: bool,
    counted_by: Source,
    /// Statements, or transactions where `counted_by` is `pg_stat_database`.
    count: i64,
    /// Each with how often it ran.
    statements: Vec<(String, i64)>,
    cpu_seconds: f64,
    cpu_percent_of_a_core: f64,
    /// Over the relay's TCP connections, as `ss` counts them; none where there is no `ss` or no TCP.
    bytes: Option<Bytes>,
    peak_memory_mib: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Bytes {
    sent: u64,
    received: u64,
}

pub(super) const STEPS: usize = 1;

pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let length = stage.plan.idle;
    stage
        .progress
        .step(format!("idle: {}", humantime::format_duration(length)));
    let topic = stage.topics.make("idle").await?;
    stage.scratch.empty().await?;
    let relay = stage.relay(&topic, &[]).await?;
    let relay_slept = stage.relay_sleeps().await?;
    let sockets = sockets(relay.id());
    let cpu = relay.cpu()?;
    let before = stage.scratch.activity().await?;
    let begun = Instant::now();
    // Time itself is what is wanted here.
    sleep(length).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_seconds = relay.cpu()? - cpu;
    let after = stage.scratch.activity().await?;
    let bytes = sockets
        .zip(self::sockets(relay.id()))
        .map(|(before, after)| exchanged(&before, &after));
    let peak_memory_mib = relay.peak_memory()?;
    relay.stop().await?;
    stage.topics.remove(&topic).await?;
    let statements = after.since(&before);
    Ok(Results {
        seconds,
        relay_slept,
        counted_by: after.source,
        count: statements.iter().map(|(_, count)| count).sum(),
        statements,
        cpu_seconds,
        cpu_percent_of_a_core: cpu_seconds / seconds * 100.0,
        bytes,
        peak_memory_mib,
    })
}

/// Bytes so far on each TCP connection of a process, by its two ends.
fn sockets(process: u32) -> Option<HashMap<String, Bytes>> {
    let output = Command::new("ss")
        .args(["--tcp", "--info", "--numeric", "--processes", "--no-header"])
        .output()
        .ok()?;
    let found = parse(&String::from_utf8_lossy(&output.stdout), process);
    (output.status.success() && !found.is_empty()).then_some(found)
}

/// `ss` writes two lines for a connection: its ends and its process, then what it counted.
fn parse(text: &str, process: u32) -> HashMap<String, Bytes> {
    let owner = format!("pid={process},");
    let mut found = HashMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let counted = lines
            .next_if(|next| next.starts_with([' ', '\t']))
            .unwrap_or("");
        if !line.contains(&owner) {
            continue;
        }
        let ends: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        let figure = |name: &str| {
            let value = counted
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let bytes = Bytes {
            sent: figure("bytes_sent:"),
            received: figure("bytes_received:"),
        };
        found.insert(ends.join(" "), bytes);
    }
    found
}

fn exchanged(before: &HashMap<String, Bytes>, after: &HashMap<String, Bytes>) -> Bytes {
    let mut sum = Bytes::default();
    for (ends, now) in after {
        let then = before.get(ends).copied().unwrap_or_default();
        sum.sent += now.sent.saturating_sub(then.sent);
        sum.received += now.received.saturating_sub(then.received);
    }
    sum
}

impl Results {
    pub(super) fn section(&self) -> Section {
        let kind = match self.counted_by {
            Source::PgStatStatements => "statements",
            Source::PgStatDatabase => "transactions of the database",
        };
        let mut table = Table::new(["an idle relay", "figure"]);
        table.push(["seconds".to_owned(), format!("{:.0}", self.seconds)]);
        table.push([kind.to_owned(), self.count.to_string()]);
        table.push([
            "CPU, % of a core".to_owned(),
            format!("{:.3}", self.cpu_percent_of_a_core),
        ]);
        let (sent, received) = match self.bytes {
            Some(bytes) => (bytes.sent.to_string(), bytes.received.to_string()),
            None => ("not known".into(), "not known".into()),
        };
        table.push(["bytes sent over TCP".to_owned(), sent]);
        table.push(["bytes received over TCP".to_owned(), received]);
        table.push([
            "peak memory, MiB".to_owned(),
            format!("{:.0}", self.peak_memory_mib),
        ]);
        let mut tables = vec![table];
        let mut notes = vec![match self.counted_by {
            Source::PgStatStatements => "pg_stat_statements counted the statements of our role in this database, those of other programs under the same role as well; the sweep comes once a minute.".to_owned(),
            Source::PgStatDatabase => "The extension pg_stat_statements is not there or may not be read: pg_stat_database counted the transactions of everybody in this database, autovacuum's and this program's own included.".to_owned(),
        }];
        if self.counted_by == Source::PgStatStatements && !self.statements.is_empty() {
            let mut list = Table::new(["statement", "times"]);
            for (statement, count) in &self.statements {
                let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
                let short: String = line.chars().take(100).collect();
                list.push([short, count.to_string()]);
            }
            tables.push(list);
        }
        notes.push("The CPU is counted by the kernel in steps of 10 ms; bytes are those that ss shows for the relay's TCP connections, to PostgreSQL and to Kafka.".into());
        if !self.relay_slept {
            notes.push("The relay was not seen asleep before.".into());
        }
        Section {
            title: "idle",
            what: "a relay that leads an outbox into which nobody writes".into(),
            tables,
            notes,
            plots: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SS: &str = "ESTAB 0 0 127.0.0.1:5000 127.0.0.1:5432 users:((\"doorbell\",pid=7,fd=9))\n\
        \t cubic wscale:7,7 bytes_sent:100 bytes_acked:100 bytes_received:50 segs_out:2\n\
        ESTAB 0 0 127.0.0.1:5001 127.0.0.1:9092 users:((\"doorbell\",pid=7,fd=10))\n\
        \t cubic bytes_sent:9 bytes_received:8\n\
        ESTAB 0 0 127.0.0.1:5002 127.0.0.1:9092 users:((\"other\",pid=77,fd=10))\n\
        \t cubic bytes_sent:1000 bytes_received:1000\n";

    #[test]
    fn bytes_are_those_of_the_process_since_the_first_look() {
        let before = parse(SS, 7);
        assert_eq!(before.len(), 2);
        let after = parse(
            &SS.replace("bytes_sent:100 ", "bytes_sent:160 ")
                .replace("5001", "5009"),
            7,
        );
        let sum = exchanged(&before, &after);
        // 60 more on the first connection, and all of a new one
        assert_eq!((sum.sent, sum.received), (69, 8));
    }
}
