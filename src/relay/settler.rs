//! Third stage: from delivery reports to deleted rows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::ledger::Ledger;
use super::observer::Step;
use super::parking::Parking;
use super::refusal::Refusals;
use super::shared::{Asked, Counters, Ending, Memory, Pings, Shared};
use super::vitals::Ailment;
use super::window::Ticket;
use crate::kafka::{Delivered, Verdict, decide, told};
use crate::postgres::{Commit, Error, Leader, Sent};

/// Deletes of a busy relay are this far apart: each is a transaction, and rows that go together go cheaper.
const DELETE_INTERVAL: Duration = Duration::from_millis(5);
/// Acknowledged rows behind one that is not wait this long for it, to go in one run with it.
const RUN_PATIENCE: Duration = Duration::from_millis(20);
/// Rows that somebody else has locked, and deletes that failed, are tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a commit takes is measured this often, by a delete that waits for the disk...
const COMMIT_INTERVAL: Duration = Duration::from_secs(2);
/// ... and is so small that its own work does not count.
const COMMIT_ROWS: usize = 100;

/// What the third stage holds.
pub(crate) struct Settler {
    pub(crate) leader: Leader,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) parking: Parking,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pings: Pings,
    /// No further row will be handed to the producer.
    pub(crate) sent_all: CancellationToken,
    /// Whether consecutive ids may be deleted as a range: no two rows have the same id.
    pub(crate) consecutive: bool,
    /// Whether each record is in a batch of its own, so that a refusal convicts it.
    pub(crate) alone: bool,
    /// Where each event is sent once: the second stage takes the reports, and says what is committed.
    pub(crate) ledger: Option<Arc<Ledger>>,
}

/// When what is due.
struct Agenda {
    next_delete: Instant,
    next_full: Instant,
    next_commit: Instant,
    retry_locked: Option<Instant>,
    next_ping: Instant,
    /// Rows that a failed delete left: they go first.
    left: Vec<(Ticket, Sent)>,
    failing: bool,
}

impl Settler {
    /// Runs until everything is settled, or abandoned; gives the session back.
    pub(crate) async fn run(mut self) -> Leader {
        let now = Instant::now();
        let mut agenda = Agenda {
            next_delete: now,
            next_full: now,
            next_commit: now,
            // Rows that were locked in an earlier term.
            retry_locked: (!self.shared.window().locked().is_empty()).then_some(now),
            next_ping: self.pings.first(Asked::Leader),
            left: Vec::new(),
            failing: false,
        };
        while !self.is_settled(&agenda) && self.wait(&agenda).await {
            if let Err(error) = self.turn(&mut agenda).await {
                self.shared.end(Ending::Postgres(error));
            }
        }
        if self.shared.is_producer_lost() {
            // What Kafka is known to have is not sent a second time by the next producer.
            self.take_reports();
            agenda.next_full = now;
            if let Err(error) = self.delete(&mut agenda, Instant::now()).await {
                self.shared.end(Ending::Postgres(error));
            }
        }
        self.leader
    }

    /// After the last row was handed over: whether everything came back and is deleted. Rows that others hold locked stay.
    fn is_settled(&self, agenda: &Agenda) -> bool {
        if !self.parking.is_settled() {
            return false;
        }
        let window = self.shared.window();
        self.sent_all.is_cancelled()
            && window.unacknowledged() == 0
            && !window.has_acknowledged()
            && agenda.left.is_empty()
    }

    /// Waits for something to do; `false` when everything is to be left as it is.
    async fn wait(&mut self, agenda: &Agenda) -> bool {
        let pending = !agenda.left.is_empty() || self.shared.window().has_acknowledged();
        let mut due = agenda.next_ping;
        if pending {
            due = due.min(agenda.next_delete);
        }
        if let Some(retry) = agenda.retry_locked {
            due = due.min(retry);
        }
        if let Some(park) = self.parking.due() {
            due = due.min(park);
        }
        tokio::select! {
            biased;
            () = self.shared.abandon.cancelled() => false,
            () = sleep_until(due) => true,
            () = arrived(self.ledger.as_deref(), &self.shared) => {
                // The reports are taken at once; the delete waits for its turn.
                true
            }
            () = self.parking.convicted() => true,
            () = self.sent_all.cancelled(), if !self.sent_all.is_cancelled() => true,
            error = self.leader.deposed() => {
                self.shared.end(Ending::Postgres(error));
                false
            }
        }
    }

