//! Deletes that go round the rows that make them fail.

use crate::event::RowId;
use crate::postgres::{Commit, Deleted, Error, Leader};
use crate::relay::undeleted::Reason;

/// No more rows than so many are singled out at once: each takes some statements, and all others
/// wait meanwhile.
const MOST_SINGLED_OUT: usize = 32;

/// Outcome of a delete that was halved where it failed.
#[derive(Default)]
pub(crate) struct Pieces {
    pub(crate) deleted: u64,
    pub(crate) left: Vec<(RowId, Reason)>,
    /// Rows that were not tried by themselves, and the failure.
    pub(crate) failed: Option<(Vec<RowId>, Error)>,
    /// The first failure of a row alone.
    of_a_row: Option<Error>,
}

/// Deletes rows; where the statement fails for what is in a row, by halves, down to that row. Each
/// statement asks `commit` how it commits, and tells `done` when it has.
///
/// # Errors
/// The session is lost.
pub(crate) async fn delete_in_pieces(
    leader: &mut Leader,
    rows: Vec<RowId>,
    consecutive: bool,
    mut commit: impl FnMut() -> Commit,
    mut done: impl FnMut(Commit),
) -> Result<Pieces, Error> {
    let mut outcome = Pieces::default();
    let mut singled_out = 0;
    let mut pieces = vec![rows];
    while let Some(mut piece) = pieces.pop() {
        let commit = commit();
        match leader.delete(&mut piece, consecutive, commit).await {
            Ok(deleted) => {
                done(commit);
                outcome.take(deleted);
            }
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) if error.is_about_a_row() && singled_out < MOST_SINGLED_OUT => {
                let half = piece.split_off(piece.len() / 2);
                if piece.is_empty() {
                    singled_out += 1;
                    let reason = Reason::Failed(error.to_string());
                    let rows = half.into_iter().map(|row| (row, reason.clone()));
                    outcome.left.extend(rows);
                    outcome.of_a_row.get_or_insert(error);
                } else {
                    pieces.extend([half, piece]);
                }
            }
            Err(error) => {
                piece.extend(pieces.drain(..).flatten());
                outcome.failed = Some((piece, error));
            }
        }
    }
    Ok(outcome)
}

impl Pieces {
    /// Takes a delete of few rows that failed for each of them as a failure of the deletes. Where
    /// so many fail that not all were tried, those that were stay singled out: rows behind them may
    /// go.
    pub(super) fn give_up_alike(&mut self) {
        if self.deleted > 0 || self.failed.is_some() {
            return;
        }
        let is_failed = |it: &(RowId, Reason)| matches!(it.1, Reason::Failed(_));
        if self.left.iter().all(is_failed)
            && let Some(error) = self.of_a_row.take()
        {
            let rows = self.left.drain(..).map(|(row, _)| row).collect();
            self.failed = Some((rows, error));
        }
    }

    fn take(&mut self, deleted: Deleted) {
        self.deleted += deleted.rows;
        self.left.extend(deleted.left.into_iter().map(|it| {
            let reason = match it.is_locked {
                true => Reason::Locked,
                false => Reason::Kept,
            };
            (it.row, reason)
        }));
    }
}
