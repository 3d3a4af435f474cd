//! The election of a leader: a standby asks for the leader's lock, and watches the relay that holds
//! it.

use std::time::Duration;

use sqlx::{FromRow, Row};

use super::leader::Leader;
use super::leader_watch::{TerminatedLeader, Watch};
use crate::numbers::counted_verb;
use crate::postgres::advisory_locks::LEADER_CLASS;
use crate::postgres::error::{Error, Result};
use crate::postgres::inspect::lock_holders::{Holder, leader_holders};
use crate::postgres::session::{Session, from_row};
use crate::postgres::table::Table;

/// How long one wait of a standby for the lock lasts. It is bounded because a wait holds back xmin,
/// and because the server ends a statement after 30 s.
const STANDBY_WAIT: Duration = Duration::from_secs(20);

/// How long after its end a wait may go unanswered before the session counts as lost.
const STANDBY_GRACE: Duration = Duration::from_secs(10);

/// A session that asks for the leader's lock.
pub(crate) struct Candidate {
    session: Session,
    watch: Watch,
}

#[derive(Debug)]
pub(crate) enum Waited {
    Granted,
    NotYet,
    /// The leader was unresponsive, and its sessions were terminated. The next wait gets the lock,
    /// in this relay or in another one.
    Terminated(TerminatedLeader),
}

/// How many outboxes of the database each relay process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    pub ours: i64,
    /// Outboxes that the other process with the fewest leads. `None`: there is no other process.
    pub fewest: Option<i64>,
    /// The same among the processes that wait for this outbox.
    pub fewest_waiting: Option<i64>,
}

from_row! { Shares: ours fewest fewest_waiting }

/// A process is identified by its client address and by the word and the process id in its
/// `application_name`.
const SHARES: &str = "WITH relays AS (SELECT a.client_addr, pg_catalog.split_part(a.application_name, ' ', 2) AS word, \
        pg_catalog.split_part(a.application_name, ' ', 4) AS process, \
        bool_or(a.pid = pg_catalog.pg_backend_pid()) AS ours, count(*) FILTER (WHERE l.granted) AS leads, \
        coalesce(bool_or(NOT l.granted AND l.objid = $2::bigint::oid), false) AS waits \
        FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 2 \
            AND l.classid = $1::bigint::oid AND l.database = a.datid \
        WHERE a.datname = pg_catalog.current_database() AND a.application_name LIKE 'doorbell %' \
        AND pg_catalog.has_table_privilege(a.usesysid, $2::bigint::oid, 'DELETE') \
        AND pg_catalog.split_part(a.application_name, ' ', 3) IN ('leader', 'key', 'reader', 'bell') GROUP BY 1, 2, 3) \
    SELECT coalesce(sum(leads) FILTER (WHERE ours), 0)::bigint AS ours, min(leads) FILTER (WHERE NOT ours) AS fewest, \
    min(leads) FILTER (WHERE NOT ours AND waits) AS fewest_waiting FROM relays";

/// Connections that are left to the role, and those that the relay leaves to other clients.
const CONNECTIONS: &str = "SELECT pg_catalog.current_setting('max_connections')::bigint - CASE WHEN r.rolsuper THEN 0 ELSE \
        pg_catalog.current_setting('superuser_reserved_connections')::bigint + coalesce(pg_catalog.current_setting('reserved_connections', true)::bigint, 0) END \
    - (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') OPERATOR(pg_catalog.=) 'client backend'), \
    pg_catalog.current_setting('max_connections')::bigint / 10 FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Fails where so many sessions more would leave less than a tenth of the connections to others.
pub(crate) async fn leave_connections(session: &mut Session, sessions: usize) -> Result<()> {
    let row = session.one_plain(CONNECTIONS).await?;
    let (left, reserve): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    match left >= reserve.saturating_add_unsigned(sessions as u64) {
        true => Ok(()),
        false => Err(Error::out_of_connections(format!(
            "{} left, and the relay leaves {reserve} to other clients: raise max_connections, or end unneeded sessions",
            counted_verb(left.max(0), "connection", "are")
        ))),
    }
}

impl Candidate {
    pub(crate) async fn new(mut session: Session) -> Result<Self> {
        session.configure().await?;
        let watch = Watch::default();
        Ok(Self { session, watch })
    }

    pub(crate) async fn try_lead(&mut self, table: &Table) -> Result<bool> {
        let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";
        self.session
            .value(lock, |q| q.bind(LEADER_CLASS).bind(table.oid as i32))
            .await
    }

    /// Waits for the lock for a bounded time, then checks that the leader was active within
    /// `leader_timeout`.
    pub(crate) async fn wait(&mut self, table: &Table, leader_timeout: Duration) -> Result<Waited> {
        let (class, key) = (LEADER_CLASS, table.oid as i32);
        // Four looks within the timeout are precise enough.
        let wait = STANDBY_WAIT.min(leader_timeout / 4);
        let millis = wait.as_millis().to_string();
        let row = self
            .session
            .one_within(
                wait + STANDBY_GRACE,
                "SELECT doorbell.lock_within($1, $2, ($3 || ' ms')::interval)",
                |q| q.bind(class).bind(key).bind(millis),
            )
            .await?;
        if row.try_get(0)? {
            return Ok(Waited::Granted);
        }
        let (session, watch) = (&mut self.session, &mut self.watch);
        let terminated = watch.look(session, table, wait, leader_timeout).await?;
        Ok(terminated.map_or(Waited::NotYet, Waited::Terminated))
    }

    /// Counts the outboxes that this process and other processes lead.
    pub(crate) async fn shares(&mut self, table: &Table) -> Result<Shares> {
        let row = self
            .session
            .one(SHARES, |q| {
                q.bind(i64::from(LEADER_CLASS)).bind(i64::from(table.oid))
            })
            .await?;
        Ok(Shares::from_row(&row)?)
    }

    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.session.ping().await
    }

    /// Releases the lock for the standby that has waited longest.
    pub(crate) async fn yield_lead(&mut self, table: &Table) -> Result<()> {
        let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, $2)";
        self.session
            .one(unlock, |q| q.bind(LEADER_CLASS).bind(table.oid as i32))
            .await
            .map(drop)
    }

    /// Returns the holder of the lock if it is not a relay: any role that may connect can take it.
    pub(crate) async fn stranger(&mut self, table: &Table) -> Result<Option<Holder>> {
        let (holder, _) = leader_holders(&mut self.session, table).await?;
        Ok(holder.filter(|holder| !holder.is_doorbell))
    }

    /// Becomes the leader, once the lock is granted.
    pub(crate) async fn lead(self, table: &Table) -> Result<Leader> {
        Leader::new(self.session, table).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::session::SESSION_SETTINGS;

    #[test]
    fn a_standby_waits_for_less_than_a_statement_may_take() {
        let (_, rest) = SESSION_SETTINGS
            .split_once("statement_timeout = ")
            .expect("it is bounded");
        let millis = rest.split_once(';').expect("more settings").0.parse();
        assert!(
            STANDBY_WAIT + Duration::from_secs(5)
                <= Duration::from_millis(millis.expect("a number"))
        );
    }
}
