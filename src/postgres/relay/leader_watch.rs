//! Watches the leader from a standby, and terminates the sessions of a leader that is unresponsive.

use std::time::Duration;

use crate::postgres::advisory_locks::LEADER_CLASS;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, from_row};
use crate::postgres::table::Table;

/// What a standby has seen of the leader. A frozen relay keeps its sessions and their locks,
/// because its kernel still answers the server. A relay that runs uses each of its sessions now and
/// then, and the server records when.
///
/// Only the time that the standby itself has waited counts, not the server's clock. A clock that
/// jumps, or a server or standby that was stopped, does not make a leader look unresponsive.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<LastActivity>,
    idle: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LastActivity {
    pid: i32,
    /// When it was, by the server's clock.
    at: String,
    /// When the standby first saw it, by the server's clock. A session that was active later is not
    /// terminated.
    seen_at: String,
}

from_row! { LastActivity: pid at seen_at }

impl Watch {
    /// Records what was seen after a wait. Returns how long the leader has certainly been idle.
    fn note(&mut self, activity: Option<LastActivity>, waited: Duration) -> Duration {
        let is_same = match (&self.seen, &activity) {
            (Some(before), Some(now)) => before.pid == now.pid && before.at == now.at,
            _ => false,
        };
        if is_same {
            self.idle += waited;
        } else {
            self.seen = activity;
            self.idle = Duration::ZERO;
        }
        self.idle
    }
}

#[derive(Debug)]
pub(crate) struct TerminatedLeader {
    /// Its `application_name`: `doorbell VERSION+WORD leader PID`.
    pub application: String,
    /// Its client address. `None`: a Unix socket.
    pub address: Option<String>,
    /// How long the standby saw no activity.
    pub silent: Duration,
    pub sessions: i64,
}

/// The session that holds the leader's lock of $2, if it belongs to a relay with the same role, and
/// when it was last active: now, if a statement runs and does not wait for its client to read. Of
/// other roles' sessions the standby may not see the activity, and it could not terminate them. A
/// role that `ALTER ROLE ... SET role` prescribes may do neither, but the role that logged in may.
const LAST_ACTIVITY: &str = "SELECT a.pid, CASE WHEN a.state = 'active' AND a.wait_event IS DISTINCT FROM 'ClientWrite' \
        THEN pg_catalog.clock_timestamp() ELSE a.state_change END::text AS at, pg_catalog.clock_timestamp()::text AS seen_at \
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND a.application_name LIKE 'doorbell %' AND a.usename = session_user AND a.state_change IS NOT NULL \
    AND (SELECT pg_catalog.set_config('role', 'none', true)) = 'none'";

/// Terminates the leader's session, and those of the same process that were not active either: one
/// holds the wake lock if the relay slept, and one listens.
const TERMINATE: &str = "WITH leader AS (SELECT *, pg_catalog.split_part(application_name, ' ', 2) AS word, pg_catalog.split_part(application_name, ' ', 4) AS process FROM pg_catalog.pg_stat_activity \
        WHERE pid = $1 AND state_change::text = $2 AND (SELECT pg_catalog.set_config('role', 'none', true)) = 'none'), \
    ended AS MATERIALIZED (SELECT pg_catalog.pg_terminate_backend(a.pid) AS ended FROM pg_catalog.pg_stat_activity a, leader \
        WHERE a.datid = leader.datid AND a.usesysid = leader.usesysid AND a.client_addr IS NOT DISTINCT FROM leader.client_addr \
        AND a.application_name LIKE 'doorbell %' AND pg_catalog.split_part(a.application_name, ' ', 3) IN ('leader', 'key', 'reader', 'bell') \
        AND pg_catalog.split_part(a.application_name, ' ', 2) = leader.word AND pg_catalog.split_part(a.application_name, ' ', 4) = leader.process AND a.state_change < $3::timestamptz) \
    SELECT leader.application_name AS application, pg_catalog.host(leader.client_addr) AS address, \
    (SELECT count(*) FROM ended WHERE ended) AS sessions FROM leader";

impl Watch {
    /// Looks at the leader after a wait, and terminates its sessions if it has been idle for
    /// `timeout`.
    pub(crate) async fn look(
        &mut self,
        session: &mut Session,
        table: &Table,
        waited: Duration,
        timeout: Duration,
    ) -> Result<Option<TerminatedLeader>> {
        let mut activity = session
            .rows(LAST_ACTIVITY, |q| {
                q.bind(i64::from(LEADER_CLASS)).bind(i64::from(table.oid))
            })
            .await?;
        let silent = self.note(activity.pop(), waited);
        if silent < timeout {
            return Ok(None);
        }
        let Some(seen) = self.seen.take() else {
            return Ok(None);
        };
        let mut ended: Vec<(String, Option<String>, i64)> = session
            .rows(TERMINATE, |q| {
                q.bind(seen.pid).bind(seen.at).bind(seen.seen_at)
            })
            .await?;
        let leader = |(application, address, sessions)| TerminatedLeader {
            application,
            address,
            silent,
            sessions,
        };
        Ok(ended.pop().map(leader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn activity(pid: i32, at: &str) -> Option<LastActivity> {
        let (at, seen_at) = (at.to_owned(), "now".to_owned());
        Some(LastActivity { pid, at, seen_at })
    }

    #[test]
    fn only_the_same_activity_of_the_same_session_counts_as_idle() {
        let mut watch = Watch::default();
        let idle = |watch: &mut Watch, activity| watch.note(activity, WAIT);
        // The first look has nothing to compare with.
        assert_eq!(idle(&mut watch, activity(1, "a")), Duration::ZERO);
        assert_eq!(idle(&mut watch, activity(1, "a")), WAIT);
        assert_eq!(idle(&mut watch, activity(1, "a")), WAIT * 2);
        assert_eq!(idle(&mut watch, activity(1, "b")), Duration::ZERO);
        assert_eq!(idle(&mut watch, activity(1, "b")), WAIT);
        assert_eq!(idle(&mut watch, activity(2, "b")), Duration::ZERO);
        assert_eq!(idle(&mut watch, activity(2, "b")), WAIT);
        // The lock is free, or its holder is of another role.
        assert_eq!(idle(&mut watch, None), Duration::ZERO);
        assert_eq!(idle(&mut watch, None), Duration::ZERO);
        assert_eq!(idle(&mut watch, activity(2, "b")), Duration::ZERO);
    }
}
