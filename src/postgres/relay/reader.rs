//! Reads an outbox. The statements are built once from its columns.

pub(crate) mod due_rows;

use std::time::{Duration, Instant};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::batch::Batch;
use super::crash_counter;
use super::fetch_statement::{
    DueStatements, FetchStatements, READER_SETTINGS, ReadStatement, fetch_statements, keys,
};
use super::registry::{self, RegistryEntry};
use crate::event::RowId;
use crate::postgres::error::Result;
use crate::postgres::inspect::lock_holders as holders;
use crate::postgres::session::Session;
use crate::postgres::table::Table;
use crate::postgres::wire::{Timestamp, bytes, int, row_id, time};

/// How many ids one page of a look below the cursor reads.
pub(crate) const LOOK_PAGE: usize = 10_000;

/// No value in PostgreSQL is larger.
pub(crate) const LARGEST_VALUE: usize = 1 << 30;

/// A batch whose rows come so slowly is handed on after this time. The clock is read each so many
/// rows.
const PATIENCE: Duration = Duration::from_secs(2);
const SLOW_ROWS: usize = 16;

/// Limit of a count of rows. Counting that many occupies the fetching session for some
/// milliseconds.
const COUNT_LIMIT: u64 = 100_000;

/// Chooses the statement of a fetch that has ranges of ids.
type Chosen = fn(&FetchStatements) -> &ReadStatement;

/// The session that fetches, and its statements.
pub struct Reader {
    pub(crate) session: Session,
    statements: Box<FetchStatements>,
    ids_below: String,
    keys_below: String,
    due: Option<Box<DueStatements>>,
    waiting_above: String,
    waiting: String,
    relations: Vec<i64>,
    table: String,
    oid: u32,
    /// Number of held keys that the session's name shows.
    shown_held: usize,
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest<'a> {
    /// Only rows above this id, besides those in `gaps`.
    pub after: i64,
    /// Closed ranges of ids to read as well: ascending, and all at or below `after`.
    pub gaps: &'a [(i64, i64)],
    /// Maximum number of rows.
    pub rows: usize,
    /// The batch ends with the row that reaches this many bytes. It has at least one row.
    pub bytes: usize,
}

/// A row below the cursor; without key, topic and type if they were not asked for.
#[derive(Debug)]
pub(crate) struct LookedAt {
    pub(crate) row: RowId,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) topic: Option<Vec<u8>>,
    pub(crate) event_type: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Number of rows, as far as they were counted.
    pub rows: u64,
    /// Whether there are more rows than were counted.
    pub is_more: bool,
    /// When the first of them was created, in microseconds since the Unix epoch.
    pub oldest: Option<i64>,
}

impl Reader {
    /// Takes over a session for fetching.
    pub async fn new(mut session: Session, table: &Table) -> Result<Self> {
        session.batch(READER_SETTINGS).await?;
        Ok(Self {
            session,
            statements: Box::new(fetch_statements(table, LARGEST_VALUE)),
            ids_below: ids_below(table, "NULL, NULL, NULL"),
            keys_below: ids_below(table, &keys(table)),
            due: DueStatements::of(table, LOOK_PAGE, COUNT_LIMIT).map(Box::new),
            waiting: format!(", {}", counts(table, "IS NOT NULL", "")),
            waiting_above: {
                let order = format!("ORDER BY {} ", table.columns.id);
                format!("SELECT {}", counts(table, "> $1", &order))
            },
            relations: table.relations.iter().map(|oid| i64::from(*oid)).collect(),
            table: table.quoted.clone(),
            oid: table.oid,
            shown_held: 0,
        })
    }

    /// Whether the session's name shows held keys.
    pub(crate) fn shows_held_keys(&self) -> bool {
        self.shown_held > 0
    }

    /// Publishes in the session's name how many keys are held, for `doorbell status`. Only the
    /// leader knows it.
    pub async fn publish_held_keys(&mut self, keys: usize) -> Result<()> {
        if keys == self.shown_held {
            return Ok(());
        }
        let name = holders::reader_name(self.oid, keys);
        const NAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";
        self.session.one(NAME, |q| q.bind(name)).await?;
        self.shown_held = keys;
        Ok(())
    }

    /// Sets the size of the largest row that is read.
    pub(crate) fn reading_up_to(mut self, table: &Table, largest: usize) -> Self {
        *self.statements = fetch_statements(table, largest);
        self
    }

    /// Fetches rows that were visible after the call.
    ///
    /// A batch has at least one row, if there is any: a row that the server cannot send comes
    /// without its contents, and a statement that takes too long ends with the rows that came.
    pub async fn fetch(&mut self, ask: &FetchRequest<'_>) -> Result<Batch> {
        self.fetch_by(ask, |it| &it.with_gaps, Batch::sort).await
    }

