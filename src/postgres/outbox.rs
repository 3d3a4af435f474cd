//! Reading an outbox: the statements are built once from its columns, and give batches whose rows lie in one buffer.

use sqlx::postgres::{PgRow, PgValueFormat};
use sqlx::{Row, ValueRef};

use super::error::{Error, Result};
use super::holders;
use super::leader::Sent;
use super::registry::{self, Entry};
use super::session::Session;
use super::table::Table;
use crate::event::Event;

/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// How many ids a look below the cursor takes at once.
pub const LOOK_PAGE: usize = 10_000;

/// Rows are counted up to here: it takes some milliseconds, of the session that fetches.
const COUNT_LIMIT: u64 = 100_000;

/// The plans must not depend on statistics: a table that was empty a moment ago would be scanned whole for each batch.
pub(super) const READER_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";

/// The session that fetches, and its statements.
pub struct Reader {
    session: Session,
    fetch: String,
    fetch_with_gaps: String,
    ids_below: String,
    keys_below: String,
    waiting_above: String,
    relations: Vec<i64>,
    table: String,
    oid: u32,
    /// How many held keys the session's name says.
    told: usize,
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Rows above this id.
    pub after: i64,
    /// Closed ranges of ids to look into as well, ascending, all at or below `after`.
    pub gaps: &'a [(i64, i64)],
    /// At most so many rows.
    pub rows: usize,
    /// No further row once so many bytes are reached; one row goes in any case.
    pub bytes: usize,
}

/// A batch of rows in the order of their ids. Their bytes lie one after another in one place.
#[derive(Default)]
pub struct Batch {
    rows: Vec<Line>,
    bytes: Vec<u8>,
}

/// One row of a batch.
struct Line {
    head: Head,
    /// Where its fields begin.
    begin: usize,
    /// Bytes of each field; `None` for NULL.
    fields: [Option<u32>; FIELDS],
}

/// Columns of a fetch after `id` and `created_at`: type, payload, key, topic, headers.
const FIELDS: usize = 5;

/// Rows that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How many, as far as they were counted.
    pub rows: u64,
    /// Whether there are more.
    pub is_more: bool,
    /// When the first of them was created, in microseconds since the Unix epoch.
    pub oldest: Option<i64>,
}

/// What the bookkeeping needs of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The row's id.
    pub id: i64,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// Bytes of payload, key and headers.
    pub bytes: usize,
}

impl Reader {
    /// Takes a session over for fetching.
    pub async fn new(mut session: Session, table: &Table) -> Result<Self> {
        session.batch(READER_SETTINGS).await?;
        let (fetch, fetch_with_gaps) = fetch_statements(table);
        Ok(Self {
            session,
            fetch,
            fetch_with_gaps,
            ids_below: ids_below(table, "NULL"),
            keys_below: ids_below(table, &table.columns.key),
            waiting_above: format!(
                "SELECT (SELECT count(*) FROM (SELECT FROM {table} WHERE {id} > $1 ORDER BY {id} LIMIT {COUNT_LIMIT} + 1) r), \
                 (SELECT {created_at} FROM {table} WHERE {id} > $1 ORDER BY {id} LIMIT 1)",
                id = table.columns.id,
                created_at = table.columns.created_at,
                table = table.quoted,
            ),
            relations: table.relations.iter().map(|oid| i64::from(*oid)).collect(),
            table: table.quoted.clone(),
            oid: table.oid,
            told: 0,
        })
    }

    /// Says in the session's name how many keys wait, which nobody else knows: `doorbell status` reads it there.
    pub async fn tell_held(&mut self, keys: usize) -> Result<()> {
        if keys == self.told {
            return Ok(());
        }
        let name = holders::reader_name(self.oid, keys);
        const NAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";
        self.session.one(NAME, |q| q.bind(name)).await?;
        self.told = keys;
        Ok(())
    }

    /// Fetches in one statement, whose snapshot begins with the call.
    pub async fn fetch(&mut self, ask: &Ask<'_>) -> Result<Batch> {
        let (rows, bytes) = (clamp(ask.rows), clamp(ask.bytes));
        let mut batch = Batch::default();
        let take = |row| batch.add(&row);
        if ask.gaps.is_empty() {
            self.session
                .each(
                    &self.fetch,
                    |q| q.bind(ask.after).bind(rows).bind(bytes),
                    take,
                )
                .await?;
        } else {
            let (low, high): (Vec<i64>, Vec<i64>) = ask.gaps.iter().copied().unzip();
            self.session
                .each(
                    &self.fetch_with_gaps,
                    |q| {
                        q.bind(ask.after)
                            .bind(rows)
                            .bind(bytes)
                            .bind(low)
                            .bind(high)
                    },
                    take,
                )
                .await?;
        }
        batch.sort();
        Ok(batch)
    }

