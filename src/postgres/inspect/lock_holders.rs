//! Holders of the locks of an outbox. Any role that may connect can take them, so a holder need not
//! be a relay.

use serde::Serialize;

use crate::config::TableName;
use crate::postgres::advisory_locks::{BELL_CLASS, LEADER_CLASS, ORDER_CLASS};
use crate::postgres::error::Result;
use crate::postgres::server::session_name;
use crate::postgres::session::{Session, from_row};
use crate::postgres::table::Table;

/// A session that holds a lock or waits for it, or a prepared transaction that holds one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Holder {
    /// Server process. `None`: a prepared transaction.
    pub pid: Option<i32>,
    /// Whether it is a Doorbell session: by its `application_name`, which any role can choose, and
    /// a role that may delete or lock rows of the outbox, as a relay does.
    pub is_doorbell: bool,
    /// `application_name`. A relay has `doorbell VERSION+WORD leader PID`.
    pub application: String,
    /// The role, or the owner of a prepared transaction.
    pub user: Option<String>,
    /// Client address. `None`: a Unix socket, or an address that the role may not see.
    pub address: Option<String>,
    /// Seconds since the session began. `None`: the role may not see it.
    pub connected_seconds: Option<f64>,
    /// Seconds since the current transaction began or was prepared. `None`: no transaction, or one
    /// that the role may not see.
    pub transaction_seconds: Option<f64>,
    /// Name of a prepared transaction.
    pub prepared: Option<String>,
    /// Seconds for which it has certainly been in one transaction, or outside of any. `None`: the
    /// role may not see it. Locks and sessions are read one after the other: what held a lock for a
    /// moment may be idle when its session is read.
    #[serde(skip)]
    pub still_seconds: Option<f64>,
}

from_row! { Holder: pid is_doorbell application user address connected_seconds transaction_seconds prepared still_seconds }

/// Seconds for which a lock is held before it is reported; ordinary writers commit sooner.
const LONG_HELD: f64 = 1.0;

#[derive(Debug, Serialize)]
pub(crate) struct WakeLockHolders {
    /// Exclusive holder, because of which writers ring: a relay that sleeps, or another session.
    pub held_by: Option<Holder>,
    /// Number of open transactions that did not ring because the relay was awake. The relay cannot
    /// sleep before they have ended.
    pub silent_writers: usize,
    /// Those of them that have been open for more than a moment.
    #[serde(skip)]
    pub long_silent_writers: usize,
    /// The one of them that began first.
    pub oldest_silent_writer: Option<Holder>,
}

/// Returns the sessions that hold the table, or a partition of it, so that no other session can
/// read it. Such a lock is ordinary as long as no statement waits for it for long.
pub(crate) async fn table_holders(session: &mut Session, name: &TableName) -> Result<Vec<Holder>> {
    let Some(place) = session.place(name).await? else {
        return Ok(Vec::new());
    };
    let statement = HOLDERS.replace(
        "{which}",
        "l.mode = $1 AND l.granted AND (l.relation = $2::bigint::oid \
         OR l.relation IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $2::bigint::oid))",
    );
    let oid = i64::from(place.oid);
    session
        .reading(async |session| {
            let holders = session.rows(&statement, |q| q.bind("AccessExclusiveLock").bind(oid));
            holders.await
        })
        .await
}

/// Returns the holder of the leader's lock, and the relays that wait for it.
pub(crate) async fn leader_holders(
    session: &mut Session,
    table: &Table,
) -> Result<(Option<Holder>, Vec<Holder>)> {
    let (granted, waiting): (Vec<_>, Vec<_>) = holders(session, LEADER_CLASS, table)
        .await?
        .into_iter()
        .partition(|lock| lock.is_granted);
    let standbys = waiting.into_iter().map(|lock| lock.holder);
    Ok((
        granted.into_iter().next().map(|lock| lock.holder),
        standbys.filter(|holder| holder.is_doorbell).collect(),
    ))
}

pub(crate) async fn bell_holders(session: &mut Session, table: &Table) -> Result<WakeLockHolders> {
    let granted = holders(session, BELL_CLASS, table)
        .await?
        .into_iter()
        .filter(|lock| lock.is_granted);
    let (alone, mut shared): (Vec<_>, Vec<_>) = granted.partition(|lock| lock.is_exclusive);
    // A transaction that ended while its lock was read is none of those that are open.
    shared.retain(|lock| lock.holder.transaction_seconds.is_some() || !lock.holder.is_seen());
    let is_long = |lock: &&Lock| lock.holder.transaction_seconds >= Some(LONG_HELD);
    Ok(WakeLockHolders {
        held_by: alone.into_iter().next().map(|lock| lock.holder),
        silent_writers: shared.len(),
        long_silent_writers: shared.iter().filter(is_long).count(),
        oldest_silent_writer: shared.into_iter().next().map(|lock| lock.holder),
    })
}

