//! The indexes of a table whose rows may have a time before which they are not sent: one for the
//! rows without it, and one for the others.

use super::adopt::adoptable::beside;
use crate::config::Outbox;
use crate::postgres::columns::quote;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, from_row};
use crate::postgres::table::Table;

/// The columns that the indexes cover.
#[derive(Debug)]
pub(crate) struct DueColumns<'a> {
    /// The table's oid, its quoted name with the schema, and its bare name.
    pub oid: u32,
    pub quoted: &'a str,
    pub table: &'a str,
    /// Names of the columns.
    pub id: &'a str,
    pub not_before: &'a str,
}

/// A statement that makes an index, or removes what is left of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexStatement {
    pub sql: String,
    /// Whether it runs outside of a transaction, and writers go on meanwhile.
    pub is_concurrent: bool,
}

/// A row of [`INDEXES`].
struct FoundIndex {
    is_partitioned: bool,
    may_be_null: bool,
    is_for_due: Option<bool>,
    name: Option<String>,
    is_valid: Option<bool>,
}

from_row! { FoundIndex: is_partitioned may_be_null is_for_due name is_valid }

/// `$2`: the column of the id, which need not exist yet; `$3`: that of the time.
const INDEXES: &str = "SELECT c.relkind = 'p' AS is_partitioned, coalesce(NOT a.attnotnull, true) AS may_be_null, \
    CASE WHEN i.indkey[0] = a.attnum AND i.pred = pg_catalog.format('(%I IS NULL)', t.attname) THEN false \
        WHEN i.indkey[0] = t.attnum AND i.indkey[1] = a.attnum \
            AND (i.pred = pg_catalog.format('((%I IS NOT NULL) AND (%I IS NOT NULL))', t.attname, a.attname) \
            OR a.attnotnull AND coalesce(i.pred, '') IN ('', pg_catalog.format('(%I IS NOT NULL)', t.attname))) THEN true END AS is_for_due, \
    i.indexrelid::regclass::text AS name, i.indisvalid AS is_valid \
    FROM pg_catalog.pg_class c \
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped \
    LEFT JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND t.attname = $3 AND NOT t.attisdropped \
    LEFT JOIN (SELECT x.*, pg_catalog.pg_get_expr(x.indpred, x.indrelid) AS pred FROM pg_catalog.pg_index x WHERE x.indislive) i ON i.indrelid = c.oid \
    WHERE c.oid = $1::bigint::oid ORDER BY i.indisvalid DESC";

/// Returns the SQL that makes the indexes, outside of a transaction or inside of one.
pub(crate) fn due_index_script(outbox: &Outbox, in_transaction: bool) -> String {
    let Some(not_before) = &outbox.columns.not_before else {
        return String::new();
    };
    let columns = DueColumns {
        oid: 0,
        quoted: &outbox.table.to_string(),
        table: &outbox.table.name,
        id: &outbox.columns.id,
        not_before,
    };
    let how = match in_transaction {
        true => " IF NOT EXISTS",
        false => " CONCURRENTLY IF NOT EXISTS",
    };
    let script = [false, true].map(|it| columns.create(it, false, how) + ";\n");
    format!(
        "\n-- For rows that are not sent before a time.\n{}",
        script.concat()
    )
}

impl<'a> DueColumns<'a> {
    /// `None`: no row of the outbox has such a time.
    pub(crate) fn of(outbox: &'a Outbox, table: &'a Table) -> Option<Self> {
        Some(Self {
            oid: table.oid,
            quoted: &table.quoted,
            table: &table.name,
            id: &outbox.columns.id,
            not_before: outbox.columns.not_before.as_deref()?,
        })
    }

    /// Returns what is to be run so that the table has the indexes.
    pub(crate) async fn missing(&self, session: &mut Session) -> Result<Vec<IndexStatement>> {
        let seen: Vec<FoundIndex> = session
            .reading(async |session| {
                session
                    .rows(INDEXES, |q| {
                        let q = q.bind(i64::from(self.oid)).bind(self.id.to_owned());
                        q.bind(self.not_before.to_owned())
                    })
                    .await
            })
            .await?;
        let Some(of_table) = seen.first() else {
            return Ok(Vec::new());
        };
        let mut statements = Vec::new();
        for is_for_due in [false, true] {
            let mut alike = seen.iter().filter(|it| it.is_for_due == Some(is_for_due));
            let invalid = match alike.next() {
                Some(it) if it.is_valid == Some(true) => continue,
                Some(it) => it.name.as_ref(),
                None => None,
            };
            let is_concurrent = !of_table.is_partitioned;
            let concurrently = if is_concurrent { " CONCURRENTLY" } else { "" };
            let drop = invalid.map(|name| format!("DROP INDEX{concurrently} {name}"));
            let create = self.create(is_for_due, of_table.may_be_null, concurrently);
            let both = drop.into_iter().chain([create]);
            statements.extend(both.map(|sql| IndexStatement { sql, is_concurrent }));
        }
        Ok(statements)
    }

    fn create(&self, is_for_due: bool, id_may_be_null: bool, how: &str) -> String {
        let [id, time] = [self.id, self.not_before].map(quote);
        let (end, columns, rows) = match is_for_due {
            false => ("_undelayed_idx", id, format!("{time} IS NULL")),
            true => {
                // Rows from before an adoption have no id, and are not read.
                let numbered = format!(" AND {id} IS NOT NULL");
                let numbered = if id_may_be_null { &numbered } else { "" };
                let rows = format!("{time} IS NOT NULL{numbered}");
                ("_due_idx", format!("{time}, {id}"), rows)
            }
        };
        let (name, table) = (quote(&beside(self.table, end)), self.quoted);
        format!("CREATE INDEX{how} {name} ON {table} ({columns}) WHERE {rows}")
    }
}
