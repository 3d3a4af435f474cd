//! What `doorbell status` asks the database.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row;

use super::error::Result;
use super::holders::{BellHolders, Holder, bell_holders, held_keys, leader_holders};
use super::registry::{self, Pause};
use super::session::Session;
use super::survey::{Pin, pinned};
use super::table::{Table, Trigger};

/// Rows are counted up to here: beyond it the exact number helps nobody, and the count would take seconds.
const COUNT_LIMIT: i64 = 1_000_000;

/// A snapshot that is held for longer is worth a word. A queue of some thousand rows a second has a million dead rows by then.
const OLD_SNAPSHOT: Duration = Duration::from_secs(300);

/// The state of one outbox as the database knows it.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The table, quoted, with its schema.
    pub outbox: String,
    /// Somebody paused it: nothing is fetched.
    pub paused: Option<Pause>,
    /// Rows that wait or are on their way.
    pub backlog: i64,
    /// Whether there are more rows than were counted.
    pub backlog_is_more: bool,
    /// Seconds since the row with the lowest id was created.
    pub oldest_seconds: Option<f64>,
    /// Rows that Kafka could not take; `None` where the role may not see them, or the schema is of an earlier version.
    pub dead: Option<i64>,
    /// Keys that wait behind a row which Kafka cannot take (the policy `hold-key`), as the leader says.
    pub held_keys: i64,
    /// Who holds the leader's lock. A stranger there stops delivery.
    pub leader: Option<Holder>,
    /// The relays that wait for the leader's lock.
    pub standbys: Vec<Holder>,
    /// Who holds the key that tells writers whether to ring.
    pub bell: BellHolders,
    /// Who has kept dead rows of this database from being cleaned up for long.
    pub snapshots: Vec<Pin>,
    /// `enabled`, `of an earlier version`, `disabled` or `missing`.
    pub trigger: &'static str,
}

/// Asks.
pub async fn status(session: &mut Session, table: &Table) -> Result<Status> {
    session
        .reading(async |session| ask(session, table).await)
        .await
}

/// How many rows there are; from a million on an estimate by the ids, which is exact where none was lost.
pub async fn backlog(session: &mut Session, table: &Table) -> Result<u64> {
    let (id, quoted) = (&table.columns.id, &table.quoted);
    let (count, span) = (
        count(table),
        format!("SELECT pg_catalog.max({id})::float8 - pg_catalog.min({id}) + 1 FROM {quoted}"),
    );
    session
        .reading(async |session| {
            let rows: i64 = session.one(&count, |q| q).await?.try_get(0)?;
            if rows <= COUNT_LIMIT {
                return Ok(rows as u64);
            }
            let span: Option<f64> = session.one(&span, |q| q).await?.try_get(0)?;
            Ok(span.unwrap_or_default() as u64)
        })
        .await
}

fn count(table: &Table) -> String {
    let quoted = &table.quoted;
    format!("SELECT count(*) FROM (SELECT FROM {quoted} LIMIT {COUNT_LIMIT} + 1) r")
}

async fn ask(session: &mut Session, table: &Table) -> Result<Status> {
    let (id, created_at, quoted) = (&table.columns.id, &table.columns.created_at, &table.quoted);
    let backlog: i64 = session.one(&count(table), |q| q).await?.try_get(0)?;
    let oldest = format!(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - {created_at}) FROM {quoted} \
         WHERE pg_catalog.isfinite({created_at}) ORDER BY {id} LIMIT 1"
    );
    let oldest = session.all(&oldest, |q| q).await?;
    let (leader, standbys) = leader_holders(session, table).await?;
    let bell = bell_holders(session, table).await?;
    Ok(Status {
        outbox: quoted.clone(),
        paused: registry::entry(session, quoted).await?.pause,
        backlog: backlog.min(COUNT_LIMIT),
        backlog_is_more: backlog > COUNT_LIMIT,
        oldest_seconds: oldest.first().map(|row| row.try_get(0)).transpose()?,
        dead: dead(session, table).await?,
        held_keys: held_keys(session, leader.as_ref(), table).await?,
        leader,
        standbys,
        bell,
        snapshots: pinned(session, OLD_SNAPSHOT).await?,
        trigger: match table.trigger {
            Trigger::Enabled => "enabled",
            Trigger::Earlier => "of an earlier version",
            Trigger::Disabled => "disabled",
            Trigger::Missing => "missing",
        },
    })
}

async fn dead(session: &mut Session, table: &Table) -> Result<Option<i64>> {
    const MAY: &str = "SELECT coalesce(pg_catalog.has_column_privilege(t.oid, 'outbox', 'SELECT') \
        AND pg_catalog.has_column_privilege(t.oid, 'retried_at', 'SELECT'), false) \
        FROM (SELECT pg_catalog.to_regclass('doorbell.dead')::oid AS oid) t";
    const COUNT: &str =
        "SELECT count(*) FROM doorbell.dead WHERE outbox = $1 AND retried_at IS NULL";
    if !session.one(MAY, |q| q).await?.try_get::<bool, _>(0)? {
        return Ok(None);
    }
    let row = session.one(COUNT, |q| q.bind(&table.quoted)).await?;
    Ok(Some(row.try_get(0)?))
}
