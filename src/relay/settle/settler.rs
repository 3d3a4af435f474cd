//! Third stage: deletes the rows that Kafka acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::dead_letters::Parking;
use super::held_rows::HeldRecord;
use crate::event::RowId;
use crate::kafka::{Code, Delivered, Refusal, Verdict, decide};
use crate::postgres::{Error, Leader, LeaderFigures};
use crate::relay::exactly_once::Progress;
use crate::relay::in_flight::Ticket;
use crate::relay::observer::Step;
use crate::relay::poison::Refusals;
use crate::relay::sessions::{Asked, Pings};
use crate::relay::term_state::{Counters, TermEnd, TermState};

/// Deletes that failed, and rows that are locked, are tried again after this.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The number of dropped rows is published at most this often.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What the third stage holds.
pub(crate) struct Settler {
    pub(crate) leader: Leader,
    pub(crate) shared: Arc<TermState>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) parking: Parking,
    pub(crate) held: HeldRecord,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pings: Pings,
    /// Cancelled when no more rows will be handed to the producer.
    pub(crate) sent_all: CancellationToken,
    /// Whether consecutive ids may be deleted as a range, because ids are unique.
    pub(crate) consecutive: bool,
    /// Whether each record is in a batch of its own, so that a refusal concerns that record alone.
    pub(crate) alone: bool,
    /// With exactly-once delivery the transactor takes the reports, and records here what is
    /// committed.
    pub(crate) progress: Option<Arc<Progress>>,
}

/// When what is due.
pub(super) struct Agenda {
    pub(super) next_delete: Instant,
    /// The same, unless the delete hurries.
    pub(super) next_batch: Instant,
    pub(super) next_full: Instant,
    pub(super) next_commit: Instant,
    /// When the rows that a delete left are tried again, and the wait after that.
    pub(super) retry: Option<Instant>,
    pub(super) retry_wait: Duration,
    /// The row behind which the next retry begins.
    pub(super) retried_to: Option<RowId>,
    /// When the log may speak again of rows that the table keeps.
    pub(super) next_kept_warning: Instant,
    /// The same, of rows that others took or changed.
    pub(super) next_gone_warning: Instant,
    next_ping: Instant,
    /// Rows of a delete that failed: they go first.
    pub(super) failed: Vec<(Ticket, RowId)>,
    pub(super) failing: bool,
    /// The number of dropped rows that is published, and when the next one may be.
    told_dropped: u64,
    next_tell: Instant,
}

impl Settler {
    /// Runs until everything is settled or the term is abandoned. Returns the session.
    pub(crate) async fn run(mut self) -> Leader {
        let now = Instant::now();
        let mut agenda = Agenda {
            next_delete: now,
            next_batch: now,
            next_full: now,
            next_commit: now,
            // Rows that an earlier term could not delete.
            retry: (!self.shared.window().undeleted_rows().is_empty()).then_some(now),
            retry_wait: RETRY_INTERVAL,
            retried_to: None,
            next_kept_warning: now,
            next_gone_warning: now,
            next_ping: self.pings.first(Asked::Leader),
            failed: Vec::new(),
            failing: false,
            told_dropped: 0,
            next_tell: now,
        };
        while !self.is_settled(&agenda) && self.wait(&agenda).await {
            if let Err(error) = self.turn(&mut agenda).await {
                self.shared.end(TermEnd::Postgres(error));
            }
        }
        if self.shared.is_producer_lost() {
            // The next producer must not send rows again that Kafka is known to have.
            self.take_reports();
            agenda.next_full = now;
            if let Err(error) = self.delete(&mut agenda, Instant::now()).await {
                self.shared.end(TermEnd::Postgres(error));
            }
        }
        self.leader
    }

    /// After the last row was handed over: whether everything came back and is deleted. Rows that a
    /// delete left stay.
    fn is_settled(&self, agenda: &Agenda) -> bool {
        if !self.parking.is_settled() {
            return false;
        }
        let window = self.shared.window();
        self.sent_all.is_cancelled()
            && window.unacknowledged() == 0
            && window.acknowledged() == 0
            && agenda.failed.is_empty()
    }

    /// Waits for something to do; `false` if the term is abandoned.
    async fn wait(&mut self, agenda: &Agenda) -> bool {
        let mut due = agenda.next_ping;
        if let Some(delete) = self.delete_due(agenda) {
            due = due.min(delete);
        }
        if let Some(retry) = agenda.retry {
            due = due.min(retry);
        }
        for other in [self.parking.due(), self.held.due()].into_iter().flatten() {
            due = due.min(other);
        }
        if agenda.told_dropped != self.counters.dropped.get() {
            due = due.min(agenda.next_tell);
        }
        if let Some(told) = self.refusals.log.due() {
            due = due.min(told.into());
        }
        tokio::select! {
            biased;
            () = self.shared.abandon.cancelled() => false,
            () = sleep_until(due) => true,
            () = arrived(self.progress.as_deref(), &self.shared) => {
                // Reports are taken at once; the delete waits for its turn.
                true
            }
            () = self.parking.rejected() => true,
            () = self.shared.dropped.notified() => true,
            () = self.held.changed() => true,
            () = self.sent_all.cancelled(), if !self.sent_all.is_cancelled() => true,
            error = self.leader.session.lost() => {
                self.shared.end(TermEnd::Postgres(error));
                false
            }
        }
    }