    async fn turn(&mut self, agenda: &mut Agenda) -> Result<(), Error> {
        self.take_reports();
        let now = Instant::now();
        if now >= agenda.next_delete {
            self.delete(agenda, now).await?;
        }
        if agenda.retry_locked.is_some_and(|due| now >= due) {
            self.delete_locked(agenda).await?;
        }
        self.parking.park(&mut self.leader).await?;
        let times = self.shared.window().take_times();
        self.counters.timed(times);
        if now >= agenda.next_ping {
            self.leader.ping().await?;
            agenda.next_ping = Instant::now() + self.pings.interval();
        }
        Ok(())
    }

    /// Takes delivery reports in.
    fn take_reports(&self) {
        if self.ledger.is_some() {
            return;
        }
        let Delivered {
            acknowledged,
            failed,
            fatal,
        } = self.shared.reports.take();
        self.counters.acknowledged(acknowledged.len());
        if let Some(traces) = self.counters.traces() {
            traces.settled(&acknowledged, &failed);
        }
        let rows: Vec<Option<Sent>> = {
            let mut window = self.shared.window();
            acknowledged
                .into_iter()
                .map(|ticket| window.acknowledge(ticket))
                .collect()
        };
        let mut ids = rows.iter().flatten().map(|row| row.id);
        let now = std::time::Instant::now();
        self.counters.passed(Step::Acknowledged, &mut ids, now);
        for (ticket, code) in failed {
            match decide(code) {
                Verdict::Row => {
                    self.refusals.refuse(&self.shared, ticket, told(code));
                }
                Verdict::Suspect
                    if self.alone || self.refusals.was_refused(&self.shared, ticket) =>
                {
                    self.refusals.refuse(&self.shared, ticket, told(code));
                }
                Verdict::Suspect => self.suspect(ticket, &code.to_string()),
                Verdict::Purged => {}
                Verdict::Producer => self.shared.end(Ending::Producer(code.to_string())),
            }
        }
        if let Some(reason) = fatal {
            self.shared.end(Ending::Producer(reason));
        }
        self.refusals.release(&self.shared, rows.iter().flatten());
        if self.alone {
            self.acquit(rows.iter().flatten());
        }
        self.shared.room.notify_waiters();
    }

    /// The row came back with its batch: everything under way is settled first, then it is sent alone.
    fn suspect(&self, ticket: Ticket, reason: &str) {
        let Some(row) = self.shared.window().give_up(ticket) else {
            return;
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.suspects.is_empty() {
            info!(
                row.id = row.id,
                error = reason,
                "a batch was refused: its rows are sent again one by one"
            );
        }
        memory.suspects.insert(row);
        self.counters.retried.add(1);
        drop(memory);
        self.shared.end(Ending::Rebatch);
    }

    /// A suspect that was sent alone and taken is innocent. When all are judged, or those left are gone from the table, larger batches come back.
    fn acquit<'a>(&self, delivered: impl Iterator<Item = &'a Sent>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for row in delivered {
            memory.suspects.remove(row);
        }
        if self.shared.caught_up.load(Ordering::Relaxed)
            && self.shared.window().unacknowledged() == 0
        {
            memory.suspects.clear();
        }
        let judged = memory.suspects.is_empty();
        drop(memory);
        if judged {
            self.shared.end(Ending::Rebatch);
        }
    }

