//! The other relays, as the server knows them: when the leader said its last word, the end of one that says nothing more, and who leads how many.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::{Error, Result};
use super::leader::LEADER_CLASS;
use super::session::Session;
use super::table::Table;

/// What a standby has seen of the leader. A relay that is frozen keeps its sessions and their locks, since its kernel answers the server for it; but one that
/// lives has each of them say something now and then, and the server notes when.
///
/// Only a standby's own waiting counts, not the server's clock: neither a clock that jumps nor a server or standby that was stopped itself makes silence.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Option<Word>,
    silent: Duration,
}

/// The last word of a leader's session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    pid: i32,
    /// When the server heard it, by the server's clock.
    at: String,
    /// When it was first seen, by the server's clock: whoever spoke later is no part of the silence.
    seen_at: String,
}

impl Watch {
    /// Takes in what was seen after a wait; how long the leader has been silent for certain.
    fn note(&mut self, word: Option<Word>, waited: Duration) -> Duration {
        let is_same = match (&self.seen, &word) {
            (Some(before), Some(now)) => before.pid == now.pid && before.at == now.at,
            _ => false,
        };
        if is_same {
            self.silent += waited;
        } else {
            self.seen = word;
            self.silent = Duration::ZERO;
        }
        self.silent
    }
}

/// A leader that said nothing for too long, and whose sessions were ended.
#[derive(Debug)]
pub struct Silenced {
    /// What its session called itself: `doorbell VERSION leader PID`.
    pub application: String,
    /// Where it connected from; `None` is a Unix socket.
    pub address: Option<String>,
    /// For how long it was seen to be silent.
    pub silent: Duration,
    /// Its sessions that were ended.
    pub sessions: i64,
}

/// The session that holds the lock of $2, if it is a relay's under our own role: of others we may not know, and could not end them.
const LAST_WORD: &str = "SELECT a.pid, a.state_change::text AS word, pg_catalog.clock_timestamp()::text AS now \
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND a.application_name LIKE 'doorbell %' AND a.usename = current_user AND a.state_change IS NOT NULL";

/// Ends the leader's session, and those of the same process that have said nothing either: one holds the key of the bell if the relay slept, and one listens.
const END: &str = "WITH leader AS (SELECT *, pg_catalog.split_part(application_name, ' ', 4) AS process FROM pg_catalog.pg_stat_activity \
        WHERE pid = $1 AND state_change::text = $2), \
    ended AS MATERIALIZED (SELECT pg_catalog.pg_terminate_backend(a.pid) AS ended FROM pg_catalog.pg_stat_activity a, leader \
        WHERE a.datid = leader.datid AND a.usesysid = leader.usesysid AND a.client_addr IS NOT DISTINCT FROM leader.client_addr \
        AND a.application_name LIKE 'doorbell %' AND pg_catalog.split_part(a.application_name, ' ', 3) IN ('leader', 'key', 'reader', 'bell') \
        AND pg_catalog.split_part(a.application_name, ' ', 4) = leader.process AND a.state_change < $3::timestamptz) \
    SELECT leader.application_name AS application, pg_catalog.host(leader.client_addr) AS address, \
    (SELECT count(*) FROM ended WHERE ended) AS sessions FROM leader";

impl Watch {
    /// Looks at the leader after a wait, and ends it if it has been silent for the time.
    pub(super) async fn look(
        &mut self,
        session: &mut Session,
        table: &Table,
        waited: Duration,
        timeout: Duration,
    ) -> Result<Option<Silenced>> {
        let rows = session
            .all(LAST_WORD, |q| {
                q.bind(i64::from(LEADER_CLASS)).bind(i64::from(table.oid))
            })
            .await?;
        let word = rows.first().map(word).transpose()?;
        let silent = self.note(word, waited);
        if silent < timeout {
            return Ok(None);
        }
        let Some(word) = self.seen.take() else {
            return Ok(None);
        };
        let rows = session
            .all(END, |q| q.bind(word.pid).bind(word.at).bind(word.seen_at))
            .await?;
        let ended = |row: &PgRow| {
            Ok::<_, Error>(Silenced {
                application: row.try_get("application")?,
                address: row.try_get("address")?,
                silent,
                sessions: row.try_get("sessions")?,
            })
        };
        rows.first().map(ended).transpose()
    }
}

fn word(row: &PgRow) -> Result<Word> {
    Ok(Word {
        pid: row.try_get("pid")?,
        at: row.try_get("word")?,
        seen_at: row.try_get("now")?,
    })
}

/// How many outboxes of the database the processes lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Our own process.
    pub ours: i64,
    /// The other process that leads fewest; `None`: there is no other.
    pub fewest: Option<i64>,
    /// The same among those that wait for this outbox.
    pub fewest_waiting: Option<i64>,
}

/// A process is known by its address and its number there, as its sessions call themselves.
const SHARES: &str = "WITH relays AS (SELECT a.client_addr, pg_catalog.split_part(a.application_name, ' ', 4) AS process, \
        bool_or(a.pid = pg_catalog.pg_backend_pid()) AS ours, count(*) FILTER (WHERE l.granted) AS leads, \
        coalesce(bool_or(NOT l.granted AND l.objid = $2::bigint::oid), false) AS waits \
        FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 2 \
            AND l.classid = $1::bigint::oid AND l.database = a.datid \
        WHERE a.datname = pg_catalog.current_database() AND a.application_name LIKE 'doorbell %' \
        AND pg_catalog.split_part(a.application_name, ' ', 3) IN ('leader', 'key', 'reader', 'bell') GROUP BY 1, 2) \
    SELECT coalesce(sum(leads) FILTER (WHERE ours), 0)::bigint AS ours, min(leads) FILTER (WHERE NOT ours) AS fewest, \
    min(leads) FILTER (WHERE NOT ours AND waits) AS fewest_waiting FROM relays";

/// Asks who leads how many.
pub(super) async fn shares(session: &mut Session, table: &Table) -> Result<Shares> {
    let row = session
        .one(SHARES, |q| {
            q.bind(i64::from(LEADER_CLASS)).bind(i64::from(table.oid))
        })
        .await?;
    Ok(Shares {
        ours: row.try_get("ours")?,
        fewest: row.try_get("fewest")?,
        fewest_waiting: row.try_get("fewest_waiting")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn word(pid: i32, at: &str) -> Option<Word> {
        let (at, seen_at) = (at.to_owned(), "now".to_owned());
        Some(Word { pid, at, seen_at })
    }

    #[test]
    fn only_the_same_word_of_the_same_session_is_silence() {
        let mut watch = Watch::default();
        let silent = |watch: &mut Watch, word| watch.note(word, WAIT);
        // The first look only shows where it stands.
        assert_eq!(silent(&mut watch, word(1, "a")), Duration::ZERO);
        assert_eq!(silent(&mut watch, word(1, "a")), WAIT);
        assert_eq!(silent(&mut watch, word(1, "a")), WAIT * 2);
        assert_eq!(silent(&mut watch, word(1, "b")), Duration::ZERO);
        assert_eq!(silent(&mut watch, word(1, "b")), WAIT);
        assert_eq!(silent(&mut watch, word(2, "b")), Duration::ZERO);
        assert_eq!(silent(&mut watch, word(2, "b")), WAIT);
        // Nobody holds the lock, or somebody of whom we may not know.
        assert_eq!(silent(&mut watch, None), Duration::ZERO);
        assert_eq!(silent(&mut watch, None), Duration::ZERO);
        assert_eq!(silent(&mut watch, word(2, "b")), Duration::ZERO);
    }
}
