//! The deletes of the third stage, and the rows that they leave in the table.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::pieces::{Pieces, delete_in_pieces};
use super::settler::{Agenda, RETRY_INTERVAL, Settler};
use crate::event::RowId;
use crate::numbers::counted;
use crate::postgres::{Commit, Error};
use crate::relay::in_flight::Ticket;
use crate::relay::monitor::ProblemKind;
use crate::relay::observer::Step;
use crate::relay::undeleted::Reason;

/// Deletes are this far apart: each is a transaction, and rows that go together go cheaper. No
/// consumer waits for them. A row that comes later after the last delete goes at once, so that one
/// for which the relay was woken costs no second wake-up.
const DELETE_INTERVAL: Duration = Duration::from_millis(50);
/// Deletes that hurry are this far apart.
const HURRIED_INTERVAL: Duration = Duration::from_millis(5);
/// So many rows need no others to go with.
const MANY_ROWS: usize = 256;
/// Acknowledged rows behind one that is not wait this long for it, to go in one run with it.
const RUN_PATIENCE: Duration = Duration::from_millis(20);
/// The longest wait for rows that the table keeps: the operator has to change something.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A table that keeps row after row is logged this often, not once a batch.
const KEPT_INTERVAL: Duration = Duration::from_secs(60);
/// How long a commit takes is measured this often, by a delete that waits for the disk...
const COMMIT_INTERVAL: Duration = Duration::from_secs(2);
/// ... and is so small that its own work does not count.
const COMMIT_ROWS: usize = 100;

impl Settler {
    /// Returns when the next delete is due; `None` while no acknowledged row waits for one. It
    /// hurries where rows are many, the next fetch may lack their room, or the term ends.
    pub(super) fn delete_due(&self, agenda: &Agenda) -> Option<Instant> {
        let window = self.shared.window();
        let rows = window.acknowledged();
        if rows == 0 && agenda.failed.is_empty() {
            return None;
        }
        let hurries =
            rows >= MANY_ROWS || window.needs_deletes() || self.shared.halt.is_cancelled();
        let batch = (!hurries).then_some(agenda.next_batch);
        Some(batch.map_or(agenda.next_delete, |it| it.max(agenda.next_delete)))
    }

    /// Deletes the rows that Kafka has acknowledged, if there are any.
    ///
    /// # Errors
    /// The session is lost. Other failures leave rows where they are, to be tried again.
    pub(super) async fn delete(&mut self, agenda: &mut Agenda, now: Instant) -> Result<(), Error> {
        let all = now >= agenda.next_full;
        let mut taken = std::mem::take(&mut agenda.failed);
        taken.extend(self.shared.window().take(all));
        if all {
            agenda.next_full = now + RUN_PATIENCE;
        }
        agenda.next_delete = now + HURRIED_INTERVAL;
        agenda.next_batch = now + DELETE_INTERVAL;
        if taken.is_empty() {
            return Ok(());
        }
        let begun = SystemTime::now();
        let rows: Vec<RowId> = taken.iter().map(|(_, row)| *row).collect();
        let measures = rows.len() <= COMMIT_ROWS && now >= agenda.next_commit;
        let commit = if measures { Commit::Now } else { Commit::Later };
        let mut outcome = self.delete_in_pieces(rows, commit).await?;
        if !self.sent_all.is_cancelled() {
            outcome.give_up_alike();
        }
        if measures && outcome.failed.is_none() {
            agenda.next_commit = now + COMMIT_INTERVAL;
            self.shared.measured_commit(now.elapsed());
        }
        self.after_delete(agenda, taken, outcome, begun);
        Ok(())
    }

    /// Counts the rows that a route drops.
    fn dropped(&self, taken: &[(Ticket, RowId)]) -> u64 {
        let mut window = self.shared.window();
        let dropped = taken
            .iter()
            .filter(|(ticket, _)| window.is_dropped(*ticket));
        dropped.count() as u64
    }

    async fn delete_in_pieces(
        &mut self,
        rows: Vec<RowId>,
        commit: Commit,
    ) -> Result<Pieces, Error> {
        let progress = self.progress.clone();
        let commit = || match &progress {
            Some(progress) => Commit::WithReceipt(progress.next_delete()),
            None => commit,
        };
        let deleted = |commit| {
            if let (Some(progress), Commit::WithReceipt(position)) = (&progress, commit) {
                progress.deleted(position);
            }
        };
        delete_in_pieces(&mut self.leader, rows, self.consecutive, commit, deleted).await
    }

    fn after_delete(
        &self,
        agenda: &mut Agenda,
        mut taken: Vec<(Ticket, RowId)>,
        outcome: Pieces,
        begun: SystemTime,
    ) {
        self.counters.deleted.add(outcome.deleted);
        let failed = match outcome.failed {
            Some((rows, error)) => {
                self.delete_failed(agenda, &error, rows.len());
                let rows: FxHashSet<RowId> = rows.into_iter().collect();
                agenda.failed = taken
                    .extract_if(.., |(_, row)| rows.contains(row))
                    .collect();
                true
            }
            None => false,
        };
        self.counters.dropped.add(self.dropped(&taken));
        let mut ids = taken.iter().map(|(_, row)| row.id);
        self.counters
            .passed(Step::Deleted, &mut ids, std::time::Instant::now());
        let missing = (taken.len() - outcome.left.len()) as u64;
        let now = Instant::now();
        if outcome.deleted < missing && now >= agenda.next_gone_warning {
            agenda.next_gone_warning = now + KEPT_INTERVAL;
            warn!(
                rows = missing - outcome.deleted,
                "others deleted or changed rows before the relay could delete them; a row whose id or created_at changes is sent again"
            );
        }
        self.leave(agenda, &taken, outcome.left);
        let observer = self.counters.observer();
        if let Some(observer) = observer {
            observer.deleted(&taken, outcome.deleted, begun);
        }
        self.shared
            .window()
            .deleted(taken.into_iter().map(|(ticket, _)| ticket));
        if let Some(observer) = observer {
            observer.finished(self.shared.window().first_ticket());
        }
        self.shared.room.notify_waiters();
        if !failed && agenda.failing {
            agenda.failing = false;
            info!("deletes work again");
            self.tell_undeleted(agenda);
        }
    }