    /// Fetches the rows of the ranges alone, whenever they are to be sent.
    pub(crate) async fn fetch_any(&mut self, ask: &FetchRequest<'_>) -> Result<Batch> {
        self.fetch_by(ask, |it| &it.any, Batch::sort).await
    }

    async fn fetch_by(
        &mut self,
        ask: &FetchRequest<'_>,
        statement: Chosen,
        sort: impl Fn(&mut Batch) -> bool,
    ) -> Result<Batch> {
        loop {
            let mut batch = Batch::default();
            let read = self.read(ask, statement, &mut batch).await;
            let was_sorted = sort(&mut batch);
            match read {
                Ok(()) => {}
                Err(error) if !error.may_be_a_row() => return Err(error),
                // The row at fault comes next.
                Err(_) if !batch.is_empty() && was_sorted => batch.is_cut = true,
                Err(_) => match self.fetch_first(ask, statement).await? {
                    Some(first) => batch = first,
                    // It is gone.
                    None => continue,
                },
            }
            return Ok(batch);
        }
    }

    /// Adds rows to the batch in one statement.
    async fn read(
        &mut self,
        ask: &FetchRequest<'_>,
        statement: Chosen,
        batch: &mut Batch,
    ) -> Result<()> {
        let (after, rows, bytes) = (ask.after, clamp(ask.rows), clamp(ask.bytes));
        let (most, begun) = (ask.bytes.saturating_mul(2), Instant::now());
        let Self {
            session,
            statements,
            ..
        } = self;
        let take = |row| {
            batch.add(&row, &statements.sizes)?;
            // The sizes of texts that the server builds are not known before.
            let is_slow = batch.len().is_multiple_of(SLOW_ROWS) && begun.elapsed() > PATIENCE;
            let goes_on = batch.held() < most && !is_slow;
            batch.is_cut |= !goes_on;
            Ok(goes_on)
        };
        if ask.gaps.is_empty() {
            let above = &statements.above;
            let read = session.each(above, |q| q.bind(after).bind(rows).bind(bytes), take);
            return read.await;
        }
        let (low, high) = ends(ask.gaps);
        session
            .each(
                &statement(statements).all,
                |q| q.bind(after).bind(rows).bind(bytes).bind(low).bind(high),
                take,
            )
            .await
    }

    /// Fetches the first row alone, without its contents if the server cannot send them.
    async fn fetch_first(
        &mut self,
        ask: &FetchRequest<'_>,
        statement: Chosen,
    ) -> Result<Option<Batch>> {
        let (low, high) = ends(ask.gaps);
        let first = &statement(&self.statements).first;
        let first = self.session.all_patiently(first, |q| {
            let q = q.bind(ask.after).bind(1_i64).bind(1_i64);
            q.bind(low).bind(high)
        });
        let Some(row) = first.await?.first().map(row_id).transpose()? else {
            return Ok(None);
        };
        let alone = FetchRequest {
            after: i64::MAX,
            gaps: &[(row.id, row.id)],
            rows: 1,
            bytes: ask.bytes,
        };
        let mut batch = Batch::default();
        if let Err(error) = self.read(&alone, |it| &it.any, &mut batch).await {
            if !error.may_be_a_row() {
                return Err(error);
            }
            batch = Batch::default();
            let known = self.session.all(&self.statements.outline, |q| {
                q.bind(row.id).bind(Timestamp(row.created_at))
            });
            match known.await {
                Ok(rows) => rows
                    .iter()
                    .take(1)
                    .try_for_each(|row| batch.add(row, &self.statements.sizes))?,
                Err(error) if error.may_be_a_row() => {}
                Err(error) => return Err(error),
            }
            batch.add_unreadable(row, error.to_string());
        }
        batch.is_cut = true;
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Reads one page of the ids from `from` to `until`, with their times of creation, ascending,
    /// and with their keys, topics and types if asked. Reads no payload.
    pub(crate) async fn ids(
        &mut self,
        from: i64,
        until: i64,
        with_keys: bool,
    ) -> Result<Vec<LookedAt>> {
        let statement = match with_keys {
            true => &self.keys_below,
            false => &self.ids_below,
        };
        let rows = self
            .session
            .all(statement, |q| q.bind(from).bind(until))
            .await?;
        rows.iter().map(LookedAt::of).collect()
    }

    /// Counts the rows above an id, up to a limit.
    pub async fn waiting_above(&mut self, after: i64) -> Result<Waiting> {
        let row = self
            .session
            .one(&self.waiting_above, |q| q.bind(after))
            .await?;
        waiting(&row, 0)
    }

    /// Counts the dead letters of the outbox, up to a limit.
    pub(crate) async fn dead_letters(&mut self) -> Result<i64> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM doorbell.dead d WHERE d.outbox = $1 AND d.retried_at IS NULL LIMIT {COUNT_LIMIT}) d"
        );
        let outbox = self.table.clone();
        self.session.value(&sql, |q| q.bind(outbox)).await
    }

    /// Reads the outbox's entry, and counts all of its rows up to a limit, in one statement.
    pub(crate) async fn entry_and_rows(&mut self) -> Result<(RegistryEntry, Waiting)> {
        let row = registry::look_up(&mut self.session, &self.table, &self.waiting).await?;
        let first = row.len() - 2;
        Ok((registry::read(&row)?, waiting(&row, first)?))
    }

    /// Lists the transactions that may own an id that is not visible. A writer holds this lock from
    /// before it draws the id until after its commit is visible. `ours` are the server processes of
    /// this relay.
    pub async fn writers(&mut self, ours: &[i32]) -> Result<Vec<String>> {
        const WRITERS: &str = "SELECT l.virtualtransaction FROM pg_catalog.pg_locks l \
            WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted \
            AND l.relation = ANY ($1::bigint[]::oid[]) AND (l.pid IS NULL OR l.pid <> ALL ($2::int[])) \
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())";
        let (relations, ours) = (self.relations.clone(), ours.to_vec());
        self.session
            .values(WRITERS, |q| q.bind(relations).bind(ours))
            .await
    }

    /// Returns the id from which on the outbox is to be read, and how many dead rows it has.
    pub async fn beginning(&mut self) -> Result<(i64, i64)> {
        let row = self.session.one(&crash_counter::BEGINNING, |q| {
            q.bind(self.table.clone()).bind(self.relations.clone())
        });
        let row = row.await?;
        Ok((int(&row, 0)?, int(&row, 1)?))
    }

    /// Records that id for the next term, unless the schema is of an earlier version.
    pub async fn remember_lowest_row(&mut self, id: i64) -> Result<()> {
        match crash_counter::remember_lowest_row(&mut self.session, &self.table, id).await {
            Err(error) if error.is_permanent() => Ok(()),
            remembered => remembered,
        }
    }

    /// Reads what the outbox's name stands for now, and whether it is paused.
    pub async fn entry(&mut self) -> Result<RegistryEntry> {
        registry::entry(&mut self.session, &self.table).await
    }
}

