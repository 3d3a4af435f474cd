//! Deletes the rows that an earlier leader sent and did not delete: those of the last receipt that
//! are still in the table.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use tracing::{debug, info, warn};

use super::recovery::{Recovery, RecoveryError, StepError};
use crate::event::ReceiptRow;
use crate::event::RowId;
use crate::kafka::Receipt;
use crate::postgres::{Commit, FetchRequest, ReceiptPosition, Result};
use crate::relay::election::Heartbeat;
use crate::relay::error::RelayError;
use crate::relay::sessions::Sessions;
use crate::relay::settle::delete_in_pieces;

/// Rows and bytes of one search for the rows of a receipt.
const LOOK_ROWS: usize = 4_000;
const LOOK_BYTES: usize = 4 << 20;
/// Ranges of ids of one search.
const LOOK_RANGES: usize = 1_000;

impl Recovery<'_> {
    /// Compares the database with the receipts of now. They may lack what a predecessor is about to
    /// commit, which no commit can take back.
    pub(super) async fn compare(
        &self,
        sessions: &mut Sessions,
        heartbeat: &mut Heartbeat,
    ) -> std::result::Result<(), StepError> {
        let read = self.receive(|receipts, wanted| receipts.last_of_now(wanted));
        let read = heartbeat.during(&mut sessions.leader, read).await??;
        let (known, accepted) = sessions.leader.known_receipt().await?.unwrap_or_default();
        let Some((receipt, settled)) = read.filter(|_| !accepted) else {
            return Ok(());
        };
        let sent = sent_position(receipt.as_ref());
        match disagreement(known, sent) {
            Some(problem) if settled || known.deletes < sent.deletes => Err(self.refuse(problem)),
            _ => Ok(()),
        }
    }

    fn refuse(&self, problem: &'static str) -> StepError {
        let table = self.table.quoted.clone();
        let topic = self.receipts.topic().to_owned();
        StepError::Final(RecoveryError::Relay(RelayError::Receipts {
            table,
            topic,
            problem,
        }))
    }

    /// Compares the receipt with the database, and deletes the rows that it lists.
    pub(super) async fn clear(
        &self,
        receipt: Option<&Receipt>,
        sessions: &mut Sessions,
        heartbeat: &mut Heartbeat,
    ) -> std::result::Result<(ReceiptPosition, Vec<ReceiptRow>), StepError> {
        let (known, accepted) = sessions.leader.known_receipt().await?.unwrap_or_default();
        let sent = sent_position(receipt);
        if let Some(problem) = disagreement(known, sent) {
            if !accepted {
                return Err(self.refuse(problem));
            }
            warn!(
                problem,
                receipt = sent.receipt,
                "continuing with the current receipts, as an operator has accepted them"
            );
        }
        let mut position = ReceiptPosition {
            receipt: sent.receipt,
            deletes: known.deletes.max(sent.deletes) + 1,
        };
        sessions.leader.commit_durably().await?;
        let named = receipt.map_or(&[][..], |receipt| &receipt.rows);
        let left = find(sessions, named).await?;
        let mut carried = Vec::new();
        if !left.is_empty() {
            let topics = receipt.map_or(Vec::new(), |receipt| receipt.topics.clone());
            let goals = Arc::clone(&self.goals);
            let stable = self
                .receive(move |receipts, wanted| receipts.await_stable(&topics, &goals, wanted));
            heartbeat.during(&mut sessions.leader, stable).await??;
        }
        // Not earlier: a relay that starts before this must find what this one found.
        sessions.leader.set_receipt_position(position).await?;
        if !left.is_empty() {
            let rows = left.iter().map(|it| it.row).collect();
            let commit = || {
                position.deletes += 1;
                Commit::WithReceipt(position)
            };
            let unique = self.table.id_is_unique;
            let deleted =
                delete_in_pieces(&mut sessions.leader, rows, unique, commit, |_| ()).await?;
            if let Some((_, error)) = deleted.failed {
                return Err(error.into());
            }
            info!(
                rows = deleted.deleted,
                left = deleted.left.len(),
                receipt = sent.receipt,
                "deleted rows that an earlier relay had sent"
            );
            let still: FxHashSet<RowId> = deleted.left.iter().map(|(row, _)| *row).collect();
            carried.extend(left.into_iter().filter(|it| still.contains(&it.row)));
        }
        Ok((position, carried))
    }
}

