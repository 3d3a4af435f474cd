//! Reads the rows whose time has come, and when the next one comes.

use std::time::Duration;

use rustc_hash::FxHashMap;
use sqlx::Row;

use super::{COUNT_LIMIT, FetchRequest, LOOK_PAGE, LookedAt, Reader};
use crate::postgres::error::Result;
use crate::postgres::relay::batch::Batch;
use crate::postgres::relay::fetch_statement::keys;
use crate::postgres::table::Table;
use crate::postgres::wire::{MINUS_INFINITY, Timestamp, bytes, int, time};

/// A row whose time has come; without key, topic and type if they were not asked for.
#[derive(Debug)]
pub(crate) struct DueRow {
    pub(crate) it: LookedAt,
    /// Its time, in microseconds since the Unix epoch.
    pub(crate) since: i64,
}

/// The place of a row in the order in which rows come due: its time and its id.
pub(crate) type DueKey = (i64, i64);

/// No row comes before it.
pub(crate) const BEFORE_ALL: DueKey = (MINUS_INFINITY, i64::MIN);

/// The first rows whose time has come from some place on.
#[derive(Debug)]
pub(crate) struct DuePage {
    pub(crate) rows: Vec<DueRow>,
    /// Where the next page begins. `None`: there is no more row.
    pub(crate) next_page: Option<DueKey>,
    /// How long it is until the next row comes due, unless none is to come.
    pub(crate) next_due: Option<Duration>,
}

/// Rows whose time was to come at some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DelayedCount {
    pub(crate) rows: u64,
    /// Whether there are more.
    pub(crate) is_more: bool,
    /// The moment, in microseconds since the Unix epoch, by the server's clock.
    pub(crate) at: i64,
}

impl Reader {
    /// Whether rows may have a time before which they are not sent.
    pub(crate) fn has_due_rows(&self) -> bool {
        self.due.is_some()
    }

    /// Reads one page of the rows whose time has come, in the order of these times. Reads no
    /// payload.
    pub(crate) async fn due_page(&mut self, from: DueKey, with_keys: bool) -> Result<DuePage> {
        let mut page = DuePage {
            rows: Vec::new(),
            next_page: None,
            next_due: None,
        };
        let Some(statements) = &self.due else {
            return Ok(page);
        };
        let statement = match with_keys {
            true => &statements.page_with_keys,
            false => &statements.page,
        };
        let begin = (Timestamp(from.0), from.1);
        let read = self
            .session
            .all(statement, |q| q.bind(begin.0).bind(begin.1));
        for row in &read.await? {
            if bytes(row, 0)?.is_some() {
                let (it, since) = (LookedAt::of(row)?, time(row, 5)?);
                page.rows.push(DueRow { it, since });
            } else {
                let micros: i64 = row.try_get(6)?;
                page.next_due = Some(Duration::from_micros(micros.max(0).unsigned_abs()));
            }
        }
        page.next_page = next_page(&mut page.rows, LOOK_PAGE);
        Ok(page)
    }

    /// Fetches the rows with these ids in this order, as far as their time has come, at most so
    /// many. A batch that has so many counts as cut.
    pub(crate) async fn fetch_due(
        &mut self,
        ids: &[i64],
        (rows, bytes): (usize, usize),
    ) -> Result<Batch> {
        let (mut places, mut ranges) = (FxHashMap::default(), Vec::new());
        for id in ids {
            if places.insert(*id, ranges.len()).is_none() {
                ranges.push((*id, *id));
            }
        }
        let ask = FetchRequest {
            after: i64::MAX,
            gaps: &ranges,
            rows,
            bytes,
        };
        let sort = |batch: &mut Batch| batch.sort_by(|id| places.get(&id).copied());
        let mut batch = self.fetch_by(&ask, |it| &it.due, sort).await?;
        batch.is_cut |= batch.len() >= rows;
        Ok(batch)
    }

    /// Counts the rows whose time is to come, up to a limit.
    pub(crate) async fn delayed(&mut self) -> Result<Option<DelayedCount>> {
        let Some(statements) = &self.due else {
            return Ok(None);
        };
        let row = self.session.one(&statements.delayed, |q| q).await?;
        let rows = int(&row, 0)?.unsigned_abs();
        Ok(Some(DelayedCount {
            rows: rows.min(COUNT_LIMIT),
            is_more: rows > COUNT_LIMIT,
            at: time(&row, 1)?,
        }))
    }

    /// Reads the first of the rows that may be sent now, from an id up to another, by their ids.
    /// Rows that wait are read and left out: this is not for a table that is in use.
    pub(crate) async fn sendable(
        &mut self,
        table: &Table,
        (from, until): (i64, i64),
        with_keys: bool,
    ) -> Result<Vec<LookedAt>> {
        let c = &table.columns;
        let more = match with_keys {
            true => keys(table),
            false => "NULL, NULL, NULL".into(),
        };
        let sql = format!(
            "SELECT {id}, {created_at}, {more} FROM {from} WHERE {id} >= $1 AND {id} <= $2{due} ORDER BY {id} LIMIT {LOOK_PAGE}",
            id = c.id,
            created_at = c.created_at,
            from = table.quoted,
            due = c.due(),
        );
        let rows = self.session.all(&sql, |q| q.bind(from).bind(until)).await?;
        rows.iter().map(LookedAt::of).collect()
    }
}

/// Leaves the rows in the last place of a full page to the next one, since ids can repeat. Returns
/// the place with which that begins.
fn next_page(rows: &mut Vec<DueRow>, full: usize) -> Option<DueKey> {
    let place = |row: &DueRow| (row.since, row.it.row.id);
    let last = rows.last().filter(|_| rows.len() >= full).map(place)?;
    let before = rows.partition_point(|row| place(row) < last);
    match before {
        0 => Some((last.0, last.1.checked_add(1)?)),
        before => {
            rows.truncate(before);
            Some(last)
        }
    }
}
