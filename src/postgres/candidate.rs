//! A relay that asks for the leader's lock, and watches the one that has it.

use std::time::Duration;

use sqlx::Row;

use super::error::Result;
use super::holders::{Holder, leader_holders};
use super::leader::{LEADER_CLASS, Leader};
use super::peers::{self, Shares, Silenced, Watch};
use super::session::Session;
use super::table::Table;
use crate::config::Route;

/// How long a standby waits for the lock at once. While it waits it pins xmin, so not for ever.
const STANDBY_WAIT: Duration = Duration::from_secs(30);

/// A wait that is not answered so long after its end has lost its server.
const STANDBY_GRACE: Duration = Duration::from_secs(10);

/// A session that asks for the lock.
pub struct Candidate {
    session: Session,
    watch: Watch,
}

/// What a wait for the lock came to.
#[derive(Debug)]
pub enum Waited {
    /// The lock is ours.
    Granted,
    /// Another relay leads.
    NotYet,
    /// The leader said nothing for too long, and was ended: the next wait brings the lock, to us or to another.
    Silenced(Silenced),
}

impl Candidate {
    /// Takes a session over.
    pub async fn new(mut session: Session) -> Result<Self> {
        session.settle_in().await?;
        let watch = Watch::default();
        Ok(Self { session, watch })
    }

    /// Takes the lock if it is free.
    pub async fn try_lead(&mut self, table: &Table) -> Result<bool> {
        let row = self
            .session
            .one("SELECT pg_catalog.pg_try_advisory_lock($1, $2)", |q| {
                q.bind(LEADER_CLASS).bind(table.oid as i32)
            })
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Waits for the lock for a bounded time, then looks whether the leader has said something within `leader_timeout`.
    pub async fn wait(&mut self, table: &Table, leader_timeout: Duration) -> Result<Waited> {
        let (class, key) = (LEADER_CLASS, table.oid as i32);
        // Four looks tell silence as precisely as anybody needs it.
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
        let silenced = watch.look(session, table, wait, leader_timeout).await?;
        Ok(silenced.map_or(Waited::NotYet, Waited::Silenced))
    }

    /// How many outboxes we lead, and others.
    pub async fn shares(&mut self, table: &Table) -> Result<Shares> {
        peers::shares(&mut self.session, table).await
    }

    /// Gives the lock back, for the one who has waited for it longest.
    pub async fn yield_lead(&mut self, table: &Table) -> Result<()> {
        let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, $2)";
        self.session
            .one(unlock, |q| q.bind(LEADER_CLASS).bind(table.oid as i32))
            .await
            .map(drop)
    }

    /// Who holds the lock, if it is somebody else than a relay: any role that may connect may take it.
    pub async fn stranger(&mut self, table: &Table) -> Result<Option<Holder>> {
        let (holder, _) = leader_holders(&mut self.session, table).await?;
        Ok(holder.filter(|holder| !holder.is_doorbell))
    }

    /// Becomes the leader. Only for whoever was granted the lock.
    pub async fn lead(self, table: &Table, route: &Route) -> Result<Leader> {
        Leader::new(self.session, table, route).await
    }
}