fn sent_position(receipt: Option<&Receipt>) -> ReceiptPosition {
    receipt.map_or_else(ReceiptPosition::default, |receipt| ReceiptPosition {
        receipt: receipt.number as i64,
        deletes: receipt.deletes as i64,
    })
}

/// Returns why the database and the receipts do not belong together; `None` if they do. Each delete
/// follows its receipt. So the database may be behind in receipts and ahead in deletes, and nothing
/// else.
fn disagreement(database: ReceiptPosition, receipts: ReceiptPosition) -> Option<&'static str> {
    if database.deletes < receipts.deletes {
        Some(
            "the database is behind its receipts: it was restored, is a copy of another, or lost its last transactions in a failover, and rows that were sent may be back in the table",
        )
    } else if database.receipt > receipts.receipt {
        Some(
            "the receipts are behind their database: their topic was deleted or recreated, `receipts` or `transactional_id` was changed, or this is a copy of another database, and rows that were sent may still be in the table",
        )
    } else {
        None
    }
}

/// Returns the listed rows that are still in the table, compared by their contents.
async fn find(sessions: &mut Sessions, named: &[ReceiptRow]) -> Result<Vec<ReceiptRow>> {
    let mut found = Vec::new();
    let ranges = ranges(named);
    for ranges in ranges.chunks(LOOK_RANGES) {
        let mut ranges = ranges.to_vec();
        while !ranges.is_empty() {
            let ask = FetchRequest {
                after: i64::MAX,
                gaps: &ranges,
                rows: LOOK_ROWS,
                bytes: LOOK_BYTES,
            };
            let batch = sessions.reader.fetch_any(&ask).await?;
            let Some(last) = batch.rows().last().map(|row| row.id) else {
                break;
            };
            let rows = batch.events().map(|event| event.receipt_row());
            found.extend(rows.filter(|row| named.binary_search(row).is_ok()));
            // If ids are not unique, the cut may fall between two rows with the last id, so this id
            // is read once more.
            let next = match last > ranges[0].0 {
                true => Some(last),
                false => last.checked_add(1),
            };
            ranges.retain(|range| next.is_some_and(|next| range.1 >= next));
            if let (Some(first), Some(next)) = (ranges.first_mut(), next) {
                first.0 = first.0.max(next);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    debug!(
        named = named.len(),
        left = found.len(),
        "rows of the last receipt"
    );
    Ok(found)
}

/// Returns closed ranges of consecutive ids, ascending.
fn ranges(named: &[ReceiptRow]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for ReceiptRow { row, .. } in named {
        match ranges.last_mut() {
            Some(range) if row.id <= range.1.saturating_add(1) => range.1 = row.id,
            _ => ranges.push((row.id, row.id)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(receipt: i64, deletes: i64) -> ReceiptPosition {
        ReceiptPosition { receipt, deletes }
    }

    #[test]
    fn the_database_may_be_behind_in_receipts_and_ahead_in_deletes_only() {
        assert_eq!(disagreement(position(0, 0), position(0, 0)), None);
        assert_eq!(disagreement(position(7, 9), position(7, 9)), None);
        // The last deletes are not made yet, or were made after the last receipt was sent.
        assert_eq!(disagreement(position(6, 9), position(8, 9)), None);
        assert_eq!(disagreement(position(8, 10), position(8, 9)), None);
        let restored = disagreement(position(7, 8), position(8, 9)).expect("a problem");
        assert!(restored.contains("restored"), "{restored}");
        let recreated = disagreement(position(7, 8), position(0, 0)).expect("a problem");
        assert!(recreated.contains("recreated"), "{recreated}");
        let never = disagreement(position(0, 0), position(3, 2)).expect("a problem");
        assert!(never.contains("restored"), "{never}");
    }

    #[test]
    fn ids_are_looked_for_in_ranges() {
        let named = |ids: &[i64]| -> Vec<ReceiptRow> {
            let row = |id: &i64| ReceiptRow {
                row: RowId {
                    id: *id,
                    created_at: 1,
                },
                fingerprint: 2,
            };
            ids.iter().map(row).collect()
        };
        let ids = [1, 2, 2, 3, 5, i64::MAX - 1, i64::MAX];
        let expected = [(1, 3), (5, 5), (i64::MAX - 1, i64::MAX)];
        assert_eq!(ranges(&named(&ids)), expected);
        assert_eq!(ranges(&[]), []);
    }
}