    /// One page of the ids in `(after, until]` with their times of creation, ascending, and where that is asked for with their keys; reads no payload.
    pub async fn ids(
        &mut self,
        after: i64,
        until: i64,
        with_keys: bool,
    ) -> Result<Vec<(Sent, Option<Vec<u8>>)>> {
        let statement = match with_keys {
            true => &self.keys_below,
            false => &self.ids_below,
        };
        let rows = self
            .session
            .all(statement, |q| q.bind(after).bind(until))
            .await?;
        rows.iter()
            .map(|row| {
                let (id, created_at) = (int(row, 0)?, time(row, 1)?);
                let key = bytes(row, 2)?.map(<[u8]>::to_vec);
                Ok((Sent { id, created_at }, key))
            })
            .collect()
    }

    /// How many rows there are above an id, as far as they are counted.
    pub async fn waiting_above(&mut self, after: i64) -> Result<Waiting> {
        let row = self
            .session
            .one(&self.waiting_above, |q| q.bind(after))
            .await?;
        let rows = int(&row, 0)?.unsigned_abs();
        let oldest = bytes(&row, 1)?.map(|_| time(&row, 1)).transpose()?;
        Ok(Waiting {
            rows: rows.min(COUNT_LIMIT),
            is_more: rows > COUNT_LIMIT,
            oldest,
        })
    }

    /// The transactions that may own an id which is not visible: whoever inserts holds this lock from before it draws the id until
    /// after its commit is visible. `ours` are our own sessions' processes.
    pub async fn writers(&mut self, ours: &[i32]) -> Result<Vec<String>> {
        const WRITERS: &str = "SELECT l.virtualtransaction FROM pg_catalog.pg_locks l \
            WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted \
            AND l.relation = ANY ($1::bigint[]::oid[]) AND (l.pid IS NULL OR l.pid <> ALL ($2::int[])) \
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())";
        let (relations, ours) = (self.relations.clone(), ours.to_vec());
        let rows = self
            .session
            .all(WRITERS, |q| q.bind(relations).bind(ours))
            .await?;
        rows.iter()
            .map(|row| row.try_get(0).map_err(Error::from))
            .collect()
    }

    /// What the outbox's name stands for now, and whether it is paused.
    pub async fn entry(&mut self) -> Result<Entry> {
        registry::entry(&mut self.session, &self.table).await
    }

    /// Proves that the session is alive.
    pub async fn ping(&mut self) -> Result<()> {
        self.session.ping().await
    }

    /// The server's process for this session.
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }
}

fn ids_below(table: &Table, key: &str) -> String {
    let (id, created_at) = (&table.columns.id, &table.columns.created_at);
    let from = &table.quoted;
    format!(
        "SELECT {id}, {created_at}, {key} FROM {from} WHERE {id} > $1 AND {id} <= $2 ORDER BY {id} LIMIT {LOOK_PAGE}"
    )
}

/// The two forms of the fetch: rows above a cursor, and the same after a look into gaps.
///
/// A batch is cut at the server, before it is sent. The sum of the sizes of all rows that are asked for is looked at first: as a rule
/// they fit, and then they are read as they are. Only where they do not, a running sum finds the cut; with each row that costs as much
/// as reading it.
///
/// The sizes of text and bytea are known without reading them from TOAST. Those of json and jsonb are not: their text is built to be
/// measured, so rows behind the cut are read in vain; the relay's ask for rows follows the sizes it met, which bounds that.
pub(super) fn fetch_statements(table: &Table) -> (String, String) {
    let c = &table.columns;
    let inner = format!(
        "SELECT {id} AS id, {created_at} AS created_at, {event_type} AS type, {payload} AS payload, {key} AS key, {topic} AS topic, \
         {headers} AS headers FROM {from}",
        id = c.id,
        created_at = c.created_at,
        event_type = c.event_type,
        payload = c.payload,
        key = c.key,
        topic = c.topic,
        headers = c.headers,
        from = table.quoted,
    );
    let above = format!("{inner} WHERE {id} > $1 ORDER BY {id} LIMIT $2", id = c.id);
    let within = format!(
        "SELECT o.* FROM ROWS FROM (unnest($4::bigint[]), unnest($5::bigint[])) AS g (low, high) \
         CROSS JOIN LATERAL ({inner} WHERE {id} >= g.low AND {id} <= g.high ORDER BY {id} LIMIT $2) o LIMIT $2",
        id = c.id
    );
    let both = format!("({within}) UNION ALL ({above}) LIMIT $2");
    (cut(&above), cut(&both))
}