    async fn delete(&mut self, agenda: &mut Agenda, now: Instant) -> Result<(), Error> {
        let all = now >= agenda.next_full;
        let mut taken = std::mem::take(&mut agenda.left);
        taken.extend(self.shared.window().take(all));
        if all {
            agenda.next_full = now + RUN_PATIENCE;
        }
        agenda.next_delete = now + DELETE_INTERVAL;
        if taken.is_empty() {
            return Ok(());
        }
        let begun = SystemTime::now();
        let mut rows: Vec<Sent> = taken.iter().map(|(_, row)| *row).collect();
        let measures = rows.len() <= COMMIT_ROWS && now >= agenda.next_commit;
        let mark = self.ledger.as_ref().map(|ledger| ledger.next_delete());
        let commit = match mark {
            Some(mark) => Commit::Marked(mark),
            None if measures => Commit::Now,
            None => Commit::Later,
        };
        match self
            .leader
            .delete(&mut rows, self.consecutive, commit)
            .await
        {
            Ok(deleted) => {
                if let (Some(ledger), Some(mark)) = (&self.ledger, mark) {
                    ledger.deleted(mark);
                }
                if measures {
                    agenda.next_commit = now + COMMIT_INTERVAL;
                    self.shared.measured_commit(now.elapsed());
                }
                self.after_delete(agenda, &rows, &deleted.locked, deleted.rows);
                if let Some(traces) = self.counters.traces() {
                    traces.deleted(&taken, deleted.rows, begun);
                }
                self.shared
                    .window()
                    .deleted(taken.into_iter().map(|(ticket, _)| ticket));
                if let Some(traces) = self.counters.traces() {
                    traces.forget_before(self.shared.window().first_ticket());
                }
                self.shared.room.notify_waiters();
                if agenda.failing {
                    agenda.failing = false;
                    self.counters.recovered(Ailment::Delete);
                    info!("deletes work again");
                }
                Ok(())
            }
            Err(error @ Error::Lost(_)) => Err(error),
            // The rows stay; nothing is fetched beyond the bounds meanwhile.
            Err(error) => {
                self.counters.delete_failures.add(1);
                let words = format!("rows that Kafka has cannot be deleted: {error}");
                self.counters.suffers(Ailment::Delete, &words);
                if !agenda.failing {
                    agenda.failing = true;
                    warn!(%error, rows = taken.len(), "rows that Kafka has cannot be deleted: trying again");
                }
                agenda.left = taken;
                agenda.next_delete = Instant::now() + RETRY_INTERVAL;
                Ok(())
            }
        }
    }

    fn after_delete(&self, agenda: &mut Agenda, rows: &[Sent], locked: &[i64], deleted: u64) {
        self.counters.deleted.add(deleted);
        let mut ids = rows.iter().map(|row| row.id);
        let now = std::time::Instant::now();
        self.counters.passed(Step::Deleted, &mut ids, now);
        if !locked.is_empty() {
            warn!(
                rows = locked.len(),
                "rows that Kafka has are locked by somebody else: they are deleted later"
            );
            let mut window = self.shared.window();
            for row in rows
                .iter()
                .filter(|row| locked.binary_search(&row.id).is_ok())
            {
                window.is_locked(*row);
            }
            agenda.retry_locked = Some(Instant::now() + RETRY_INTERVAL);
        }
        let missing = (rows.len() - locked.len()) as u64;
        if deleted < missing {
            debug!(
                rows = missing - deleted,
                "rows were gone or replaced before they could be deleted"
            );
        }
    }

    async fn delete_locked(&mut self, agenda: &mut Agenda) -> Result<(), Error> {
        let locked = self.shared.window().locked();
        let mark = self.ledger.as_ref().map(|ledger| ledger.next_delete());
        match self.leader.delete_unlocked(&locked, mark).await {
            Ok(deleted) => {
                if let (Some(ledger), Some(mark)) = (&self.ledger, mark) {
                    ledger.deleted(mark);
                }
                self.counters.deleted.add(deleted.rows);
                self.shared.window().still_locked(&deleted.locked);
                let all_gone = deleted.locked.is_empty();
                agenda.retry_locked = (!all_gone).then(|| Instant::now() + RETRY_INTERVAL);
                Ok(())
            }
            Err(error @ Error::Lost(_)) => Err(error),
            Err(error) => {
                debug!(%error, "locked rows cannot be deleted yet");
                agenda.retry_locked = Some(Instant::now() + RETRY_INTERVAL);
                Ok(())
            }
        }
    }
}

/// Waits until there may be something to delete.
async fn arrived(ledger: Option<&Ledger>, shared: &Shared) {
    match ledger {
        None => shared.reports.arrived().await,
        Some(ledger) => ledger.committed.notified().await,
    }
}
