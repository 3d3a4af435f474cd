//! Who holds the locks of an outbox. Any role that may connect may take them, so it may be somebody else than a relay.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::{Error, Result};
use super::key::BELL_CLASS;
use super::leader::LEADER_CLASS;
use super::session::Session;
use super::table::Table;

/// A session that holds a lock or waits for it, or a prepared transaction that holds one.
#[derive(Debug, Clone, Serialize)]
pub struct Holder {
    /// The server's process; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// Whether it calls itself what Doorbell's own sessions do.
    pub is_doorbell: bool,
    /// What the session calls itself: `doorbell VERSION leader PID` for a relay.
    pub application: String,
    /// The role, or the owner of a prepared transaction.
    pub user: Option<String>,
    /// Where it connects from; `None` is a Unix socket, or an address that our role may not see.
    pub address: Option<String>,
    /// Seconds since its session began; `None` where our role may not see it.
    pub connected_seconds: Option<f64>,
    /// Seconds since its present transaction began or was prepared; `None`: no transaction, or one that our role may not see.
    pub transaction_seconds: Option<f64>,
    /// The name of a prepared transaction.
    pub prepared: Option<String>,
}

/// Who holds the key of the bell.
#[derive(Debug, Serialize)]
pub struct BellHolders {
    /// Who holds it alone, so that writers ring: a relay that sleeps, or a stranger.
    pub held_by: Option<Holder>,
    /// Transactions that were silent, since the relay was awake, and are still open. It cannot sleep before they have ended.
    pub silent_writers: usize,
    /// That of them which began first.
    pub oldest_silent_writer: Option<Holder>,
}

/// Who holds the leader's lock, and the relays that wait for it.
pub async fn leader_holders(
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

/// Who holds the key of the bell.
pub(super) async fn bell_holders(session: &mut Session, table: &Table) -> Result<BellHolders> {
    let granted = holders(session, BELL_CLASS, table)
        .await?
        .into_iter()
        .filter(|lock| lock.is_granted);
    let (alone, shared): (Vec<_>, Vec<_>) = granted.partition(|lock| lock.is_exclusive);
    Ok(BellHolders {
        held_by: alone.into_iter().next().map(|lock| lock.holder),
        silent_writers: shared.len(),
        oldest_silent_writer: shared.into_iter().next().map(|lock| lock.holder),
    })
}

struct Lock {
    is_granted: bool,
    is_exclusive: bool,
    holder: Holder,
}

/// The oldest transaction first. Locks of a prepared transaction have no process; the lock on its own number says which one it is. A role without `pg_read_all_stats` sees of other roles' sessions their names only.
const HOLDERS: &str = "WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks) \
    SELECT l.granted, l.mode = 'ExclusiveLock' AS exclusive, l.pid, coalesce(a.application_name, '') AS application, \
    coalesce(a.usename, p.owner)::text AS user, pg_catalog.host(a.client_addr) AS address, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.backend_start) AS connected, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared)) AS transaction, p.gid AS prepared \
    FROM locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN locks t ON l.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid' AND t.virtualtransaction = l.virtualtransaction \
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = t.transactionid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    ORDER BY transaction DESC NULLS LAST, l.pid";

async fn holders(session: &mut Session, class: i32, table: &Table) -> Result<Vec<Lock>> {
    let rows = session
        .all(HOLDERS, |q| {
            q.bind(i64::from(class)).bind(i64::from(table.oid))
        })
        .await?;
    rows.iter().map(lock).collect::<Result<_>>()
}

fn lock(row: &PgRow) -> Result<Lock> {
    let application: String = row.try_get("application")?;
    let holder = Holder {
        pid: row.try_get("pid")?,
        is_doorbell: application.starts_with("doorbell "),
        application,
        user: row.try_get("user")?,
        address: row.try_get("address")?,
        connected_seconds: row.try_get("connected")?,
        transaction_seconds: row.try_get("transaction")?,
        prepared: row.try_get("prepared")?,
    };
    Ok::<_, Error>(Lock {
        is_granted: row.try_get("granted")?,
        is_exclusive: row.try_get("exclusive")?,
        holder,
    })
}

/// What the session that fetches calls itself where keys wait; 63 bytes are the most that the server keeps.
pub(super) fn reader_name(oid: u32, keys: usize) -> String {
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    match keys {
        0 => format!("doorbell {version} reader {process}"),
        _ => format!("doorbell {version} reader {process} holds {keys} keys of {oid}"),
    }
}

/// How many keys the leader holds back, as its session that fetches calls itself.
const HELD: &str = "SELECT coalesce(max(pg_catalog.split_part(r.application_name, ' ', 6)::bigint), 0) AS keys \
    FROM pg_catalog.pg_stat_activity l JOIN pg_catalog.pg_stat_activity r ON r.datid = l.datid AND r.client_addr IS NOT DISTINCT FROM l.client_addr \
    AND pg_catalog.split_part(r.application_name, ' ', 4) = pg_catalog.split_part(l.application_name, ' ', 4) \
    WHERE l.pid = $1 AND r.application_name ~ ('^doorbell [^ ]+ reader [0-9]+ holds [0-9]{1,9} keys of ' || $2 || '$')";

/// How many keys wait behind a row that Kafka cannot take, as the leader says.
pub(super) async fn held_keys(
    session: &mut Session,
    leader: Option<&Holder>,
    table: &Table,
) -> Result<i64> {
    let Some(pid) = leader.and_then(|leader| leader.pid) else {
        return Ok(0);
    };
    let oid = table.oid.to_string();
    let row = session.one(HELD, |q| q.bind(pid).bind(oid)).await?;
    Ok(row.try_get("keys")?)
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
    }
}
