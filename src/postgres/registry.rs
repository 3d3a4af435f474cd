//! What the registry says about an outbox: which table its name stands for now, and whether it is paused.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::{Error, Result};
use super::session::Session;
use super::survey::{MANY_TRANSACTIONS, PINS, Pin};
use crate::config::TableName;

/// A pause of an outbox: every relay of it obeys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pause {
    /// Since when, as ISO 8601.
    pub since: String,
    /// Seconds since then.
    pub seconds: f64,
    /// Who did it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What an outbox's name stands for.
#[derive(Debug)]
pub struct Entry {
    /// The table's oid; `None` where the table is gone.
    pub oid: Option<u32>,
    /// Whether it is paused.
    pub pause: Option<Pause>,
    /// How many transactions ago the oldest snapshot was taken that another session, a prepared transaction or a replication slot still holds, as far
    /// as our role may see. No vacuum removes what was deleted since.
    pub xmin_age: Option<i64>,
    /// Who holds the oldest one in this database, where it is held for longer than a moment.
    pub pin: Option<Pin>,
}

/// Every transaction holds a snapshot for a moment.
const MOMENT: Duration = Duration::from_secs(1);

/// A schema of an earlier version has no such columns, which is no error here: then nothing is paused.
static ENTRY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT pg_catalog.to_regclass($3)::oid::bigint AS oid, r.entry ->> 'paused_at' AS since, \
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - (r.entry ->> 'paused_at')::timestamptz) AS seconds, \
        r.entry ->> 'paused_by' AS by, r.entry ->> 'paused_reason' AS reason, \
        (SELECT max(pg_catalog.age(x.xmin))::bigint FROM (\
            SELECT a.backend_xmin FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid() \
            UNION ALL SELECT p.transaction FROM pg_catalog.pg_prepared_xacts p \
            UNION ALL SELECT s.xmin FROM pg_catalog.pg_replication_slots s) x (xmin)) AS xmin_age, \
        (SELECT pg_catalog.to_jsonb(p)::text FROM ({PINS} LIMIT 1) p) AS pin \
        FROM (SELECT (SELECT pg_catalog.to_jsonb(o) FROM doorbell.outbox o WHERE o.name = $3) AS entry) r"
    )
});

/// Looks the outbox up by its quoted name, in one statement.
pub(super) async fn entry(session: &mut Session, quoted: &str) -> Result<Entry> {
    let row = session
        .one(&ENTRY, |q| {
            q.bind(MOMENT.as_secs_f64())
                .bind(MANY_TRANSACTIONS)
                .bind(quoted.to_owned())
        })
        .await?;
    let oid: Option<i64> = row.try_get("oid")?;
    let pin: Option<&str> = row.try_get("pin")?;
    Ok(Entry {
        oid: oid.map(|oid| oid as u32),
        pause: pause_of(&row)?,
        xmin_age: row.try_get("xmin_age")?,
        // Written by the server from the same columns; one that could not be read would be none.
        pin: pin.and_then(|pin| serde_json::from_str(pin).ok()),
    })
}

fn pause_of(row: &PgRow) -> Result<Option<Pause>> {
    let Some(since) = row.try_get("since")? else {
        return Ok(None);
    };
    Ok(Some(Pause {
        since,
        seconds: row.try_get("seconds")?,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
    }))
}

/// What a pause or its end found.
#[derive(Debug)]
pub struct Switched {
    /// The table, quoted, with its schema.
    pub outbox: String,
    /// Whether it was paused before.
    pub was_paused: bool,
}

/// The flag and the ring that tells of it, in one statement: they become visible together, and a pooler cannot tear them apart. `$2`: whether to pause.
const SWITCH: &str = "WITH before AS MATERIALIZED (\
        SELECT o.name, c.oid, o.paused_at FROM doorbell.outbox o \
        JOIN pg_catalog.pg_namespace n ON true \
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND o.name = pg_catalog.format('%I.%I', n.nspname, c.relname) \
        WHERE c.oid = pg_catalog.to_regclass($1)), \
    switched AS (\
        UPDATE doorbell.outbox o SET paused_at = CASE WHEN $2 THEN coalesce(o.paused_at, pg_catalog.now()) END, \
        paused_by = CASE WHEN $2 THEN $3 END, paused_reason = CASE WHEN $2 THEN $4 END \
        FROM before b WHERE o.name = b.name RETURNING o.name) \
    SELECT b.name, b.paused_at IS NOT NULL AS was_paused, pg_catalog.pg_notify('doorbell:' || b.oid, 'flag')::text \
    FROM before b JOIN switched s ON s.name = b.name";

/// Pauses an outbox. One that is paused stays so since the same time, with the new name and reason.
pub async fn pause(
    session: &mut Session,
    table: &TableName,
    by: &str,
    reason: Option<&str>,
) -> Result<Switched> {
    switch(session, table, Some((by, reason))).await
}

/// Ends a pause.
pub async fn resume(session: &mut Session, table: &TableName) -> Result<Switched> {
    switch(session, table, None).await
}

async fn switch(
    session: &mut Session,
    table: &TableName,
    pause: Option<(&str, Option<&str>)>,
) -> Result<Switched> {
    let name = table.to_string();
    let by = pause.map(|(by, _)| by.to_owned());
    let reason = pause.and_then(|(_, reason)| reason.map(str::to_owned));
    let done = session
        .all(SWITCH, |q| {
            q.bind(name.clone())
                .bind(pause.is_some())
                .bind(by)
                .bind(reason)
        })
        .await;
    let rows = match done {
        Err(Error::Refused { problem, .. }) if problem.contains("paused_") => {
            return Err(Error::refused(
                "the schema doorbell is of an earlier version, which knows no pause",
                "run `doorbell migrate`",
            ));
        }
        other => other?,
    };
    let row = rows.first().ok_or_else(|| {
        Error::refused(
            format!("table {name} does not exist or was not set up as an outbox"),
            format!("check --table, or run `doorbell migrate --table '{name}'`"),
        )
    })?;
    Ok(Switched {
        outbox: row.try_get("name")?,
        was_paused: row.try_get("was_paused")?,
    })
}
