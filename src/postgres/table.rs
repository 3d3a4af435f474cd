//! What an outbox table has. Every statement about an outbox is built on it.

use sqlx::Row;
use uuid::Uuid;

use super::columns::{Found, MappedColumns, quote};
use super::error::{Error, Result};
use super::session::{Place, Session};
use crate::config::{Outbox, TableName};
use crate::event::OutboxId;

/// An outbox table as found in the database.
#[derive(Debug, Clone)]
pub struct Table {
    /// The table's oid. Another oid means another table under the same name.
    pub oid: u32,
    /// The quoted name with its schema, for statements.
    pub quoted: String,
    /// The bare name, which `{table}` stands for in a route.
    pub name: String,
    /// Identity that event ids are derived from.
    pub id: OutboxId,
    /// The table and, if it is partitioned, all of its partitions.
    pub relations: Vec<u32>,
    /// Whether no two rows can have the same id.
    pub id_is_unique: bool,
    /// Whether no two rows can have the same event id of their own, if they have one.
    pub event_id_is_unique: bool,
    /// State of the trigger.
    pub trigger: Trigger,
    /// The columns to read.
    pub columns: Box<MappedColumns>,
}

/// State of the trigger that rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The trigger exists and fires for ordinary sessions.
    Enabled,
    /// The trigger exists, but its function is of an earlier version: it rings at every insert.
    Earlier,
    /// The trigger exists, but is disabled.
    Disabled,
    /// The trigger does not exist.
    Missing,
}

impl Trigger {
    /// Derives the state from the catalogue: `tgenabled` if the trigger exists, and whether its
    /// function is of this version.
    pub(super) fn of(enabled: Option<&str>, is_current: bool) -> Self {
        match enabled {
            Some("O" | "A") if is_current => Self::Enabled,
            Some("O" | "A") => Self::Earlier,
            Some(_) => Self::Disabled,
            None => Self::Missing,
        }
    }
}

/// Privileges that a relay needs. FOR UPDATE SKIP LOCKED, with which it skips rows that others have
/// locked, requires UPDATE.
pub(super) const TO_RELAY: &[&str] = &["SELECT", "UPDATE", "DELETE"];

impl Table {
    /// Looks up a table that the relay is to serve. Reports everything that is wrong with it in one
    /// line.
    pub async fn find(session: &mut Session, outbox: &Outbox) -> Result<Self> {
        session
            .reading(async |session| Self::look_up(session, outbox, TO_RELAY).await)
            .await
    }

    /// Looks up a table that a command only asks about. If a privilege is missing, the statement
    /// that needs it says so.
    pub async fn find_to_ask(session: &mut Session, outbox: &Outbox) -> Result<Self> {
        session
            .reading(async |session| Self::look_up(session, outbox, &[]).await)
            .await
    }

    /// Checks that a table can be an outbox if it exists.
    pub(crate) async fn examine(session: &mut Session, outbox: &Outbox) -> Result<()> {
        session
            .reading(async |session| match session.place(&outbox.table).await? {
                Some(place) => mapped(session, outbox, &place).await.map(drop),
                None => Ok(()),
            })
            .await
    }

    /// Looks it up within a transaction.
    pub(super) async fn look_up(
        session: &mut Session,
        outbox: &Outbox,
        privileges: &[&str],
    ) -> Result<Self> {
        let name = &outbox.table;
        let Some(place) = session.place(name).await? else {
            return Err(match elsewhere(session, name).await? {
                Some(remedy) => Error::refused(format!("table {name} does not exist"), remedy),
                None => missing(name),
            });
        };
        let (shown, oid) = (name.to_string(), place.oid);
        let row = session.one(FIND, |q| q.bind(i64::from(oid))).await?;
        for privilege in privileges {
            if !row.try_get::<bool, _>(*privilege)? {
                let user: String = row.try_get("user")?;
                return Err(Error::refused(
                    format!("permission denied: role {user} lacks {privilege} on table {shown}"),
                    format!("GRANT {privilege} ON {shown} TO {user}"),
                ));
            }
        }
        if !privileges.is_empty() && row.try_get("row_security")? {
            return Err(Error::refused(
                format!(
                    "row security applies to the role on table {shown}: a policy may hide rows"
                ),
                format!(
                    "ALTER TABLE {shown} DISABLE ROW LEVEL SECURITY, or ALTER ROLE ... BYPASSRLS for the relay's role"
                ),
            ));
        }
        let (columns, [id_is_unique, event_id_is_unique]) = mapped(session, outbox, &place).await?;
        if !columns.kept.is_empty() && !session.value::<bool>(KEEPS_COLUMNS, |q| q).await? {
            return Err(Error::refused(
                "the schema doorbell is of an earlier version, whose dead letters would lose columns that are configured",
                "run `doorbell migrate`",
            ));
        }
        let registered: Option<Vec<u8>> = registered(session, &place.quoted).await?;
        let id = registered
            .and_then(|bytes| Uuid::from_slice(&bytes).ok())
            .ok_or_else(|| not_set_up(name))?;
        Ok(Self {
            oid,
            quoted: place.quoted,
            name: name.name.clone(),
            id: OutboxId(id),
            relations: row
                .try_get::<Vec<i64>, _>("relations")?
                .into_iter()
                .map(|oid| oid as u32)
                .collect(),
            id_is_unique,
            event_id_is_unique,
            trigger: Trigger::of(
                row.try_get::<Option<String>, _>("trigger")?.as_deref(),
                row.try_get("asks")?,
            ),
            columns: Box::new(columns),
        })
    }

