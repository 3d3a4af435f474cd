//! The statement of a fetch.

use crate::postgres::columns::Size;
use crate::postgres::table::Table;

/// The plans must not depend on statistics: PostgreSQL would scan a table that was empty a moment
/// ago as a whole for each batch.
pub(crate) const READER_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";

/// What the text of a JSON document is replaced with that is too large to be read, followed by its
/// size. No JSON begins with it.
pub(crate) const WITHHELD: u8 = b'!';

/// A topic is no longer than this, and neither is a type that a topic is made of.
const LONGEST_TOPIC: usize = 249;
/// An array of small numbers takes up to five times as many bytes in jsonb as in its text.
const JSONB_OVERHEAD: usize = 8;

/// The statements of a reader.
pub(crate) struct FetchStatements {
    /// Rows above a cursor.
    pub(crate) above: String,
    /// The same together with the rows in gaps.
    pub(crate) with_gaps: ReadStatement,
    /// The same rows in the order of ids, with those that have a time which has come.
    pub(crate) due: ReadStatement,
    /// The same with all rows that have a time.
    pub(crate) any: ReadStatement,
    /// One row without its payload and its headers.
    pub(crate) outline: String,
    pub(crate) sizes: [Size; 5],
}

/// A statement that reads rows by ranges of ids.
pub(crate) struct ReadStatement {
    pub(crate) all: String,
    /// The identity of the first row that it would read.
    pub(crate) first: String,
}

/// Returns the statements that read rows of at most `largest` bytes.
///
/// The server cuts a batch before it reads it. It first sums the sizes of all rows asked for, which
/// it knows without reading them from TOAST. As a rule they fit. Only if they do not fit, a running
/// sum finds how many rows do, and a last row with the id NULL shows the cut. If the first row
/// alone is larger than `largest`, it comes without payload and headers, and the row with the id
/// NULL has its size as its type.
///
/// The size of json and jsonb is that of the text, which the server has to build. It is known only
/// for each row in its turn: a text that is too large is replaced by its size. The reader ends a
/// batch that grows beyond its bytes for this reason.
pub(crate) fn fetch_statements(table: &Table, largest: usize) -> FetchStatements {
    let c = &table.columns;
    let columns = columns(table);
    let identity = format!("{} AS id, {} AS created_at", c.id, c.created_at);
    let outline = outline(table, largest);
    let by_ranges = |condition: &str| ReadStatement {
        all: cut(table, largest, |select, limit| {
            let select = select.unwrap_or(&columns);
            with_gaps(table, select, limit, condition)
        }),
        first: with_gaps(table, &identity, "1", condition),
    };
    FetchStatements {
        above: cut(table, largest, |select, limit| {
            let select = select.unwrap_or(&columns);
            above(table, select, limit, &c.undelayed())
        }),
        with_gaps: by_ranges(&c.undelayed()),
        due: by_ranges(&c.due()),
        any: by_ranges(""),
        outline: format!(
            "SELECT {outline} FROM ({} WHERE {} = $1 AND {} = $2) r",
            stored_rows(table),
            c.id,
            c.created_at
        ),
        sizes: c.sizes.clone(),
    }
}

fn above(table: &Table, select: &str, limit: &str, condition: &str) -> String {
    let (from, id) = (&table.quoted, &table.columns.id);
    format!(
        "SELECT {select} FROM {from} doorbell_o WHERE {id} > $1{condition} ORDER BY {id} LIMIT {limit}"
    )
}

/// The alias of the table hides its own name, which may be that of another alias.
fn with_gaps(table: &Table, select: &str, limit: &str, condition: &str) -> String {
    let (from, id) = (&table.quoted, &table.columns.id);
    let above = above(table, select, "$2", condition);
    format!(
        "(SELECT doorbell_r.* FROM ROWS FROM (pg_catalog.unnest($4::bigint[]), pg_catalog.unnest($5::bigint[])) AS doorbell_gap (low, high) \
         CROSS JOIN LATERAL (SELECT {select} FROM {from} doorbell_o WHERE {id} >= doorbell_gap.low AND {id} <= doorbell_gap.high{condition} \
         ORDER BY {id} LIMIT $2) doorbell_r LIMIT $2) UNION ALL ({above}) LIMIT {limit}"
    )
}

/// Reads all rows, under the same names whatever the columns are called.
pub(crate) fn stored_rows(table: &Table) -> String {
    format!("SELECT {} FROM {} doorbell_o", columns(table), table.quoted)
}

fn columns(table: &Table) -> String {
    let c = &table.columns;
    format!(
        "{} AS id, {} AS created_at, {} AS type, {} AS payload, {} AS key, {} AS topic, {} AS headers",
        c.id,
        c.created_at,
        c.event_type,
        c.payload,
        c.key,
        c.topic,
        c.fetched_headers(),
    )
}