/// Cuts the rows of a statement: none goes after the one that reaches `$3` bytes.
///
/// The server decides once which of the two branches runs, by a condition that no row takes part in. Three plain sums cost less than one
/// sum over the sizes of rows does.
fn cut(rows: &str) -> String {
    const COLUMNS: &str = "id, created_at, type, payload, key, topic, headers";
    const SIZE: &str = "coalesce(octet_length(payload), 0)::bigint + coalesce(octet_length(key), 0) + coalesce(octet_length(headers), 0)";
    const TOTAL: &str = "coalesce(sum(octet_length(payload)), 0) + coalesce(sum(octet_length(key)), 0) + coalesce(sum(octet_length(headers)), 0)";
    format!(
        "WITH doorbell_total AS MATERIALIZED (SELECT {TOTAL} < $3 AS fits FROM ({rows}) r) \
         (SELECT {COLUMNS} FROM ({rows}) r WHERE (SELECT fits FROM doorbell_total)) \
         UNION ALL \
         (SELECT {COLUMNS} FROM (SELECT b.*, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before \
         FROM (SELECT r.*, {SIZE} AS size FROM ({rows}) r WHERE NOT (SELECT fits FROM doorbell_total)) b) c WHERE before < $3)"
    )
}

impl Batch {
    /// Adds a row. It is copied out while it is still in the cache, and the library's own row, with its allocations, is let go of at once:
    /// to keep thousands of them costs more than the copy.
    fn add(&mut self, row: &PgRow) -> Result<()> {
        let begin = self.bytes.len();
        let mut fields = [None; FIELDS];
        for (index, length) in fields.iter_mut().enumerate() {
            if let Some(field) = bytes(row, 2 + index)? {
                self.bytes.extend_from_slice(field);
                // PostgreSQL's own values are shorter than 1 GiB.
                *length = Some(field.len() as u32);
            }
        }
        let [_, payload, key, _, headers] = fields;
        let size = [payload, key, headers].into_iter().flatten();
        self.rows.push(Line {
            head: Head {
                id: int(row, 0)?,
                created_at: time(row, 1)?,
                bytes: size.map(|length| length as usize).sum(),
            },
            begin,
            fields,
        });
        Ok(())
    }

    /// Puts the rows in order. They come in order, but SQL promises that only where it is asked to sort, which would cost a copy of each payload.
    fn sort(&mut self) {
        if !self.rows.is_sorted_by_key(|row| row.head.id) {
            self.rows.sort_by_key(|row| row.head.id);
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What the bookkeeping needs, row by row.
    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.rows.iter().map(|row| &row.head)
    }

    /// The rows, as events.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.rows.iter().map(|row| self.event(row))
    }

    /// Keeps the rows for which the test holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Head) -> bool) {
        self.rows.retain(|row| keep(&row.head));
    }

    fn event(&self, row: &Line) -> Event<'_> {
        let mut rest = &self.bytes[row.begin..];
        let [event_type, payload, key, topic, headers] = row.fields.map(|length| {
            let (field, after) = rest.split_at(length? as usize);
            rest = after;
            Some(field)
        });
        Event {
            id: row.head.id,
            created_at: row.head.created_at,
            event_type: event_type.unwrap_or_default(),
            payload,
            key,
            topic,
            headers,
        }
    }
}

fn bytes(row: &PgRow, index: usize) -> Result<Option<&[u8]>> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(None);
    }
    if value.format() != PgValueFormat::Binary {
        return Err(Error::Lost(
            "the server answered in text where binary was asked".into(),
        ));
    }
    value
        .as_bytes()
        .map(Some)
        .map_err(|error| Error::Lost(error.to_string()))
}

pub(super) fn int(row: &PgRow, index: usize) -> Result<i64> {
    bytes(row, index)?
        .and_then(|bytes| bytes.try_into().ok())
        .map(i64::from_be_bytes)
        .ok_or_else(|| Error::Lost(format!("column {index} is not 8 bytes")))
}

/// Microseconds since the Unix epoch; an infinite time stays the largest or the smallest number.
pub(super) fn time(row: &PgRow, index: usize) -> Result<i64> {
    int(row, index).map(|since_2000| since_2000.saturating_add(EPOCH_2000))
}

fn clamp(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