impl LookedAt {
    fn of(row: &PgRow) -> Result<Self> {
        let text = |column| bytes(row, column).map(|it| it.map(<[u8]>::to_vec));
        Ok(Self {
            row: row_id(row)?,
            key: text(2)?,
            topic: text(3)?,
            event_type: text(4)?,
        })
    }
}

/// Reads a count and the time of creation of the first row.
fn waiting(row: &PgRow, at: usize) -> Result<Waiting> {
    let rows = int(row, at)?.unsigned_abs();
    Ok(Waiting {
        rows: rows.min(COUNT_LIMIT),
        is_more: rows > COUNT_LIMIT,
        oldest: bytes(row, at + 1)?.map(|_| time(row, at + 1)).transpose()?,
    })
}

fn ids_below(table: &Table, more: &str) -> String {
    let (id, created_at) = (&table.columns.id, &table.columns.created_at);
    let (from, undelayed) = (&table.quoted, table.columns.undelayed());
    format!(
        "SELECT {id}, {created_at}, {more} FROM {from} WHERE {id} >= $1 AND {id} <= $2{undelayed} ORDER BY {id} LIMIT {LOOK_PAGE}"
    )
}

/// Counts the rows that may be sent, those that are read by id if that `is`, and selects since when
/// the first of them waits.
fn counts(table: &Table, is: &str, order: &str) -> String {
    let (id, created_at, from) = (&table.columns.id, &table.columns.created_at, &table.quoted);
    let by_id = format!("{id} {is}{}", table.columns.undelayed());
    let limit = format!("LIMIT {COUNT_LIMIT} + 1");
    let first = format!("(SELECT {created_at} FROM {from} WHERE {by_id} ORDER BY {id} LIMIT 1)");
    let Some((due, time)) = table
        .columns
        .came_due()
        .zip(table.columns.not_before.as_ref())
    else {
        return format!(
            "(SELECT count(*) FROM (SELECT FROM {from} WHERE {by_id} {order}{limit}) r), {first}"
        );
    };
    format!(
        "(SELECT count(*) FROM ((SELECT FROM {from} WHERE {by_id} {order}{limit}) UNION ALL (SELECT FROM {from} WHERE {due} ORDER BY {time} {limit})) r), \
         least({first}, (SELECT {time} FROM {from} WHERE {due} ORDER BY {time} LIMIT 1))"
    )
}

/// The lower and the upper ends of ranges.
fn ends(ranges: &[(i64, i64)]) -> (Vec<i64>, Vec<i64>) {
    ranges.iter().copied().unzip()
}

fn clamp(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