/// Cuts the rows of a statement after the row that reaches `$3` bytes.
///
/// The server chooses the limit once, by a condition that no row takes part in. Plain sums cost
/// less than one sum over the sizes of rows.
fn cut(table: &Table, largest: usize, rows: impl Fn(Option<&str>, &str) -> String) -> String {
    let (mut select, mut total, mut size, mut sure) = (
        vec!["NULL"],
        vec!["0"],
        vec!["0::bigint"],
        vec!["0::bigint"],
    );
    let sizes = table.columns.sizes.iter().enumerate();
    let parts: Vec<[String; 4]> = sizes
        .filter_map(|(n, size)| {
            let (expression, share) = match size {
                Size::Small => return None,
                Size::Known(expression) => (expression, 1),
                Size::Stored(expression) => (expression, JSONB_OVERHEAD),
            };
            Some([
                format!("{expression} AS s{n}"),
                format!("coalesce(sum(s{n}), 0)"),
                format!("coalesce(s{n}, 0)"),
                format!("coalesce(s{n}, 0) / {share}"),
            ])
        })
        .collect();
    for [column, sum, one, least] in &parts {
        select.push(column);
        total.push(sum);
        size.push(one);
        sure.push(least);
    }
    let sizes = rows(Some(&select.join(", ")), "$2");
    let [total, size, sure] = [total, size, sure].map(|terms| terms.join(" + "));
    let limit = "CASE WHEN (SELECT fits FROM doorbell_total) THEN $2 ELSE (SELECT rows FROM doorbell_cut) END";
    let (all, first) = (rows(None, limit), rows(None, "1"));
    let [_, payload, .., headers] = &table.columns.sizes;
    let withhold = |column: &str, size: &Size, is_bytes: bool| match size {
        Size::Stored(_) => {
            let shown = format!(
                "'{}' || pg_catalog.octet_length({column})::text",
                char::from(WITHHELD)
            );
            let shown = match is_bytes {
                true => format!("pg_catalog.convert_to({shown}, 'UTF8')"),
                false => shown,
            };
            format!(
                "CASE WHEN pg_catalog.octet_length({column}) <= {largest} THEN {column} ELSE {shown} END"
            )
        }
        Size::Small | Size::Known(_) => column.to_owned(),
    };
    format!(
        "WITH doorbell_total AS MATERIALIZED (SELECT {total} < $3 AS fits FROM ({sizes}) r), \
         doorbell_cut AS MATERIALIZED (SELECT count(*) FILTER (WHERE most <= {largest}) AS rows, min(before + size)::text AS first FROM \
         (SELECT size, sum(size) OVER w - size AS before, max(sure) OVER w AS most FROM \
         (SELECT {size} AS size, {sure} AS sure FROM ({sizes}) r WHERE NOT (SELECT fits FROM doorbell_total)) s \
         WINDOW w AS (ROWS UNBOUNDED PRECEDING)) c WHERE before < $3) \
         SELECT id, created_at, type, {}, key, topic, {} FROM ({all}) r \
         UNION ALL (SELECT {} FROM ({first}) r WHERE (SELECT rows = 0 FROM doorbell_cut) AND NOT (SELECT fits FROM doorbell_total)) \
         UNION ALL (SELECT NULL, NULL, CASE WHEN rows = 0 THEN first END, NULL, NULL, NULL, NULL \
         FROM doorbell_cut WHERE NOT (SELECT fits FROM doorbell_total))",
        withhold("payload", payload, false),
        withhold("headers", headers, !table.columns.more.is_empty()),
        outline(table, largest),
    )
}

/// Selects a row without its payload and its headers: what its policy and its key follow from.
fn outline(table: &Table, largest: usize) -> String {
    let [event_type, _, key, topic, _] = &table.columns.sizes;
    let within = |column: &str, size: &Size, most: usize| match size {
        Size::Known(_) => {
            format!("CASE WHEN pg_catalog.octet_length({column}) <= {most} THEN {column} END")
        }
        Size::Small | Size::Stored(_) => column.to_owned(),
    };
    format!(
        "id, created_at, {}, NULL, {}, {}, NULL",
        within("type", event_type, LONGEST_TOPIC),
        within("key", key, largest),
        // What routes match may be longer than a topic.
        within(
            "topic",
            topic,
            if table.columns.has_routes {
                largest
            } else {
                LONGEST_TOPIC
            }
        ),
    )
}

/// The columns from which it follows whether a row waits for another.
pub(super) fn keys(table: &Table) -> String {
    let c = &table.columns;
    format!("{}, {}, {}", c.key, c.topic, c.event_type)
}

/// The statements about rows that have a time before which they are not sent.
pub(crate) struct DueStatements {
    /// A page of the rows whose time has come, and how long it is until the next one comes.
    pub(crate) page: String,
    /// The same with keys, topics and types.
    pub(crate) page_with_keys: String,
    /// The number of rows whose time is to come.
    pub(crate) delayed: String,
}

impl DueStatements {
    /// `None`: no row of the table has such a time.
    pub(crate) fn of(table: &Table, rows: usize, count_limit: u64) -> Option<Self> {
        let c = &table.columns;
        let (due, delayed) = (c.came_due()?, c.delayed()?);
        let (id, created_at, time, from) =
            (&c.id, &c.created_at, c.not_before.as_ref()?, &table.quoted);
        // One statement: a row that comes due between two would be in neither.
        let page = |more: &str| {
            format!(
                "(SELECT {id}, {created_at}, {more}, {time}, NULL::bigint FROM {from} \
                 WHERE {due} AND ({time}, {id}) >= ($1, $2) ORDER BY {time}, {id} LIMIT {rows}) \
                 UNION ALL (SELECT NULL, NULL, NULL, NULL, NULL, NULL, \
                 pg_catalog.ceil(EXTRACT(epoch FROM {time} - pg_catalog.clock_timestamp()) * 1000000)::bigint FROM {from} \
                 WHERE {delayed} AND {time} < 'infinity' ORDER BY {time}, {id} LIMIT 1)"
            )
        };
        Some(Self {
            page: page("NULL, NULL, NULL"),
            page_with_keys: page(&keys(table)),
            delayed: format!(
                "SELECT count(*), pg_catalog.statement_timestamp() FROM (SELECT FROM {from} WHERE {delayed} ORDER BY {time} LIMIT {count_limit} + 1) r"
            ),
        })
    }
}
