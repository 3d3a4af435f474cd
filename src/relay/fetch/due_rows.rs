//! Fetches the rows that were not to be sent before a time, once it has come.

use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashSet;
use tokio::time;

use super::cursor::MAX_BYTES;
use super::scan::{FetchOutcome, Scan};
use super::schedule::{DueTimes, LONGEST};
use crate::event::RowId;
use crate::postgres::{BEFORE_ALL, DueRow, Result};
use crate::relay::in_flight::Room;
use crate::relay::observer::Step;
use crate::relay::publish::Destination;

/// Room for rows that share the ids of those that are asked for.
const SPARE_ROWS: usize = 1_000;

impl Scan {
    /// Fetches the rows above the cursor, and those whose time has come if a look is due or the
    /// fetch is the `last` before sleep. Returns nothing for no more fetches.
    pub(super) async fn fetch_both(
        &mut self,
        room: Room,
        woken: Instant,
        last: bool,
    ) -> Result<Option<FetchOutcome>> {
        let looks = self.reader.has_due_rows() && (last || self.schedule.wants_look());
        if !looks {
            return self.fetch_into(room, woken).await;
        }
        self.schedule.went_first = !self.schedule.went_first;
        let (by_id, due) = if self.schedule.went_first {
            let due = self.fetch_due(woken).await?;
            let by_id = match self.room_now() {
                Some(room) => self.fetch_into(room, woken).await?,
                None => Some(FetchOutcome::NO_ROOM),
            };
            (by_id, due)
        } else {
            let by_id = self.fetch_into(room, woken).await?;
            (by_id, self.fetch_due(woken).await?)
        };
        let outcome = by_id.zip(due).map(|(by_id, due)| by_id.and(due));
        if outcome.is_some_and(|it| it.complete) {
            self.counters.read_all();
        }
        Ok(outcome)
    }

    /// Whether rows are left whose time has come, after it has looked for them.
    pub(super) async fn finds_due(&mut self) -> Result<bool> {
        let found = self.fetch_due(Instant::now()).await?;
        let finds = found.is_none_or(|it| it.due > 0 || !it.complete);
        if finds {
            // Nothing else may wake the relay again.
            self.schedule.look_now();
        }
        Ok(finds)
    }

    /// Counts the rows whose time is to come.
    pub(super) async fn count_delayed(&mut self) -> Result<()> {
        let delayed = self.reader.delayed().await?;
        self.counters.saw_delayed(delayed);
        Ok(())
    }

    /// Fetches the rows whose time has come, as far as there is room, and sets the timer. Returns
    /// nothing for no more fetches.
    pub(super) async fn fetch_due(&mut self, woken: Instant) -> Result<Option<FetchOutcome>> {
        let mut outcome = FetchOutcome {
            rows: 0,
            due: 0,
            complete: true,
        };
        if !self.reader.has_due_rows() {
            self.schedule.timer = None;
            return Ok(Some(outcome));
        }
        if self.counters.lacks_delayed() {
            self.count_delayed().await?;
        }
        self.schedule.waiting = (0, None);
        let (mut page, mut next_due) = (Some(BEFORE_ALL), None);
        // Without the wait for the second stage, which may last as long as Kafka is unreachable.
        let mut took = Duration::ZERO;
        while let Some(from) = page.filter(|_| outcome.complete) {
            let begun = Instant::now();
            let by_key = !self.refusals.held().is_empty();
            // Taken before the rows are read: one that is deleted meanwhile is still known.
            let known = self.known();
            let under_way = if by_key {
                self.under_way()
            } else {
                FxHashSet::default()
            };
            let found = self.reader.due_page(from, by_key).await?;
            took += begun.elapsed();
            page = found.next_page;
            let next = found.next_due.map(|next| next.min(LONGEST));
            next_due = next.map(|next| time::Instant::now() + next);
            let rows = self.unknown(found.rows, by_key, &known, &under_way);
            let Some(sent) = self.send_due(&rows, woken, &mut outcome).await? else {
                return Ok(None);
            };
            outcome.complete = sent;
        }
        self.schedule
            .tell_waiting(self.cursor.waited, &self.counters);
        let found = (outcome.due, outcome.complete);
        self.schedule.looked(took, found, next_due);
        if !outcome.complete && self.counters.wants_count() {
            self.count().await?;
        }
        Ok(Some(outcome))
    }

