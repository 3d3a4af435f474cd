//! Who keeps dead rows from being cleaned up: sessions, replication slots, standby servers and prepared transactions that hold an old snapshot.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::postgres::error::Result;
use crate::postgres::session::Session;

/// Slots and standbys do not say since when they hold; so many transactions is long for any.
pub(in crate::postgres) const MANY_TRANSACTIONS: i64 = 100_000;

/// Somebody who holds an old snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pin {
    /// What it is.
    pub kind: Pinning,
    /// What to call it: its name, or that of its application.
    pub name: String,
    /// The server's process.
    pub pid: Option<i32>,
    /// The role.
    pub user: Option<String>,
    /// Where it connects from.
    pub address: Option<String>,
    /// What a session is doing: `active`, `idle in transaction`.
    pub state: Option<String>,
    /// Since when, in seconds; `None`: the server does not say.
    pub seconds: Option<f64>,
    /// Transactions that began since.
    pub transactions: i64,
}

/// The ways of holding one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinning {
    /// An open transaction.
    Session,
    /// A replication slot that a standby uses.
    Slot,
    /// A replication slot that nobody uses.
    IdleSlot,
    /// A standby server with `hot_standby_feedback`.
    Standby,
    /// A transaction that was prepared and not ended.
    Prepared,
}

/// Sessions of other databases hold nothing here; slots and standbys do. `to_jsonb`: `inactive_since` is there from PostgreSQL 17 on. `$1`: seconds
/// from which on a session counts, `$2`: transactions from which on the others do.
pub(in crate::postgres) const PINS: &str = "SELECT 'session' AS kind, a.application_name AS name, a.pid, a.usename::text AS user, pg_catalog.host(a.client_addr) AS address, a.state, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start) AS seconds, \
    greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid))::bigint AS transactions FROM pg_catalog.pg_stat_activity a \
    WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type NOT IN ('autovacuum worker', 'walsender') \
    AND coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL AND a.xact_start < pg_catalog.clock_timestamp() - $1 * interval '1 second' \
    UNION ALL SELECT CASE WHEN s.active THEN 'slot' ELSE 'idle-slot' END, s.slot_name::text, s.active_pid, NULL, NULL, NULL, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz), pg_catalog.age(s.xmin)::bigint \
    FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL AND (NOT s.active OR pg_catalog.age(s.xmin) >= $2) \
    UNION ALL SELECT 'standby', r.application_name, r.pid, r.usename::text, pg_catalog.host(r.client_addr), NULL, NULL, pg_catalog.age(r.backend_xmin)::bigint \
    FROM pg_catalog.pg_stat_replication r WHERE pg_catalog.age(r.backend_xmin) >= $2 \
    UNION ALL SELECT 'prepared', p.gid, NULL, p.owner::text, NULL, NULL, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared), \
    pg_catalog.age(p.transaction)::bigint FROM pg_catalog.pg_prepared_xacts p \
    WHERE p.database = pg_catalog.current_database() AND p.prepared < pg_catalog.clock_timestamp() - $1 * interval '1 second' \
    ORDER BY transactions DESC, seconds DESC NULLS LAST";

/// Those who have held one for longer than `old`, the oldest first.
pub async fn pins(session: &mut Session, old: Duration) -> Result<Vec<Pin>> {
    session
        .reading(async |session| pinned(session, old).await)
        .await
}

/// The same within a transaction.
pub(in crate::postgres) async fn pinned(session: &mut Session, old: Duration) -> Result<Vec<Pin>> {
    let rows = session
        .all(PINS, |q| q.bind(old.as_secs_f64()).bind(MANY_TRANSACTIONS))
        .await?;
    rows.iter().map(pin).collect()
}

fn pin(row: &PgRow) -> Result<Pin> {
    let kind: &str = row.try_get("kind")?;
    Ok(Pin {
        kind: match kind {
            "slot" => Pinning::Slot,
            "idle-slot" => Pinning::IdleSlot,
            "standby" => Pinning::Standby,
            "prepared" => Pinning::Prepared,
            _ => Pinning::Session,
        },
        name: row.try_get("name")?,
        pid: row.try_get("pid")?,
        user: row.try_get("user")?,
        address: row.try_get("address")?,
        state: row.try_get("state")?,
        seconds: row.try_get("seconds")?,
        transactions: row.try_get("transactions")?,
    })
}