    fn delete_failed(&self, agenda: &mut Agenda, error: &Error, rows: usize) {
        self.counters.delete_failures.add(1);
        let words = format!("acknowledged rows cannot be deleted: {error}");
        self.counters.raise(ProblemKind::Delete, &words);
        if !agenda.failing {
            agenda.failing = true;
            warn!(%error, rows, "acknowledged rows cannot be deleted; trying again");
        }
        agenda.next_delete = Instant::now() + RETRY_INTERVAL;
    }

    /// Notes the rows that a delete left in the table.
    fn leave(&self, agenda: &mut Agenda, taken: &[(Ticket, RowId)], left: Vec<(RowId, Reason)>) {
        if left.is_empty() {
            return;
        }
        let tickets: FxHashMap<RowId, Ticket> =
            taken.iter().map(|(ticket, row)| (*row, *ticket)).collect();
        let (mut locked, mut changed) = (0, false);
        let mut window = self.shared.window();
        for (row, reason) in left {
            let Some(ticket) = tickets.get(&row) else {
                continue;
            };
            locked += usize::from(reason == Reason::Locked);
            let is_kept = reason != Reason::Locked;
            changed |= window.left(*ticket, row, reason) && is_kept;
        }
        drop(window);
        if locked > 0 {
            warn!(
                rows = locked,
                "acknowledged rows are locked by another session; deleting them later"
            );
        }
        if changed {
            self.tell_undeleted(agenda);
        }
        if locked > 0 || agenda.retry.is_none() {
            // Rows that were left before wait no longer for these.
            let due = Instant::now() + RETRY_INTERVAL;
            agenda.retry_wait = RETRY_INTERVAL;
            agenda.retry = Some(agenda.retry.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// Says which rows the table keeps, or that it keeps none any more.
    fn tell_undeleted(&self, agenda: &mut Agenda) {
        let now = Instant::now();
        let summary = self.shared.window().undeleted_rows().summary();
        let kept = summary.as_ref().map_or(0, |summary| summary.rows);
        self.counters.kept.store(kept, Ordering::Relaxed);
        let Some(summary) = summary else {
            self.counters.resolve(ProblemKind::Delete);
            return;
        };
        let reason = match &summary.reason {
            Reason::Failed(message) => message.clone(),
            Reason::Kept | Reason::Locked => {
                "a trigger, a rule or row-level security keeps them; see `doorbell check`".into()
            }
        };
        let words = format!(
            "the table keeps {} (the first is {}): {reason}",
            counted(summary.rows, "acknowledged row"),
            summary.row.id
        );
        self.counters.raise(ProblemKind::Delete, &words);
        if now < agenda.next_kept_warning {
            return;
        }
        agenda.next_kept_warning = now + KEPT_INTERVAL;
        warn!(
            rows = summary.rows,
            row.id = summary.row.id,
            error = reason,
            "the table keeps acknowledged rows; not sending them again, retrying their delete"
        );
    }

    /// Tries the rows again that earlier deletes left in the table.
    pub(super) async fn retry_left(&mut self, agenda: &mut Agenda) -> Result<(), Error> {
        let (rows, was_kept) = {
            let mut window = self.shared.window();
            let undeleted = window.undeleted_rows();
            let later = |row: &RowId| Some(*row) > agenda.retried_to;
            let mut rows: Vec<RowId> = undeleted.rows().filter(later).collect();
            rows.sort_unstable();
            (rows, undeleted.summary())
        };
        self.leader.retries(true);
        let outcome = self.delete_in_pieces(rows.clone(), Commit::Later).await;
        self.leader.retries(false);
        let outcome = outcome?;
        self.counters.deleted.add(outcome.deleted);
        let untried = outcome.failed.map(|(rows, error)| {
            debug!(%error, "rows that an earlier delete left cannot be deleted yet");
            rows
        });
        let left: FxHashMap<RowId, Reason> = outcome.left.into_iter().collect();
        let untried: FxHashSet<RowId> = untried.into_iter().flatten().collect();
        // Where not all were tried, the next time begins behind those that were.
        let last = rows.iter().rev().find(|row| !untried.contains(row));
        agenda.retried_to = last.copied().filter(|_| !untried.is_empty());
        let (has_locked, is_empty, is_kept) = {
            let mut window = self.shared.window();
            let undeleted = window.undeleted_rows();
            for row in &rows {
                match left.get(row) {
                    Some(reason) => undeleted.again(*row, reason.clone()),
                    None if untried.contains(row) => {}
                    None => undeleted.gone(row),
                }
            }
            (
                undeleted.has_locked(),
                undeleted.is_empty(),
                undeleted.summary(),
            )
        };
        self.shared.room.notify_waiters();
        if is_kept != was_kept && !agenda.failing {
            self.tell_undeleted(agenda);
        }
        if outcome.deleted > 0 || has_locked {
            agenda.retry_wait = RETRY_INTERVAL;
        }
        agenda.retry = (!is_empty).then(|| Instant::now() + agenda.retry_wait);
        agenda.retry_wait = (agenda.retry_wait * 2).min(LAST_RETRY);
        Ok(())
    }
}
