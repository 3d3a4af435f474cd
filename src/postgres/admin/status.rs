//! What `doorbell status` asks the database.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row as _;
use tokio::time::sleep;

use crate::postgres::error::Result;
use crate::postgres::inspect::lock_holders::{
    Holder, WakeLockHolders, bell_holders, connected_relays, held_keys, leader_holders,
    order_strangers,
};
use crate::postgres::inspect::{OldSnapshot, held_for};
use crate::postgres::relay::registry::{self, Pause};
use crate::postgres::session::Session;
use crate::postgres::table::{Table, Trigger};

/// Limit of a count of rows. Beyond it the exact number does not matter, and the count would take
/// seconds.
const COUNT_LIMIT: i64 = 1_000_000;

/// A snapshot that is held for longer is reported. By then a queue of some thousand rows a second
/// has a million dead rows.
const OLD_SNAPSHOT: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// The table's quoted name with its schema.
    pub outbox: String,
    /// The pause, if an operator paused the outbox: then nothing is fetched.
    pub paused: Option<Pause>,
    /// Rows that wait or are on their way.
    pub backlog: i64,
    /// Whether there are more rows than were counted.
    pub backlog_is_more: bool,
    /// Rows whose time (`not_before`) is to come: they are no backlog.
    pub delayed: i64,
    /// Whether there are more of them than were counted.
    pub delayed_is_more: bool,
    /// Seconds until the next of them may be sent.
    pub next_due_seconds: Option<f64>,
    /// The lowest id.
    pub oldest_id: Option<i64>,
    /// Seconds since the row with the lowest id was created, or another one came due earlier.
    pub oldest_seconds: Option<f64>,
    /// Whether the oldest row has changed within a second: then rows leave, however old they are.
    pub moves: bool,
    /// Rows that Kafka could not take. `None`: the role may not read them, or the schema is of an
    /// earlier version.
    pub dead: Option<i64>,
    /// Keys that wait behind a row that Kafka cannot take (policy `hold-key`), as the leader
    /// publishes it.
    pub held_keys: i64,
    /// Rows that Kafka has and that the table keeps, as the leader publishes it.
    pub kept_rows: u64,
    /// Rows that routes dropped since the leading relay started, as it publishes it.
    pub dropped_rows: u64,
    /// Relays that are connected to the database while none leads. Those that lead another outbox
    /// are none of them.
    pub connected: Vec<String>,
    /// Whether any relay is connected while none leads.
    #[serde(skip)]
    pub has_relays: bool,
    /// Holder of the leader's lock. If it is not a relay, nothing is delivered.
    pub leader: Option<Holder>,
    pub standbys: Vec<Holder>,
    /// Holders of the wake lock, which tells writers whether to ring.
    pub bell: WakeLockHolders,
    /// Sessions that keep writers waiting by locks of `sql/strict_order.sql` and are no writers.
    pub order_strangers: Vec<Holder>,
    /// Sessions and others that have long prevented vacuum from removing dead rows of this
    /// database.
    pub snapshots: Vec<OldSnapshot>,
    /// `enabled`, `of an earlier version`, `disabled` or `missing`.
    pub trigger: &'static str,
}

/// Seconds from which on a waiting row is stuck: the default of the sweep.
pub(crate) const LONG_WAIT: f64 = 60.0;

/// Time between two looks, where one alone does not tell a moment from a state.
const SECOND_LOOK: Duration = Duration::from_secs(1);

impl Status {
    /// Returns how long the oldest row has waited, if a relay leads and it is stuck. A row may be
    /// the oldest because its key waits, or because it is sent and cannot be deleted, while all
    /// others leave.
    pub(crate) fn stuck(&self, seconds: f64) -> Option<f64> {
        let led = self.leader.as_ref().is_some_and(|it| it.is_doorbell) && self.paused.is_none();
        let is_explained = self.held_keys > 0 || self.kept_rows > 0;
        let stuck = self
            .oldest_seconds
            .filter(|_| led && !self.moves && !is_explained);
        stuck.filter(|it| *it >= seconds)
    }
}

/// Looks twice at a row that has waited for `long` seconds.
pub(crate) async fn status(session: &mut Session, table: &Table, long: f64) -> Result<Status> {
    let look = async |session: &mut Session| {
        session
            .reading(async |session| ask(session, table).await)
            .await
    };
    let mut status = look(session).await?;
    // Between the end of a leader and the next one no relay leads for a moment.
    if status.leader.is_none() && status.has_relays {
        sleep(SECOND_LOOK).await;
        status = look(session).await?;
    }
    // A time of creation may be anything, and a backlog may be old: another row is first if rows
    // leave.
    if status.leader.is_some() && status.oldest_seconds >= Some(long) {
        sleep(SECOND_LOOK).await;
        let oldest = session
            .reading(async |session| oldest(session, table).await)
            .await?;
        status.moves = oldest.map(|(id, _)| id) != status.oldest_id;
    }
    Ok(status)
}

