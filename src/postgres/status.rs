//! What `doorbell status` asks the database.

use serde::Serialize;
use sqlx::Row;

use super::error::Result;
use super::leader::LEADER_CLASS;
use super::session::Session;
use super::table::{Table, Trigger};

/// Rows are counted up to here: beyond it the exact number helps nobody, and the count would take seconds.
const COUNT_LIMIT: i64 = 1_000_000;

/// The state of one outbox as the database knows it.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The table, quoted, with its schema.
    pub outbox: String,
    /// Rows that wait or are on their way.
    pub backlog: i64,
    /// Whether there are more rows than were counted.
    pub backlog_is_more: bool,
    /// Seconds since the row with the lowest id was created.
    pub oldest_seconds: Option<f64>,
    /// The relay that leads.
    pub leader: Option<Holder>,
    /// The relays that wait for the leader's lock.
    pub standbys: Vec<Holder>,
    /// `enabled`, `disabled` or `missing`.
    pub trigger: &'static str,
}

/// A session that holds the leader's lock, or waits for it.
#[derive(Debug, Serialize)]
pub struct Holder {
    /// The server's process.
    pub pid: i32,
    /// What the session calls itself: `doorbell VERSION leader PID` for a relay.
    pub application: String,
    /// Where it connects from; `None` is a Unix socket.
    pub address: Option<String>,
    /// Seconds since its session began.
    pub connected_seconds: f64,
}

/// Asks.
pub async fn status(session: &mut Session, table: &Table) -> Result<Status> {
    session
        .reading(async |session| ask(session, table).await)
        .await
}

async fn ask(session: &mut Session, table: &Table) -> Result<Status> {
    let (id, created_at, quoted) = (&table.columns.id, &table.columns.created_at, &table.quoted);
    let count = format!("SELECT count(*) FROM (SELECT FROM {quoted} LIMIT {COUNT_LIMIT} + 1) r");
    let backlog: i64 = session.one(&count, |q| q).await?.try_get(0)?;
    let oldest = format!(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - {created_at}) FROM {quoted} \
         WHERE pg_catalog.isfinite({created_at}) ORDER BY {id} LIMIT 1"
    );
    let oldest = session.all(&oldest, |q| q).await?;
    let holders = holders(session, table).await?;
    let (leader, standbys): (Vec<_>, Vec<_>) =
        holders.into_iter().partition(|(granted, _)| *granted);
    Ok(Status {
        outbox: quoted.clone(),
        backlog: backlog.min(COUNT_LIMIT),
        backlog_is_more: backlog > COUNT_LIMIT,
        oldest_seconds: oldest.first().map(|row| row.try_get(0)).transpose()?,
        leader: leader.into_iter().next().map(|(_, holder)| holder),
        standbys: standbys.into_iter().map(|(_, holder)| holder).collect(),
        trigger: match table.trigger {
            Trigger::Enabled => "enabled",
            Trigger::Disabled => "disabled",
            Trigger::Missing => "missing",
        },
    })
}

async fn holders(session: &mut Session, table: &Table) -> Result<Vec<(bool, Holder)>> {
    const HOLDERS: &str = "SELECT l.granted, l.pid, coalesce(a.application_name, '') AS application, a.client_addr::text AS address, \
        coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.backend_start), 0) AS connected \
        FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid \
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
        ORDER BY l.granted DESC, l.pid";
    let rows = session
        .all(HOLDERS, |q| {
            q.bind(i64::from(LEADER_CLASS)).bind(i64::from(table.oid))
        })
        .await?;
    rows.iter()
        .map(|row| {
            let holder = Holder {
                pid: row.try_get("pid")?,
                application: row.try_get("application")?,
                address: row.try_get("address")?,
                connected_seconds: row.try_get("connected")?,
            };
            Ok((row.try_get("granted")?, holder))
        })
        .collect()
}
