//! The sweep, and the check of the ids below the cursor.

use std::time::{Duration, Instant};

use tokio::time;
use tracing::{debug, info, warn};

use super::cursor::{
    CHECK_BELOW_INTERVAL, CHECK_BELOW_SHARE, CHECK_PATIENCE, FIRST_SPAN, LONG, MANY_DEAD_ROWS,
    Swept, VERY_LONG,
};
use super::scan::{FetchOutcome, Scan};
use crate::postgres::{LOOK_PAGE, LookedAt, Result};
use crate::relay::clock::rest_after;
use crate::relay::monitor::ProblemKind;
use crate::relay::publish::Destination;
use crate::relay::term_state::TermEnd;

/// After this a notification is late: it arrives within milliseconds of the commit.
const RING_IS_LATE: Duration = Duration::from_secs(1);

impl Scan {
    /// Counts the unknown rows up to the cursor, and moves it back before the first. A check that
    /// takes longer than `patience` is continued by the next one.
    pub(super) async fn check_below(&mut self, patience: Duration) -> Result<usize> {
        let begun = Instant::now();
        let (is_long, mut strays) = match self.cursor.checked_to {
            Some(next) => (true, self.check_above(next).await?),
            None => {
                self.cursor.waiting = (0, None);
                (self.is_check_long().await?, 0)
            }
        };
        let mut next = self.cursor.begin_check(is_long);
        loop {
            let (low, step) = (
                next.saturating_sub_unsigned(self.cursor.span),
                Instant::now(),
            );
            match self.check_ids(low, next).await {
                Ok(found) => strays += found,
                Err(error) if error.is_timeout() => {
                    self.cursor.adapt_span(step.elapsed());
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.cursor.adapt_span(step.elapsed());
            let took = begun.elapsed();
            let Some(rest) = low.checked_sub(1) else {
                break;
            };
            next = rest.min(self.cursor.at);
            if took > patience {
                self.cursor.checked_to = Some(next);
                self.cursor.check_took += took;
                self.cursor.check_due = Some(time::Instant::now() + took * 2);
                return Ok(strays);
            }
        }
        let cursor = &mut self.cursor;
        cursor.waited = cursor.waiting;
        self.schedule.tell_waiting(cursor.waited, &self.counters);
        cursor.check_took += begun.elapsed();
        let pause = rest_after(cursor.check_took, CHECK_BELOW_SHARE);
        cursor.next_check = time::Instant::now() + pause.max(CHECK_BELOW_INTERVAL);
        if cursor.ends_wide {
            cursor.gaps.looked_wide();
        }
        Ok(strays)
    }

    /// Whether the next check is likely to take long, as the last one did: because of dead rows,
    /// and not because the server stood still.
    async fn is_check_long(&mut self) -> Result<bool> {
        let took = self.cursor.check_took;
        Ok(took >= VERY_LONG || took >= LONG && self.reader.beginning().await?.1 > MANY_DEAD_ROWS)
    }

    /// Checks the ids next to the cursor, once more where a check that takes long has come down to
    /// `next`: most rows that commit late are here.
    async fn check_above(&mut self, next: i64) -> Result<usize> {
        let (at, waiting) = (self.cursor.at, self.cursor.waiting);
        let low = at.saturating_sub_unsigned(FIRST_SPAN).max(next);
        let found = match self.check_ids(low, at).await {
            Err(error) if error.is_timeout() => Ok(0),
            found => found,
        };
        self.cursor.waiting = waiting;
        found
    }

    /// Checks all ids below the cursor, from the beginning.
    async fn check_all_below(&mut self) -> Result<usize> {
        self.cursor.checked_to = None;
        self.check_below(Duration::MAX).await
    }

    /// Counts the unknown rows from `low` to `high`, and moves the cursor back before the first.
    async fn check_ids(&mut self, low: i64, high: i64) -> Result<usize> {
        // Taken before the ids are read: a row that is deleted meanwhile is still known.
        let (known, under_way) = (self.known(), self.under_way());
        let by_key = !self.refusals.held().is_empty();
        let (mut from, mut lowest, mut strays) = (low, None, 0);
        let mut waiting = self.cursor.waiting;
        loop {
            let mut page = self.reader.ids(from, high, by_key).await?;
            let next = next_page(&mut page, LOOK_PAGE);
            let held = self.refusals.held();
            for LookedAt {
                row,
                key,
                topic,
                event_type,
            } in &page
            {
                let event_type = event_type.as_deref().unwrap_or_default();
                let waits = || match self.routes.of(topic.as_deref(), event_type) {
                    Ok(Destination::Topic(topic)) => held.waits(*row, key.as_deref(), Some(&topic)),
                    // It waits for no other.
                    Ok(Destination::Drop) => false,
                    Err(_) => held.waits(*row, key.as_deref(), None),
                };
                if by_key && waits() {
                    let oldest = waiting
                        .1
                        .map_or(row.created_at, |at: i64| at.min(row.created_at));
                    // Rows in flight are counted as such.
                    let more = u64::from(!under_way.contains(row));
                    waiting = (waiting.0 + more, Some(oldest));
                } else if !known.contains(row) {
                    lowest.get_or_insert(row.id);
                    strays += 1;
                }
            }
            drop(held);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.cursor.waiting = waiting;
        if let Some(lowest) = lowest {
            self.cursor.ends_wide = false;
            self.cursor.go_back(lowest);
            self.counters.cursor_moves.add(1);
            if lowest < self.cursor.remembered {
                // The next term must not begin above it.
                self.remember(lowest).await?;
            }
        }
        Ok(strays)
    }

    /// Records where the next term may begin: no row below it is in the table or can still commit.
    async fn remember_lowest(&mut self) -> Result<()> {
        if !self.refusals.held().is_empty() {
            // Rows that wait are known by their keys and topics alone.
            return Ok(());
        }
        let known = self.known().into_iter().map(|row| row.id).min();
        let next = self.cursor.at.saturating_add(1);
        let gap = self.cursor.gaps.lowest();
        let lowest = known.into_iter().chain(gap).fold(next, i64::min);
        if self.cursor.at == i64::MIN || lowest == self.cursor.remembered {
            return Ok(());
        }
        self.remember(lowest).await
    }

    async fn remember(&mut self, lowest: i64) -> Result<()> {
        self.cursor.remembered = lowest;
        self.reader.remember_lowest_row(lowest).await
    }

    /// Ends a term that drains the table after a complete fetch, if every row it saw is known, and
    /// none waits for a topic that may be made soon. Held rows have a reason; the next term reads
    /// the rows of a key that became free.
    pub(super) async fn end_if_drained(&mut self) -> Result<bool> {
        if !self.drains
            || self.check_all_below().await? > 0
            || self.refusals.held().is_undecided()
            || self.finds_due().await?
        {
            return Ok(false);
        }
        self.state.end(TermEnd::Drained);
        Ok(true)
    }

    /// Does the last fetch before sleep, for a reason that arose at `woken`. Writers ring
    /// meanwhile: it waits for no room, and it leaves no gap out.
    pub(super) async fn settle(&mut self, woken: Instant) -> Result<Option<FetchOutcome>> {
        let room = self.state.window().room();
        let is_put_off = self.refusals.held().has_over() || self.rate.allowed(Instant::now()) == 0;
        let Some(room) = room.filter(|_| !is_put_off) else {
            return Ok(Some(FetchOutcome::NO_ROOM));
        };
        let mut outcome = self.fetch_both(room, woken, true).await?;
        if let Some(outcome) = &mut outcome
            && outcome.complete
            && self.cursor.gaps.is_wide()
        {
            outcome.complete = self.check_all_below().await? == 0;
        }
        Ok(outcome)
    }

    /// Sweeps: finds rows that were not announced, and a table that was replaced. Returns nothing
    /// when there are to be no more fetches.
    pub(super) async fn sweep(&mut self, asleep: bool) -> Result<Option<FetchOutcome>> {
        let entry = self.reader.entry().await?;
        self.counters.saw_xmin(entry.xmin_age, entry.pin);
        if entry.sees_dead {
            self.counters.saw_dead(self.reader.dead_letters().await?);
        }
        if entry.oid != Some(self.oid) {
            info!("the table was dropped or replaced: starting over");
            self.state.end(TermEnd::TableChanged);
            return Ok(None);
        }
        if entry.pause.is_some() {
            self.state.end(TermEnd::Paused);
            return Ok(None);
        }
        // The relay may have fallen asleep before the last possible owner of an id was gone.
        self.read_holders().await?;
        self.check_below(CHECK_PATIENCE).await?;
        let outcome = self.settle(Instant::now()).await?;
        self.remember_lowest().await?;
        if self.reader.has_due_rows() {
            self.count_delayed().await?;
        }
        let rows = outcome.map_or(0, |outcome| outcome.rows);
        if rows == 0 && asleep {
            self.counters.resolve(ProblemKind::Unannounced);
        }
        // An awake relay fetches without notifications.
        if rows > 0 && asleep {
            let late = time::Instant::now() + RING_IS_LATE;
            // Sweeps that find rows again and again, in less time than that, are judged as well.
            let earlier = self.cursor.swept.take();
            let (before, judged) = earlier.map_or((0, late), |it| (it.rows, it.judged));
            let rows = before + rows;
            self.cursor.swept = Some(Swept { rows, judged });
        }
        debug!(rows, gaps = self.cursor.gaps.count(), "swept");
        Ok(outcome)
    }

    /// Warns of the rows that the sweep found, for which no notification has come.
    pub(super) fn judge_sweep(&mut self) {
        if let Some(Swept { rows, .. }) = self.cursor.swept.take() {
            self.counters.swept.add(rows as u64);
            let words = "the sweep found rows without a notification: the trigger doorbell_ring is disabled or missing, or rows are inserted without it; \
                `doorbell check` says which, and the remedy";
            self.counters.raise(ProblemKind::Unannounced, words);
            warn!(
                rows,
                "the sweep found rows without a notification: is the trigger in place? see `doorbell status`"
            );
        }
    }
}

/// Leaves the rows with the last id of a full page to the next one, since ids can repeat. Returns
/// the id with which that begins.
fn next_page(page: &mut Vec<LookedAt>, full: usize) -> Option<i64> {
    let last = page.last().filter(|_| page.len() == full)?.row.id;
    if page[0].row.id == last {
        return last.checked_add(1);
    }
    page.retain(|it| it.row.id < last);
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RowId;

    #[test]
    fn rows_that_share_an_id_are_on_one_page() {
        let page = |ids: &[i64]| -> Vec<LookedAt> {
            let rows = ids.iter().map(|id| LookedAt {
                row: RowId {
                    id: *id,
                    created_at: 0,
                },
                key: None,
                topic: None,
                event_type: None,
            });
            rows.collect()
        };
        for (ids, next, left) in [
            (&[1, 2, 2][..], Some(2), 1),
            (&[1, 2], None, 2),
            (&[2, 2, 2], Some(3), 3),
            (&[i64::MAX; 3], None, 3),
        ] {
            let mut page = page(ids);
            assert_eq!((next_page(&mut page, 3), page.len()), (next, left));
        }
    }
}
