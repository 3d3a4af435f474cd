//! One event from the command line.

use sqlx::Row;

use super::error::Result;
use super::session::Session;
use super::table::quote;
use crate::config::{Columns, Optional, TableName};

/// An event to insert.
#[derive(Debug, Default)]
pub struct NewEvent {
    /// What kind of event.
    pub event_type: String,
    /// The value; `None` is a tombstone.
    pub payload: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// The topic; `None`: the relay's route.
    pub topic: Option<String>,
    /// The headers, as the text of a JSON object.
    pub headers: Option<String>,
}

/// Inserts one event; its id, if our role may read that: whoever writes events needs no more than INSERT.
pub async fn emit(
    session: &mut Session,
    table: &TableName,
    columns: &Columns,
    event: NewEvent,
) -> Result<Option<i64>> {
    let optional = |column: &Optional| match column {
        Optional::Named(name) | Optional::Default(name) => name.clone(),
    };
    // Values go as text and take the column's own type, whichever it is. A column that is not needed is not named: it may be absent.
    let values = [
        (columns.event_type.clone(), Some(event.event_type)),
        (columns.payload.clone(), event.payload),
        (optional(&columns.key), event.key),
        (optional(&columns.topic), event.topic),
        (optional(&columns.headers), event.headers),
    ];
    let given: Vec<_> = values
        .into_iter()
        .filter_map(|(column, value)| Some((column, value?)))
        .collect();
    let names: Vec<_> = given.iter().map(|(column, _)| quote(column)).collect();
    let literals: Vec<_> = given.iter().map(|(_, value)| literal(value)).collect();
    let id = match may_read(session, table, &columns.id).await? {
        true => format!("{}::bigint", quote(&columns.id)),
        false => "NULL::bigint".to_owned(),
    };
    let insert = format!(
        "INSERT INTO {table} ({}) VALUES ({}) RETURNING {id}",
        names.join(", "),
        literals.join(", "),
    );
    // Writers may come through a pooler.
    Ok(session.one_plain(&insert).await?.try_get(0)?)
}

/// Whether our role may read the column; of one that is not there the insert will tell.
async fn may_read(session: &mut Session, table: &TableName, column: &str) -> Result<bool> {
    let ask = format!(
        "SELECT coalesce(bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')), true) \
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attname = {}",
        literal(&table.to_string()),
        literal(column)
    );
    Ok(session.one_plain(&ask).await?.try_get(0)?)
}

/// An untyped literal: the one form of a value that fits columns of every type.
fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
