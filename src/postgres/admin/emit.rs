//! Inserts one event from the command line.

use sqlx::Row;

use crate::config::{Columns, TableName};
use crate::postgres::columns::quote;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, literal};
use crate::postgres::table::missing;

#[derive(Debug, Default)]
pub(crate) struct NewEvent {
    /// Type of the event, if the outbox has a column for it.
    pub event_type: Option<String>,
    /// Value of the record. `None`: a tombstone.
    pub payload: Option<String>,
    pub key: Option<String>,
    /// Topic. `None`: the relay's route.
    pub topic: Option<String>,
    /// Headers, as the text of a JSON object.
    pub headers: Option<String>,
}

/// Inserts one event. Returns its id if the role may read it: a role that writes events needs only
/// INSERT.
pub(crate) async fn emit(
    session: &mut Session,
    table: &TableName,
    columns: &Columns,
    event: NewEvent,
) -> Result<Option<i64>> {
    // Values are sent as untyped literals and take the column's type. A column without a value is
    // not named, since it may not exist.
    let values = [
        (
            columns.event_type.as_deref().unwrap_or_default(),
            event.event_type,
        ),
        (columns.payload.as_str(), event.payload),
        (columns.key.name(), event.key),
        (columns.topic.name(), event.topic),
        (columns.headers.name(), event.headers),
    ];
    let given: Vec<_> = values
        .into_iter()
        .filter_map(|(column, value)| Some((column, value?)))
        .collect();
    let mut names: Vec<_> = given.iter().map(|(column, _)| quote(column)).collect();
    let mut literals: Vec<_> = given.iter().map(|(_, value)| literal(value)).collect();
    if let Some(event_id) = &columns.event_id {
        names.push(quote(event_id));
        literals.push("pg_catalog.gen_random_uuid()".into());
    }
    let table = session.place(table).await?.ok_or_else(|| missing(table))?;
    let id = match may_read(session, table.oid, &columns.id).await? {
        true => format!("{}::bigint", quote(&columns.id)),
        false => "NULL::bigint".to_owned(),
    };
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({}) RETURNING {id}",
        table.quoted,
        names.join(", "),
        literals.join(", "),
    );
    // Writers may connect through a pooler.
    session
        .writing(async |session| Ok(session.one_plain(&insert).await?.try_get(0)?))
        .await
}

/// Returns whether the role may read the column. If the column does not exist, the insert reports
/// it.
async fn may_read(session: &mut Session, table: u32, column: &str) -> Result<bool> {
    let ask = format!(
        "SELECT coalesce(bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')), true) \
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = {table}::oid AND a.attname = {}",
        literal(column)
    );
    Ok(session.one_plain(&ask).await?.try_get(0)?)
}
