//! Rows that an earlier leader sent and did not delete: those that the last receipt names, as far as the table still has them.

use tracing::{debug, info, warn};

use super::error::RelayError;
use super::opening::{Closed, Hitch, Opening};
use super::term::Sessions;
use super::voice::Voice;
use crate::event::Named;
use crate::kafka::Receipt;
use crate::postgres::{Ask, Commit, Mark, Result, Sent};

/// Rows of one look for those that a receipt names, and bytes.
const LOOK_ROWS: usize = 4_000;
const LOOK_BYTES: usize = 4 << 20;
/// Ranges of ids of one look.
const LOOK_RANGES: usize = 1_000;

impl Opening<'_> {
    /// Deletes what the receipt names, after it was compared with what the database knows.
    pub(super) async fn clear(
        &self,
        receipt: Option<&Receipt>,
        sessions: &mut Sessions,
        voice: &mut Voice,
    ) -> std::result::Result<(Mark, Vec<Named>), Hitch> {
        let (known, accepted) = sessions.leader.known_receipt().await?.unwrap_or_default();
        let sent = Mark {
            receipt: receipt.map_or(0, |receipt| receipt.number as i64),
            deletes: receipt.map_or(0, |receipt| receipt.deletes as i64),
        };
        if let Some(problem) = disagreement(known, sent) {
            if !accepted {
                return Err(Hitch::Closed(Closed::Relay(RelayError::Receipts {
                    table: self.table.quoted.clone(),
                    topic: self.receipts.topic().to_owned(),
                    problem,
                })));
            }
            warn!(
                problem,
                receipt = sent.receipt,
                "going on with the receipts that are there, as `doorbell receipts accept` has asked for"
            );
        }
        let mut mark = Mark {
            receipt: sent.receipt,
            deletes: known.deletes.max(sent.deletes) + 1,
        };
        sessions.leader.commit_durably().await?;
        let named = receipt.map_or(&[][..], |receipt| &receipt.rows);
        let left = find(sessions, named).await?;
        let mut carried = Vec::new();
        if !left.is_empty() {
            let topics = receipt.map_or(Vec::new(), |receipt| receipt.topics.clone());
            let stable =
                self.receive(move |receipts, wanted| receipts.await_stable(&topics, wanted));
            voice.during(&mut sessions.leader, stable).await??;
        }
        // Only now: until then whoever starts anew has to find what this one has found.
        sessions.leader.set_mark(mark).await?;
        if !left.is_empty() {
            mark.deletes += 1;
            let mut rows: Vec<Sent> = left
                .iter()
                .map(|row| Sent {
                    id: row.id,
                    created_at: row.created_at,
                })
                .collect();
            let unique = self.table.id_is_unique;
            let commit = Commit::Marked(mark);
            let deleted = sessions.leader.delete(&mut rows, unique, commit).await?;
            info!(
                rows = deleted.rows,
                locked = deleted.locked.len(),
                receipt = sent.receipt,
                "deleted what an earlier relay had sent"
            );
            carried.extend(
                left.into_iter()
                    .filter(|row| deleted.locked.contains(&row.id)),
            );
        }
        Ok((mark, carried))
    }
}

/// Why the database and the receipts cannot belong together; nothing where they do. Deletes follow their receipts, so the database may be behind in
/// receipts and ahead in deletes, and no other way round.
fn disagreement(database: Mark, receipts: Mark) -> Option<&'static str> {
    if database.deletes < receipts.deletes {
        Some(
            "the database is behind its receipts: it was restored, or lost its last transactions in a failover, and rows that were sent may be back in the table",
        )
    } else if database.receipt > receipts.receipt {
        Some(
            "the receipts are behind their database: their topic was deleted, made anew, or is another one, and rows that were sent may still be in the table",
        )
    } else {
        None
    }
}

/// Which of the rows are in the table: the very same, by what is in them.
async fn find(sessions: &mut Sessions, named: &[Named]) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    let ranges = ranges(named);
    for ranges in ranges.chunks(LOOK_RANGES) {
        let mut ranges = ranges.to_vec();
        while !ranges.is_empty() {
            let ask = Ask {
                after: i64::MAX,
                gaps: &ranges,
                rows: LOOK_ROWS,
                bytes: LOOK_BYTES,
            };
            let batch = sessions.reader.fetch(&ask).await?;
            let Some(last) = batch.heads().last().map(|head| head.id) else {
                break;
            };
            let rows = batch.events().map(|event| event.named());
            found.extend(rows.filter(|row| named.binary_search(row).is_ok()));
            // Where ids are not unique, two rows with the last one may be cut apart: it is looked at once more.
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

/// Closed ranges of consecutive ids, ascending.
fn ranges(named: &[Named]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for row in named {
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

    fn mark(receipt: i64, deletes: i64) -> Mark {
        Mark { receipt, deletes }
    }

    #[test]
    fn the_database_may_be_behind_in_receipts_and_ahead_in_deletes_only() {
        assert_eq!(disagreement(mark(0, 0), mark(0, 0)), None);
        assert_eq!(disagreement(mark(7, 9), mark(7, 9)), None);
        // Its last deletes are not made yet, or were made after the last receipt was sent.
        assert_eq!(disagreement(mark(6, 9), mark(8, 9)), None);
        assert_eq!(disagreement(mark(8, 10), mark(8, 9)), None);
        let restored = disagreement(mark(7, 8), mark(8, 9)).expect("a problem");
        assert!(restored.contains("restored"), "{restored}");
        let recreated = disagreement(mark(7, 8), mark(0, 0)).expect("a problem");
        assert!(recreated.contains("made anew"), "{recreated}");
        let never = disagreement(mark(0, 0), mark(3, 2)).expect("a problem");
        assert!(never.contains("restored"), "{never}");
    }

    #[test]
    fn ids_are_looked_for_in_ranges() {
        let named = |ids: &[i64]| -> Vec<Named> {
            let row = |id: &i64| Named {
                id: *id,
                created_at: 1,
                hash: 2,
            };
            ids.iter().map(row).collect()
        };
        let ids = [1, 2, 2, 3, 5, i64::MAX - 1, i64::MAX];
        let expected = [(1, 3), (5, 5), (i64::MAX - 1, i64::MAX)];
        assert_eq!(ranges(&named(&ids)), expected);
        assert_eq!(ranges(&[]), []);
    }
}
