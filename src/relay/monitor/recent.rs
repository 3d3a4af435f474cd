//! The rows that were sent last, so that a question after one of them needs no database.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::watch;
use uuid::Uuid;

use crate::event::{OutboxId, RowId};
use crate::sync::lock;

/// Rows that are remembered: 160 kB.
const REMEMBERED: usize = 10_000;

/// Own ids of events that are remembered: as many, and those of rows in flight. Some 1.6 MB, of
/// outboxes that have them.
const REMEMBERED_IDS: usize = 50_000;

/// Rows that Kafka has acknowledged, of the outbox that the relay served last.
#[derive(Debug, Default)]
pub(crate) struct RecentlySent {
    rows: Mutex<(Option<OutboxId>, VecDeque<RowId>)>,
    /// The ids that events have of their own, in the order in which they were handed to Kafka.
    own_ids: Mutex<VecDeque<(RowId, Uuid)>>,
    /// How many rows were ever added.
    added: watch::Sender<u64>,
}

impl RecentlySent {
    /// Begins a term of this outbox. Rows of another one are forgotten.
    pub(crate) fn begin(&self, outbox: OutboxId) {
        let mut rows = lock(&self.rows);
        if rows.0.replace(outbox) != Some(outbox) {
            rows.1.clear();
        }
    }

    /// Adds rows of this outbox in the order in which Kafka acknowledged them.
    pub(crate) fn add(&self, sent: impl ExactSizeIterator<Item = RowId>) {
        let count = sent.len();
        let last = sent.skip(count.saturating_sub(REMEMBERED));
        let mut rows = lock(&self.rows);
        let room = REMEMBERED - last.len();
        let surplus = rows.1.len().saturating_sub(room);
        rows.1.drain(..surplus);
        rows.1.extend(last);
        // Under the lock, so that the number is that of the rows.
        self.added.send_modify(|added| *added += count as u64);
    }

    /// Records the id that a row's event has of its own, before the row is sent.
    pub(crate) fn has_own_id(&self, row: RowId, id: Uuid) {
        let mut ids = lock(&self.own_ids);
        if ids.len() == REMEMBERED_IDS {
            ids.pop_front();
        }
        ids.push_back((row, id));
    }

    /// Returns whether the event with this id was among the last. Derives the id of each of them,
    /// unless they have their own.
    pub(crate) fn has_event(&self, id: Uuid) -> bool {
        let known = lock(&self.own_ids)
            .iter()
            .rev()
            .find(|it| it.1 == id)
            .copied();
        let remembered = lock(&self.rows).clone();
        if let Some((row, _)) = known {
            return remembered.1.contains(&row);
        }
        let (Some(outbox), rows) = remembered else {
            return false;
        };
        rows.iter().any(|row| outbox.event_id(*row) == id)
    }

    /// Waits until the row was sent, or has been among the last. Cancel-safe.
    pub(crate) async fn sent(&self, row: RowId) {
        let mut changes = self.added.subscribe();
        let mut seen = 0;
        loop {
            {
                let rows = lock(&self.rows);
                let added = *changes.borrow_and_update();
                let new = usize::try_from(added - seen).unwrap_or(usize::MAX);
                if rows.1.iter().rev().take(new).any(|it| *it == row) {
                    return;
                }
                seen = added;
            }
            // The sender is a part of this value, so it is there.
            changes.changed().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use super::*;

    fn row(id: i64) -> RowId {
        RowId { id, created_at: 7 }
    }

    #[test]
    fn the_last_rows_are_remembered_and_those_of_another_outbox_are_forgotten() {
        let recent = RecentlySent::default();
        let (one, other) = (OutboxId(Uuid::nil()), OutboxId(Uuid::max()));
        assert!(!recent.has_event(one.event_id(row(1))));
        recent.begin(one);
        recent.add(once(row(1)));
        assert!(recent.has_event(one.event_id(row(1))));
        assert!(!recent.has_event(other.event_id(row(1))));
        let last = REMEMBERED as i64 + 1;
        recent.begin(one);
        recent.add((2..last).map(row).collect::<Vec<_>>().into_iter());
        assert!(recent.has_event(one.event_id(row(1))));
        recent.add(once(row(last)));
        assert!(!recent.has_event(one.event_id(row(1))));
        assert!(recent.has_event(one.event_id(row(last))));
        recent.begin(other);
        recent.add(once(row(5)));
        assert!(!recent.has_event(one.event_id(row(last))));
        assert!(recent.has_event(other.event_id(row(5))));
        let own = Uuid::from_u128(7);
        recent.has_own_id(row(6), own);
        assert!(!recent.has_event(own));
        recent.add(once(row(6)));
        assert!(recent.has_event(own));
    }

    #[test]
    fn a_row_is_awaited_and_one_that_was_sent_before_is_seen_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let recent = RecentlySent::default();
            let send = async { recent.add(once(row(3))) };
            tokio::join!(recent.sent(row(3)), send);
            recent.sent(row(3)).await;
        });
    }
}