/// Returns the holders of locks of `sql/strict_order.sql` that are no writers, if writers of the
/// table take such locks.
pub(crate) async fn order_strangers(session: &mut Session, table: &Table) -> Result<Vec<Holder>> {
    let mut locks = holders(session, ORDER_CLASS, table).await?;
    // One session may hold many.
    locks.dedup_by_key(|lock| (lock.holder.pid, lock.holder.prepared.clone()));
    let granted = locks.into_iter().filter(|lock| lock.is_granted);
    let holders = granted.map(|lock| lock.holder);
    let is_long = |holder: &Holder| holder.still_seconds.is_none_or(|it| it >= LONG_HELD);
    Ok(holders.filter(is_long).collect())
}

struct Lock {
    is_granted: bool,
    is_exclusive: bool,
    holder: Holder,
}

from_row! { Lock: is_granted is_exclusive; holder }

/// The oldest transaction comes first. A session that ended since the locks were read holds
/// nothing. Locks of a prepared transaction have no process; its lock on its own transaction id
/// identifies it. A role without `pg_read_all_stats` sees only the names of other roles' sessions.
const HOLDERS: &str = "WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks) \
    SELECT l.granted AS is_granted, l.mode = 'ExclusiveLock' AS is_exclusive, l.pid, coalesce(a.application_name, '') AS application, \
    coalesce(a.application_name LIKE 'doorbell %' AND pg_catalog.has_table_privilege(a.usesysid, $2::bigint::oid, 'DELETE, UPDATE'), false) AS is_doorbell, \
    coalesce(a.usename, p.owner)::text AS user, pg_catalog.host(a.client_addr) AS address, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.backend_start) AS connected_seconds, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared)) AS transaction_seconds, p.gid AS prepared, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - coalesce(a.xact_start, a.state_change, p.prepared)) AS still_seconds \
    FROM locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN locks t ON l.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid' AND t.virtualtransaction = l.virtualtransaction \
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = t.transactionid \
    WHERE {which} AND (a.pid IS NOT NULL OR p.gid IS NOT NULL) \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    ORDER BY transaction_seconds DESC NULLS LAST, l.pid";

/// Within a transaction the server shows all sessions as they were at the first look.
pub(super) const LOOK_ANEW: &str = "SELECT pg_catalog.pg_stat_clear_snapshot()";

/// Of the class of strict order, those that write to no table of that order count, whatever the
/// key: keys of all tables share these locks. A role that may not insert may write by a function.
async fn holders(session: &mut Session, class: i32, table: &Table) -> Result<Vec<Lock>> {
    let statement = HOLDERS.replace(
        "{which}",
        "l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND CASE WHEN $3 \
         THEN EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgname = 'doorbell_order' AND g.tgrelid = $2::bigint::oid) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgname = 'doorbell_order' AND (coalesce(pg_catalog.has_any_column_privilege(a.usesysid, g.tgrelid, 'INSERT'), false) \
            OR EXISTS (SELECT FROM locks w WHERE w.relation = g.tgrelid AND w.database = l.database AND w.mode = 'RowExclusiveLock' AND w.virtualtransaction = l.virtualtransaction AND w.pid IS NOT DISTINCT FROM l.pid))) \
         ELSE l.objid = $2::bigint::oid END",
    );
    session.batch(LOOK_ANEW).await?;
    let (class, oid, is_order) = (i64::from(class), i64::from(table.oid), class == ORDER_CLASS);
    let holders = session.rows(&statement, |q| q.bind(class).bind(oid).bind(is_order));
    holders.await
}

/// Returns the `application_name` of the session that fetches. The server keeps at most 63 bytes.
pub(crate) fn reader_name(oid: u32, keys: usize) -> String {
    let name = session_name("reader");
    match keys {
        0 => name,
        _ => format!("{name} holds {keys} of {oid}"),
    }
}

/// What a leader publishes in the name of its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeaderFigures {
    /// Rows that Kafka has and the table keeps.
    pub(crate) kept: usize,
    /// Rows that routes dropped since the relay started.
    pub(crate) dropped: u64,
    pub(crate) lacks_kafka: bool,
}

/// Bytes of an `application_name` that the server keeps.
const LONGEST_NAME: usize = 63;