    /// Returns the rows that are neither known nor wait for a key or topic, with their times.
    fn unknown(
        &mut self,
        found: Vec<DueRow>,
        by_key: bool,
        known: &FxHashSet<RowId>,
        under_way: &FxHashSet<RowId>,
    ) -> Vec<(RowId, i64)> {
        let mut held = self.refusals.held();
        let mut unknown = Vec::new();
        for DueRow { it, since } in found {
            let (row, is_known) = (it.row, known.contains(&it.row));
            let event_type = it.event_type.as_deref().unwrap_or_default();
            let mut waits = |topic: Option<&str>| match is_known {
                true => held.waits(row, it.key.as_deref(), topic),
                false => held.keeps_waiting(row, it.key.as_deref(), topic),
            };
            let waits = by_key
                && match self.routes.of(it.topic.as_deref(), event_type) {
                    Ok(Destination::Topic(topic)) => waits(Some(&topic)),
                    // It waits for no other.
                    Ok(Destination::Drop) => false,
                    Err(_) => waits(None),
                };
            if waits {
                let (rows, oldest) = self.schedule.waiting;
                let oldest = oldest.map_or(since, |at| at.min(since));
                // Rows in flight are counted as such.
                let more = u64::from(!under_way.contains(&row));
                self.schedule.waiting = (rows + more, Some(oldest));
            } else if !is_known {
                unknown.push((row, since));
            }
        }
        unknown
    }

    /// Fetches these rows and passes them on. Returns whether there was room for all of them, or
    /// nothing for no more fetches.
    async fn send_due(
        &mut self,
        rows: &[(RowId, i64)],
        woken: Instant,
        outcome: &mut FetchOutcome,
    ) -> Result<Option<bool>> {
        let mut rest = rows;
        while !rest.is_empty() {
            if self.state.halt.is_cancelled() {
                return Ok(None);
            }
            let Some(room) = self.room_now() else {
                return Ok(Some(false));
            };
            let allowed = self.rate.allowed(Instant::now());
            let most = room.rows.min(self.cursor.limit).min(allowed);
            let asked = &rest[..most.min(rest.len())];
            let ids: Vec<i64> = asked.iter().map(|(row, _)| row.id).collect();
            let times: DueTimes = asked.iter().copied().collect();
            let begun = SystemTime::now();
            let bound = (ids.len() + SPARE_ROWS, room.bytes.min(MAX_BYTES));
            let mut batch = self.reader.fetch_due(&ids, bound).await?;
            let bytes = batch.held();
            self.cursor.adapt(&batch);
            batch.retain(|row| times.contains_key(row));
            let there: FxHashSet<RowId> = batch.rows().collect();
            // What is missing before the last is gone from the table, or was put off.
            let last = asked.iter().rposition(|(row, _)| there.contains(row));
            let passed = match batch.is_cut {
                true => last.map_or(1, |last| last + 1),
                false => asked.len(),
            };
            rest = &rest[passed..];
            let sent = batch.len();
            outcome.due += sent;
            self.rate.take(sent);
            if sent > 0 {
                let now = Instant::now();
                let waiting = batch.rows().map(|row| (row, times[&row]));
                self.counters.brought(waiting, bytes, woken, now);
                for (step, when) in [(Step::Woken, woken), (Step::Fetched, now)] {
                    let mut ids = batch.rows().map(|row| row.id);
                    self.counters.passed(step, &mut ids, when);
                }
            }
            self.counters.came_due(batch.rows().map(|row| times[&row]));
            if !self.hand_over(batch, begun, &times).await {
                return Ok(None);
            }
        }
        Ok(Some(true))
    }

    /// The room for a fetch that does not wait for any.
    fn room_now(&mut self) -> Option<Room> {
        let is_free = self.rate.allowed(Instant::now()) > 0 && !self.refusals.rejected.is_full();
        self.state.window().room().filter(|_| is_free)
    }
}
