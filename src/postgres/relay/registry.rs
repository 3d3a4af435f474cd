//! What the registry says about an outbox: which table its name stands for now, and whether it is
//! paused.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::postgres::error::Result;
use crate::postgres::inspect::{MANY_TRANSACTIONS, OldSnapshot, PINS};
use crate::postgres::session::Session;

/// A pause of an outbox. Every relay of the outbox obeys it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pause {
    /// Begin of the pause, in ISO 8601.
    pub since: String,
    pub seconds: f64,
    pub by: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug)]
pub struct RegistryEntry {
    /// The table's oid. `None`: the table no longer exists.
    pub oid: Option<u32>,
    pub pause: Option<Pause>,
    /// Age in transactions of the oldest snapshot that another session, a prepared transaction or a
    /// replication slot still holds, as far as the relay's role can see. Vacuum removes no row that
    /// was deleted since.
    pub xmin_age: Option<i64>,
    /// Holder of the oldest snapshot in this database, if it is held for longer than a moment.
    pub pin: Option<OldSnapshot>,
    /// Whether dead letters can be counted now.
    pub sees_dead: bool,
}

/// Every transaction holds a snapshot for a moment.
const MOMENT: Duration = Duration::from_secs(1);

/// Whether the role may count dead letters, and no other session has their table for itself: the
/// relay does not wait for that.
const SEES_DEAD: &str = "coalesce((SELECT count(*) = 2 AND bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')) \
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass('doorbell.dead') AND a.attname IN ('outbox', 'retried_at')), false) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.relation = pg_catalog.to_regclass('doorbell.dead') AND l.mode = 'AccessExclusiveLock' \
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))";

/// Looks up the outbox by its quoted name, in one statement that also returns `more` columns.
///
/// In a schema of an earlier version the columns of a pause do not exist. That is no error here:
/// nothing is paused.
pub(crate) async fn look_up(session: &mut Session, quoted: &str, more: &str) -> Result<PgRow> {
    let sql = format!(
        "SELECT pg_catalog.to_regclass($3)::oid::bigint AS oid, r.entry ->> 'paused_at' AS since, \
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - (r.entry ->> 'paused_at')::timestamptz) AS seconds, \
        r.entry ->> 'paused_by' AS by, r.entry ->> 'paused_reason' AS reason, \
        (SELECT max(pg_catalog.age(x.xmin))::bigint FROM (\
            SELECT a.backend_xmin FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid() \
            UNION ALL SELECT p.transaction FROM pg_catalog.pg_prepared_xacts p \
            UNION ALL SELECT s.xmin FROM pg_catalog.pg_replication_slots s) x (xmin)) AS xmin_age, \
        (SELECT pg_catalog.to_jsonb(p)::text FROM ({PINS} LIMIT 1) p) AS pin, {SEES_DEAD} AS sees_dead{more} \
        FROM (SELECT (SELECT pg_catalog.to_jsonb(o) FROM doorbell.outbox o WHERE o.name = $3) AS entry) r"
    );
    session
        .one(&sql, |q| {
            q.bind(MOMENT.as_secs_f64())
                .bind(MANY_TRANSACTIONS)
                .bind(quoted.to_owned())
        })
        .await
}

/// Looks up the outbox by its quoted name, in one statement.
pub(crate) async fn entry(session: &mut Session, quoted: &str) -> Result<RegistryEntry> {
    read(&look_up(session, quoted, "").await?)
}

pub(crate) fn read(row: &PgRow) -> Result<RegistryEntry> {
    let oid: Option<i64> = row.try_get("oid")?;
    let pin: Option<&str> = row.try_get("pin")?;
    Ok(RegistryEntry {
        oid: oid.map(|oid| oid as u32),
        pause: pause_of(row)?,
        xmin_age: row.try_get("xmin_age")?,
        sees_dead: row.try_get("sees_dead")?,
        // The server wrote it from the same columns. One that cannot be read counts as none.
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