    pub(crate) fn channel(&self) -> String {
        format!("doorbell:{}", self.oid)
    }
}

/// Maps the columns of a table that can be an outbox. Also returns whether its ids, and the event
/// ids of its own, are unique.
async fn mapped(
    session: &mut Session,
    outbox: &Outbox,
    place: &Place,
) -> Result<(MappedColumns, [bool; 2])> {
    let (columns, shown) = (&outbox.columns, outbox.table.to_string());
    if place.kind != "r" && place.kind != "p" {
        return Err(Error::refused(
            format!("{shown} is not a table"),
            "name a table",
        ));
    }
    let found = Found::read(session, &shown, place.oid).await?;
    let id_column = found.required(&columns.id)?;
    if !id_column.indexed {
        return Err(Error::refused(
            format!(
                "column {} of {shown} has no index that begins with it",
                columns.id
            ),
            "make it the primary key: without an index each fetch reads the whole table",
        ));
    }
    // `doorbell adopt` leaves the rows that were there before without an id, and out of the index.
    if !id_column.not_null && !id_column.numbered {
        let id = quote(&columns.id);
        return Err(Error::refused(
            format!("column {id} of {shown} may be NULL, and a row without an id is never sent"),
            format!("ALTER TABLE {shown} ALTER COLUMN {id} SET NOT NULL"),
        ));
    }
    if columns.created_at.is_none() && !id_column.unique {
        let id = quote(&columns.id);
        return Err(Error::refused(
            format!(
                "no unique index is on column {id} of {shown} alone, and without created_at only the id tells rows apart"
            ),
            format!("ALTER TABLE {shown} ADD UNIQUE ({id}), or map created_at"),
        ));
    }
    let event_id = columns.event_id.as_ref();
    let event_id = event_id.map(|name| found.required(name)).transpose()?;
    let unique = [id_column.unique, event_id.is_none_or(|it| it.unique)];
    let mapped = found.map(outbox)?;
    if outbox.tombstone_on_blank && mapped.payload_is_bytes {
        return Err(Error::refused(
            format!("the payload of {shown} is of type bytea, and tombstone_on_blank is for text"),
            "remove tombstone_on_blank",
        ));
    }
    Ok((mapped, unique))
}

/// The refusal of a name that stands for no table.
pub(super) fn missing(name: &TableName) -> Error {
    Error::refused(
        format!("table {name} does not exist"),
        "run `doorbell migrate`, or check --table",
    )
}

/// The refusal of a table that is no outbox.
pub(super) fn not_set_up(name: &TableName) -> Error {
    Error::refused(
        format!("table {name} was not set up as an outbox"),
        format!("run `doorbell migrate --table '{name}'`"),
    )
}

/// Returns how to name a table that is not found because its schema is not in the search_path, or
/// because its name is written in another case.
pub(crate) async fn elsewhere(session: &mut Session, name: &TableName) -> Result<Option<String>> {
    const ELSEWHERE: &str = "SELECT CASE WHEN c.relname = $1 AND $2 IS NULL THEN pg_catalog.format('name it with its schema, %I.%I, or ALTER ROLE ... SET search_path = %1$I: the search_path of role %s is %L', \
            n.nspname, c.relname, current_user, (SELECT p.reset_val FROM pg_catalog.pg_settings p WHERE p.name = 'search_path')) \
        ELSE pg_catalog.format('a table %I.%I exists, whose name differs in case: write it in double quotes, such as --table %L', n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)) END \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p') AND pg_catalog.lower(c.relname) = pg_catalog.lower($1) AND ($2::text IS NULL OR pg_catalog.lower(n.nspname) = pg_catalog.lower($2)) \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'doorbell') AND (c.relname = $1 AND n.nspname = $2) IS NOT TRUE ORDER BY c.relname = $1 DESC, 1 LIMIT 1";
    let found = session.values(ELSEWHERE, |q| {
        q.bind(name.name.clone()).bind(name.schema.clone())
    });
    Ok(found.await?.into_iter().next())
}

/// Reads the outbox's registered identity, as 16 bytes.
async fn registered(session: &mut Session, quoted: &str) -> Result<Option<Vec<u8>>> {
    const REGISTERED: &str = "SELECT pg_catalog.uuid_send(id) FROM doorbell.outbox WHERE name = $1";
    let ids = session.values(REGISTERED, |q| q.bind(quoted.to_owned()));
    let ids = ids.await?;
    Ok(ids.into_iter().next())
}

/// Whether dead letters keep the columns that only the configuration names.
const KEEPS_COLUMNS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
    WHERE a.attrelid = pg_catalog.to_regclass('doorbell.dead') AND a.attname = 'own_id' AND NOT a.attisdropped)";

/// `asks`: whether the trigger asks if the relay sleeps before it rings.
const FIND: &str = "SELECT pg_catalog.quote_ident(current_user) AS user, \
    pg_catalog.has_table_privilege(c.oid, 'SELECT') AS \"SELECT\", pg_catalog.has_table_privilege(c.oid, 'DELETE') AS \"DELETE\", \
    pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS \"UPDATE\", \
    pg_catalog.row_security_active(c.oid) AS row_security, t.tgenabled::text AS trigger, coalesce(p.prosrc LIKE '%pg_try_advisory_xact_lock_shared%', false) AS asks, \
    ARRAY(SELECT p.relid::oid::bigint FROM pg_catalog.pg_partition_tree(c.oid) p UNION SELECT c.oid::bigint) AS relations \
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'doorbell_ring' \
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
    WHERE c.oid = $1::bigint::oid";
