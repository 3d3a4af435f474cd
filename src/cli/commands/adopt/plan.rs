//! The plan, as it is printed: SQL, configuration, differences, and the way to switch.

use super::mapping::Mapping;
use super::preset::Preset;
use crate::postgres::{AdoptStep, AdoptableTable, LOCK_TIMEOUT, NUMBER, Waits};

/// Returns the statements as a script, each with what it locks.
pub(super) fn sql(steps: &[AdoptStep]) -> String {
    let mut text = String::new();
    for step in steps {
        text += &format!("-- Locks: {}\n", step.locks);
        let lines: String = step.sql.iter().map(|sql| format!("{sql};\n")).collect();
        match step.waits {
            Waits::Briefly => text += &format!("BEGIN;\n{LOCK_TIMEOUT};\n{lines}COMMIT;\n"),
            Waits::AsLongAsNeeded => text += &lines,
        }
    }
    text
}

/// Returns the SQL, the configuration, what differs, and the steps.
pub(super) fn plan(
    table: &AdoptableTable,
    left: &[AdoptStep],
    preset: Preset,
    mapping: &Mapping,
) -> String {
    let quoted = &table.quoted;
    let mut text = match left {
        [] => format!(
            "-- {quoted} has the column, the sequence and the index: nothing is left to run.\n"
        ),
        left => format!(
            "-- SQL, which --apply runs: each transaction again and again until it has its lock in time.\n{}",
            sql(left)
        ),
    };
    text += &format!(
        "\n# Configuration of the relay, besides [database] and [kafka]\n{}",
        mapping.toml(quoted, NUMBER)
    );
    if !mapping.differences.is_empty() {
        text += "\n# What differs from the records that consumers get today\n";
        let lines = mapping.differences.iter();
        text.extend(lines.map(|line| format!("# - {line}\n")));
    }
    text += "\n# Steps of a switch; docs/adopt.md explains each\n";
    let steps = match preset.polls() {
        false => debezium(),
        true => polling(quoted, preset),
    };
    let numbered = steps.iter().zip(1..);
    text.extend(numbered.map(|(step, n)| format!("# {n}. {step}\n")));
    text
}

fn debezium() -> Vec<String> {
    [
        "Run the SQL (--apply) while the connector and the writers go on, write the configuration, then run `migrate` and `check`.",
        "Look at the records that the next rows would become: `preview`.",
        "Shadow run: put `shadow.` before the topic, start the relay, and run `compare` with the topics of both until it says that one can switch. The relay deletes the rows that it sent, which Debezium does not read.",
        "Pause with `pause`, and stop the shadow relay. New rows stay in the table, and Debezium sends them.",
        "Cut: one transaction locks the table, inserts a marker, takes the table out of the connector's publication and deletes the rows that have a number. Debezium sends what was committed before, the relay what comes after.",
        "When the marker is in its topic, start the relay with the real topics and `resume`. Delete the connector and its slot.",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn polling(quoted: &str, preset: Preset) -> Vec<String> {
    let (unsent, order) = (preset.unsent().unwrap_or("true"), preset.order());
    vec![
        "Look at the differences above, and write the configuration.".into(),
        "Stop the earlier relay, in order. Writers go on: their rows wait.".into(),
        "Run the SQL (--apply), then `migrate`, and `check`.".into(),
        format!(
            "Number the rows that the earlier relay has not sent, below the new ones: \
             UPDATE {quoted} t SET {NUMBER} = o.n FROM (SELECT ctid, pg_catalog.row_number() OVER (ORDER BY {order}) - 1 - pg_catalog.count(*) OVER () AS n \
             FROM {quoted} WHERE {NUMBER} IS NULL AND {unsent}) o WHERE t.ctid = o.ctid;"
        ),
        "Look at the records that these rows become: `preview`. A wrong one costs nothing yet.".into(),
        "Start the relay. Never start the earlier one beside it: each would send rows of the other.".into(),
    ]
}
