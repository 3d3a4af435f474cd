//! What prevents vacuum from removing dead rows: sessions, replication slots, standby servers and
//! prepared transactions that hold an old snapshot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock_holders::LOOK_ANEW;
use crate::postgres::error::Result;
use crate::postgres::session::Session;

/// Slots and standbys do not report since when they hold a snapshot. This many transactions is long
/// for any of them.
pub(crate) const MANY_TRANSACTIONS: i64 = 100_000;

/// An old snapshot, and its holder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OldSnapshot {
    /// Kind of the holder.
    pub kind: SnapshotHolder,
    /// Name of the holder, or its `application_name`.
    pub name: String,
    /// Server process.
    pub pid: Option<i32>,
    /// Role.
    pub user: Option<String>,
    /// Client address.
    pub address: Option<String>,
    /// State of a session: `active`, `idle in transaction`.
    pub state: Option<String>,
    /// Seconds since it is held. `None`: the server does not report it.
    pub seconds: Option<f64>,
    /// Transactions that began since.
    pub transactions: i64,
}

/// Kinds of holders of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotHolder {
    /// A session with an open transaction.
    Session,
    /// A replication slot that is active.
    Slot,
    /// A replication slot that is not active.
    IdleSlot,
    /// A standby server with `hot_standby_feedback`.
    Standby,
    /// A prepared transaction.
    Prepared,
}

/// Sessions of other databases hold back nothing here, but slots and standbys do. Vacuum ignores a
/// VACUUM, and a parallel worker has the snapshot of its session. A session that is busy may take a
/// new snapshot with each statement of a long transaction: its own is old if the statement is, if
/// the transaction has written, or by the transactions since. They are counted from the snapshot of
/// this query: beside a long transaction of any database every new snapshot reaches far back.
/// `to_jsonb`: `inactive_since` exists from PostgreSQL 17 on. `$1`: seconds from which a session or
/// an inactive slot counts; `$2`: transactions from which the others count.
pub(crate) const PINS: &str = "SELECT 'session' AS kind, a.application_name AS name, a.pid, a.usename::text AS user, pg_catalog.host(a.client_addr) AS address, a.state, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start) AS seconds, \
    greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid))::bigint AS transactions FROM pg_catalog.pg_stat_activity a \
    WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type NOT IN ('autovacuum worker', 'walsender', 'parallel worker') \
    AND coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL AND a.xact_start < pg_catalog.clock_timestamp() - $1 * interval '1 second' \
    AND (a.backend_xid IS NOT NULL OR a.state_change < pg_catalog.clock_timestamp() - $1 * interval '1 second' OR pg_catalog.age(a.backend_xmin) - pg_catalog.age(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::xid) >= 1000) \
    AND a.pid NOT IN (SELECT v.pid FROM pg_catalog.pg_stat_progress_vacuum v) \
    UNION ALL SELECT CASE WHEN s.active THEN 'slot' ELSE 'idle-slot' END, s.slot_name::text, s.active_pid, NULL, NULL, NULL, i.seconds, pg_catalog.age(s.xmin)::bigint \
    FROM pg_catalog.pg_replication_slots s LEFT JOIN LATERAL (SELECT t.seconds FROM pg_catalog.date_part('epoch', \
        pg_catalog.clock_timestamp() - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz) t (seconds) WHERE t.seconds > $1) i ON true \
    WHERE s.xmin IS NOT NULL AND (i.seconds IS NOT NULL OR pg_catalog.age(s.xmin) >= $2) \
    UNION ALL SELECT 'standby', r.application_name, r.pid, r.usename::text, pg_catalog.host(r.client_addr), NULL, NULL, pg_catalog.age(r.backend_xmin)::bigint \
    FROM pg_catalog.pg_stat_replication r WHERE pg_catalog.age(r.backend_xmin) >= $2 \
    UNION ALL SELECT 'prepared', p.gid, NULL, p.owner::text, NULL, NULL, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared), \
    pg_catalog.age(p.transaction)::bigint FROM pg_catalog.pg_prepared_xacts p \
    WHERE p.database = pg_catalog.current_database() AND p.prepared < pg_catalog.clock_timestamp() - $1 * interval '1 second' \
    ORDER BY transactions DESC, seconds DESC NULLS LAST";

/// Lists the snapshots that have been held for longer than `old`, the oldest first.
pub(crate) async fn old_snapshots(
    session: &mut Session,
    old: Duration,
) -> Result<Vec<OldSnapshot>> {
    session
        .reading(async |session| held_for(session, old).await)
        .await
}

/// Does the same within a transaction.
pub(crate) async fn held_for(session: &mut Session, old: Duration) -> Result<Vec<OldSnapshot>> {
    session.batch(LOOK_ANEW).await?;
    let sql = format!("SELECT pg_catalog.to_jsonb(p)::text FROM ({PINS}) p");
    let pins: Vec<String> = session
        .values(&sql, |q| q.bind(old.as_secs_f64()).bind(MANY_TRANSACTIONS))
        .await?;
    // The server wrote them from the same columns. One that cannot be read counts as none.
    let pins = pins.iter().map(|pin| serde_json::from_str(pin));
    Ok(pins.filter_map(std::result::Result::ok).collect())
}