    async fn turn(&mut self, agenda: &mut Agenda) -> Result<(), Error> {
        self.take_reports();
        let now = Instant::now();
        if self.delete_due(agenda).is_some_and(|due| now >= due) {
            self.delete(agenda, now).await?;
        }
        if agenda.retry.is_some_and(|due| now >= due) {
            self.retry_left(agenda).await?;
        }
        if self.parking.park(&mut self.leader).await? {
            self.shared.room.notify_waiters();
        }
        self.held.record(&mut self.leader).await?;
        self.refusals.log.tell(Some(now.into()));
        self.publish(agenda, now).await?;
        let times = self.shared.window().take_times();
        self.counters.timed(times);
        if now >= agenda.next_ping {
            self.leader.session.ping().await?;
            agenda.next_ping = Instant::now() + self.pings.interval();
        }
        Ok(())
    }

    async fn publish(&mut self, agenda: &mut Agenda, now: Instant) -> Result<(), Error> {
        let dropped = self.counters.dropped.get();
        if dropped != agenda.told_dropped && now >= agenda.next_tell {
            agenda.told_dropped = dropped;
            agenda.next_tell = now + TELL_INTERVAL;
        }
        let figures = LeaderFigures {
            kept: self.counters.kept.load(Ordering::Relaxed),
            dropped: agenda.told_dropped,
            lacks_kafka: self.counters.kafka.unreachable_since().is_some(),
        };
        self.leader.publish(figures).await
    }

    /// Takes delivery reports.
    fn take_reports(&self) {
        if self.progress.is_some() {
            return;
        }
        let Delivered {
            acknowledged,
            failed,
            fatal,
        } = self.shared.reports.take();
        self.counters.acknowledged(acknowledged.len());
        if let Some(observer) = self.counters.observer() {
            let mut failed = failed
                .iter()
                .map(|(ticket, code)| (*ticket, Refusal::from(*code).code));
            observer.reported(&acknowledged, &mut failed);
        }
        let rows: Vec<RowId> = {
            let mut window = self.shared.window();
            acknowledged
                .into_iter()
                .filter_map(|ticket| window.acknowledge(ticket))
                .collect()
        };
        self.counters.sent.add(rows.iter().copied());
        let mut ids = rows.iter().map(|row| row.id);
        let now = std::time::Instant::now();
        self.counters.passed(Step::Acknowledged, &mut ids, now);
        for (ticket, code) in failed {
            match decide(code) {
                Verdict::Row => {
                    self.refusals
                        .refuse(&self.shared, ticket, Refusal::from(code));
                }
                Verdict::Suspect
                    if self.alone || self.refusals.was_refused(&self.shared, ticket) =>
                {
                    self.refusals
                        .refuse(&self.shared, ticket, Refusal::from(code));
                }
                Verdict::Suspect => self.suspect(ticket, code),
                Verdict::Purged => {}
                Verdict::Producer => self.shared.end(TermEnd::Producer(code.to_string())),
            }
        }
        if let Some(reason) = fatal {
            self.shared.end(TermEnd::Producer(reason));
        }
        self.refusals.release(&self.shared, &rows);
        if self.alone {
            self.clear_suspects(rows.iter());
        }
        self.shared.room.notify_waiters();
    }

    /// Suspects a row that was refused with its batch. Everything in flight is settled first, and
    /// then the row is sent alone.
    fn suspect(&self, ticket: Ticket, code: Code) {
        let Some(row) = self.shared.window().give_up(ticket) else {
            return;
        };
        if !self.refusals.makes_smaller(&self.shared, code) && self.refusals.suspects.add([row]) {
            info!(
                row.id = row.id,
                error = %code,
                "a batch was refused: its rows are sent again one by one"
            );
        }
        self.counters.retried.add(1);
        self.shared.end(TermEnd::Rebatch);
    }

    /// Clears suspects that were sent alone and acknowledged. Once no suspect is left, or those
    /// left are gone from the table, batches grow again.
    fn clear_suspects<'a>(&self, delivered: impl Iterator<Item = &'a RowId>) {
        let suspects = &self.refusals.suspects;
        suspects.clear(delivered);
        if self.shared.caught_up.load(Ordering::Relaxed)
            && self.shared.window().unacknowledged() == 0
        {
            suspects.clear_all();
        }
        if suspects.is_empty() {
            self.shared.end(TermEnd::Rebatch);
        }
    }
}

/// Waits until there may be rows to delete.
async fn arrived(progress: Option<&Progress>, shared: &TermState) {
    match progress {
        None => shared.reports.arrived().await,
        Some(progress) => progress.committed.notified().await,
    }
}