/// Returns the `application_name` of the leader's session. The number of dropped rows is left out
/// where it would not fit beside what is urgent.
pub(crate) fn leader_name(figures: LeaderFigures) -> String {
    let name = session_name("leader");
    let part = |word: &str, rows: u64| match rows {
        0 => String::new(),
        rows => format!(" {word} {rows}"),
    };
    let dropped = part("drops", figures.dropped);
    let kept = part("keeps", figures.kept as u64);
    let kafka = match figures.lacks_kafka {
        true => " without Kafka",
        false => "",
    };
    let urgent = format!("{kept}{kafka}");
    match name.len() + dropped.len() + urgent.len() <= LONGEST_NAME {
        true => format!("{name}{dropped}{urgent}"),
        false => format!("{name}{urgent}"),
    }
}

impl Holder {
    /// Whether the role may see more of the session than its name.
    fn is_seen(&self) -> bool {
        self.connected_seconds.is_some() || self.prepared.is_some()
    }

    /// Rows that Kafka has and the table keeps, as the leader publishes it.
    pub(crate) fn kept_rows(&self) -> u64 {
        self.published(" keeps ")
    }

    /// Rows that routes dropped since the relay started, as the leader publishes it.
    pub(crate) fn dropped_rows(&self) -> u64 {
        self.published(" drops ")
    }

    fn published(&self, word: &str) -> u64 {
        let count = self.application.split_once(word);
        let count = count.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        count.filter(|_| self.is_doorbell).unwrap_or_default()
    }

    /// Whether the leader publishes that it reaches no broker.
    pub(crate) fn lacks_kafka(&self) -> bool {
        self.is_doorbell && self.application.ends_with(" without Kafka")
    }
}

/// Returns the relays that are connected to this database, as `VERSION, process PID`, and whether
/// each leads or stands by, for another outbox perhaps.
pub(crate) async fn connected_relays(session: &mut Session) -> Result<Vec<(String, bool)>> {
    const RELAYS: &str = "SELECT pg_catalog.split_part(a.application_name, ' ', 2) || ', process ' || pg_catalog.split_part(a.application_name, ' ', 4) AS name, \
        bool_or(l.pid IS NOT NULL) AS has_place FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.database = a.datid \
        AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid \
        WHERE a.datname = pg_catalog.current_database() AND a.application_name ~ '^doorbell [^ ]+ (reader|bell|leader) [0-9]' GROUP BY 1 ORDER BY 1";
    session
        .rows(RELAYS, |q| q.bind(i64::from(LEADER_CLASS)))
        .await
}

/// Number of keys that the leader holds back, from the name of its session that fetches.
const HELD: &str = "SELECT coalesce(max(pg_catalog.split_part(r.application_name, ' ', 6)::bigint), 0) AS keys \
    FROM pg_catalog.pg_stat_activity l JOIN pg_catalog.pg_stat_activity r ON r.datid = l.datid AND r.usesysid = l.usesysid AND r.client_addr IS NOT DISTINCT FROM l.client_addr \
    AND pg_catalog.split_part(r.application_name, ' ', 2) = pg_catalog.split_part(l.application_name, ' ', 2) \
    AND pg_catalog.split_part(r.application_name, ' ', 4) = pg_catalog.split_part(l.application_name, ' ', 4) \
    WHERE l.pid = $1 AND r.application_name ~ ('^doorbell [^ ]+ reader [0-9]+ holds [0-9]{1,9} (keys )?of ' || $2 || '$')";

/// Returns the number of keys that wait behind a row that Kafka cannot take, as the leader
/// publishes it.
pub(crate) async fn held_keys(
    session: &mut Session,
    leader: Option<&Holder>,
    table: &Table,
) -> Result<i64> {
    let Some(pid) = leader.and_then(|leader| leader.pid) else {
        return Ok(0);
    };
    let oid = table.oid.to_string();
    session.value(HELD, |q| q.bind(pid).bind(oid)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_kept_whole_by_the_server() {
        let name = reader_name(u32::MAX, 100_000);
        let process = std::process::id().to_string();
        let longest = name.replacen(&process, "4194304", 1);
        assert!(longest.len() <= 63, "{longest}");
        let figures = LeaderFigures {
            kept: 1_000_000,
            lacks_kafka: true,
            ..LeaderFigures::default()
        };
        let longest = leader_name(figures).replacen(&process, "4194304", 1);
        assert!(longest.len() <= 63, "{longest}");
        let dropped = u64::from(u32::MAX);
        let shown = leader_name(LeaderFigures {
            dropped,
            ..LeaderFigures::default()
        });
        assert!(shown.ends_with(" drops 4294967295"), "{shown}");
        assert_eq!(
            leader_name(LeaderFigures { dropped, ..figures }),
            leader_name(figures)
        );
    }
}