/// Returns id and age of the row with the lowest id, or of another one that came due earlier.
async fn oldest(session: &mut Session, table: &Table) -> Result<Option<(i64, f64)>> {
    let (c, quoted) = (&table.columns, &table.quoted);
    let (id, created_at) = (&c.id, &c.created_at);
    let first = |since: &str, condition: &str, order: &str| {
        format!(
            "SELECT {id}, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - {since}) FROM {quoted} \
             WHERE pg_catalog.isfinite({since}) AND {condition} ORDER BY {order} LIMIT 1"
        )
    };
    let by_id = format!("{id} IS NOT NULL{}", c.undelayed());
    let mut oldest = first(created_at, &by_id, id);
    if let Some((time, due)) = c.not_before.as_ref().zip(c.came_due()) {
        let due = first(time, &due, &format!("{time}, {id}"));
        oldest = format!("({oldest}) UNION ALL ({due}) ORDER BY 2 DESC LIMIT 1");
    }
    let rows = session.all(&oldest, |q| q).await?;
    let row = rows.first();
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .transpose()
}

/// Counts the rows. From a million on it estimates by the ids, which is exact if no id was skipped.
pub(crate) async fn backlog(session: &mut Session, table: &Table) -> Result<u64> {
    let (id, quoted) = (&table.columns.id, &table.quoted);
    let (count, span) = (
        count(table),
        format!("SELECT pg_catalog.max({id})::float8 - pg_catalog.min({id}) + 1 FROM {quoted}"),
    );
    session
        .reading(async |session| {
            let rows: i64 = session.value(&count, |q| q).await?;
            if rows <= COUNT_LIMIT {
                return Ok(rows as u64);
            }
            let span: Option<f64> = session.value(&span, |q| q).await?;
            Ok(span.unwrap_or_default() as u64)
        })
        .await
}

fn count(table: &Table) -> String {
    let rows = table.sendable_rows("");
    format!("SELECT count(*) FROM ({rows} LIMIT {COUNT_LIMIT} + 1) r")
}

/// Returns how many rows may not be sent yet, as far as they were counted, and in how many seconds
/// the next one may.
pub(crate) async fn delayed(session: &mut Session, table: &Table) -> Result<(i64, Option<f64>)> {
    session
        .reading(async |session| count_delayed(session, table).await)
        .await
}

async fn count_delayed(session: &mut Session, table: &Table) -> Result<(i64, Option<f64>)> {
    let Some(sql) = table.delayed_rows(COUNT_LIMIT + 1) else {
        return Ok((0, None));
    };
    let row = session.one(&sql, |q| q).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn ask(session: &mut Session, table: &Table) -> Result<Status> {
    let quoted = &table.quoted;
    let backlog: i64 = session.value(&count(table), |q| q).await?;
    let oldest = oldest(session, table).await?;
    let (delayed, next_due_seconds) = count_delayed(session, table).await?;
    let (leader, standbys) = leader_holders(session, table).await?;
    let bell = bell_holders(session, table).await?;
    let relays = match leader {
        None => connected_relays(session).await?,
        Some(_) => Vec::new(),
    };
    let has_relays = !relays.is_empty();
    let without = relays.into_iter().filter(|(_, has_place)| !has_place);
    Ok(Status {
        outbox: quoted.clone(),
        paused: registry::entry(session, quoted).await?.pause,
        backlog: backlog.min(COUNT_LIMIT),
        backlog_is_more: backlog > COUNT_LIMIT,
        delayed: delayed.min(COUNT_LIMIT),
        delayed_is_more: delayed > COUNT_LIMIT,
        next_due_seconds,
        oldest_id: oldest.map(|(id, _)| id),
        oldest_seconds: oldest.map(|(_, seconds)| seconds),
        moves: false,
        dead: dead(session, table).await?,
        held_keys: held_keys(session, leader.as_ref(), table).await?,
        kept_rows: leader.as_ref().map_or(0, Holder::kept_rows),
        dropped_rows: leader.as_ref().map_or(0, Holder::dropped_rows),
        connected: without.map(|(name, _)| name).collect(),
        has_relays,
        leader,
        standbys,
        bell,
        order_strangers: order_strangers(session, table).await?,
        snapshots: held_for(session, OLD_SNAPSHOT).await?,
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
    if !session.value::<bool>(MAY, |q| q).await? {
        return Ok(None);
    }
    let count = session.value(COUNT, |q| q.bind(&table.quoted)).await?;
    Ok(Some(count))
}
