//! What a relay costs while nothing happens.

use std::time::Instant;

use serde_json::json;

use super::plan::Plan;
use super::sockets::Sockets;
use crate::fixture::{Fixture, Source};
use crate::report::{Measured, Table};
use crate::sides::{Running, Side, Start};

pub(super) async fn measure(fixture: &mut Fixture, plan: &Plan) -> anyhow::Result<Measured> {
    let length = humantime::format_duration(plan.idle);
    fixture.progress.step(format!("idle: {length}"));
    let topic = fixture.topics.make("idle").await?;
    fixture.scratch.empty().await?;
    let relay = Running::start(Side::Relay, fixture, &topic, Start::default()).await?;
    let relay_slept = fixture.relay_sleeps().await?;
    let sockets = Sockets::of(&relay.process);
    let before = fixture.scratch.activity().await?;
    let begun = Instant::now();
    let cpu_percent = relay.idle(plan.idle).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = fixture.scratch.activity().await?;
    // Over the relay's TCP connections; none where that is not known.
    let bytes = Sockets::of(&relay.process).zip(sockets);
    let bytes = bytes.map(|(after, before)| after.since(&before));
    let memory = relay.peak_memory()?.unwrap_or(f64::NAN);
    relay.stop(fixture).await?;

    let statements = after.since(&before);
    // Statements, or transactions where `pg_stat_database` counted.
    let count: i64 = statements.iter().map(|(_, count)| count).sum();
    let cpu_seconds = cpu_percent * seconds / 100.0;
    let by_statement = after.source == Source::PgStatStatements;
    let (kind, counted) = match by_statement {
        true => (
            "statements",
            "pg_stat_statements counted the statements of our role in this database, those of other programs under the same role as well; the sweep comes once a minute.",
        ),
        false => (
            "transactions of the database",
            "The extension pg_stat_statements is not there or may not be read: pg_stat_database counted all transactions in this database, those of autovacuum and of this program included.",
        ),
    };
    let known = |bytes: Option<u64>| bytes.map_or("not known".into(), |bytes| bytes.to_string());
    let mut table = Table::new("an idle relay | figure");
    for (name, figure) in [
        ("seconds", format!("{seconds:.0}")),
        (kind, count.to_string()),
        ("CPU, % of a core", format!("{cpu_percent:.3}")),
        ("bytes sent over TCP", known(bytes.map(|bytes| bytes.sent))),
        (
            "bytes received over TCP",
            known(bytes.map(|bytes| bytes.received)),
        ),
        ("peak memory, MiB", format!("{memory:.0}")),
    ] {
        table.row(name, [figure]);
    }
    let json = json!({
        "seconds": seconds, "relay_slept": relay_slept, "counted_by": after.source, "count": count,
        "statements": statements, "cpu_seconds": cpu_seconds, "cpu_percent_of_a_core": cpu_percent,
        "bytes": bytes, "peak_memory_mib": memory,
    });
    let what = "a relay that leads an outbox without writers";
    let mut measured = Measured::new("idle", what, json)
        .table(table)
        .note(counted)
        .note("The CPU is counted by the kernel in steps of 10 ms; bytes are those that ss shows for the relay's TCP connections, to PostgreSQL and to Kafka.");
    if by_statement && !statements.is_empty() {
        let mut list = Table::new("statement | times");
        for (statement, count) in &statements {
            let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            let line: String = line.chars().take(100).collect();
            list.row(line, [count.to_string()]);
        }
        measured = measured.table(list);
    }
    if !relay_slept {
        measured = measured.note("The relay was not seen asleep before.");
    }
    Ok(measured)
}
