//! What a table offers and what its columns are mapped to: the ground that every statement about an outbox is built on.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::{Error, Result};
use super::session::Session;
use crate::config::{Columns, Optional, TableName};
use crate::event::OutboxId;

/// An outbox table as it was found in the database.
#[derive(Debug, Clone)]
pub struct Table {
    /// The table's oid: another one means another table under the same name.
    pub oid: u32,
    /// The name, quoted and with its schema, for statements.
    pub quoted: String,
    /// The bare name: what `{table}` stands for in a route.
    pub name: String,
    /// The identity that event ids are derived from.
    pub id: OutboxId,
    /// The table and, where it is partitioned, all of its partitions.
    pub relations: Vec<u32>,
    /// Whether no two rows can have the same id.
    pub id_is_unique: bool,
    /// What the trigger is doing.
    pub trigger: Trigger,
    /// The columns to read.
    pub columns: Mapped,
}

/// The state of the trigger that rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// There, and fires for ordinary sessions.
    Enabled,
    /// There, but its function is that of an earlier version: it rings at every insert.
    Earlier,
    /// There, but somebody switched it off.
    Disabled,
    /// Not there.
    Missing,
}

impl Trigger {
    /// From what the catalogue says of it: `tgenabled`, if it is there, and whether it is that of this version.
    pub(super) fn of(enabled: Option<&str>, is_current: bool) -> Self {
        match enabled {
            Some("O" | "A") if is_current => Self::Enabled,
            Some("O" | "A") => Self::Earlier,
            Some(_) => Self::Disabled,
            None => Self::Missing,
        }
    }
}

/// The columns of a table that play a part, each as an SQL expression that gives the wire form we read.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// `id` as its quoted name.
    pub id: String,
    /// `created_at` as timestamptz.
    pub created_at: String,
    /// `type` as text.
    pub event_type: String,
    /// `payload` as text or bytea.
    pub payload: String,
    /// Whether that is bytea.
    pub payload_is_bytes: bool,
    /// `key` as text or bytea, or NULL.
    pub key: String,
    /// Whether that is bytea.
    pub key_is_bytes: bool,
    /// `topic` as text, or NULL.
    pub topic: String,
    /// `headers` as text, or NULL.
    pub headers: String,
}

impl Mapped {
    /// Whether the table has a column for keys.
    pub fn has_key(&self) -> bool {
        self.key != NO_COLUMN
    }
}

/// What is read where a table lacks an optional column.
const NO_COLUMN: &str = "NULL::text";

/// What a relay has to be allowed. UPDATE: to step around rows that others have locked (FOR UPDATE SKIP LOCKED) takes it.
const TO_RELAY: &[&str] = &["SELECT", "UPDATE", "DELETE"];

impl Table {
    /// Looks a table up that is to be relayed. Everything that is wrong with it is said in one line.
    pub async fn find(session: &mut Session, name: &TableName, columns: &Columns) -> Result<Self> {
        session
            .reading(async |session| Self::look_up(session, name, columns, TO_RELAY).await)
            .await
    }

    /// The same for whoever only asks about it: what our role lacks, a statement that needs it will say.
    pub async fn find_to_ask(
        session: &mut Session,
        name: &TableName,
        columns: &Columns,
    ) -> Result<Self> {
        session
            .reading(async |session| Self::look_up(session, name, columns, &[]).await)
            .await
    }

    async fn look_up(
        session: &mut Session,
        name: &TableName,
        columns: &Columns,
        privileges: &[&str],
    ) -> Result<Self> {
        let shown = name.to_string();
        let row = session
            .all(FIND, |q| q.bind(shown.clone()))
            .await?
            .pop()
            .ok_or_else(|| {
                Error::refused(
                    format!("table {shown} does not exist"),
                    "run `doorbell migrate`, or check --table",
                )
            })?;
        let kind: String = row.try_get("kind")?;
        if kind != "r" && kind != "p" {
            return Err(Error::refused(
                format!("{shown} is not a table"),
                "name a table",
            ));
        }
        for privilege in privileges {
            if !row.try_get::<bool, _>(*privilege)? {
                let user: String = row.try_get("user")?;
                return Err(Error::refused(
                    format!("role {user} may not {privilege} on table {shown}"),
                    format!("GRANT {privilege} ON {shown} TO {user}"),
                ));
            }
        }
        let oid = row.try_get::<i64, _>("oid")? as u32;
        let found = session.all(COLUMNS, |q| q.bind(i64::from(oid))).await?;
        let found = Found::read(&shown, &found)?;
        let id_column = found.required(&columns.id)?;
        let registered: Option<Vec<u8>> = registered(session, &row).await?;
        let id = registered
            .and_then(|bytes| Uuid::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Error::refused(
                    format!("table {shown} was not set up as an outbox"),
                    format!("run `doorbell migrate --table '{shown}'`"),
                )
            })?;
        if !id_column.indexed {
            return Err(Error::refused(
                format!(
                    "column {} of {shown} has no index that begins with it",
                    columns.id
                ),
                "make it the primary key: without an index each fetch reads the whole table",
            ));
        }
        Ok(Self {
            oid,
            quoted: row.try_get("quoted")?,
            name: name.name.clone(),
            id: OutboxId(id),
            relations: row
                .try_get::<Vec<i64>, _>("relations")?
                .into_iter()
                .map(|oid| oid as u32)
                .collect(),
            id_is_unique: id_column.unique,
            trigger: Trigger::of(
                row.try_get::<Option<String>, _>("trigger")?.as_deref(),
                row.try_get("asks")?,
            ),
            columns: found.map(columns)?,
        })
    }

    /// The channel that the trigger rings on.
    pub fn channel(&self) -> String {
        format!("doorbell:{}", self.oid)
    }
}

/// The outbox's registered identity, as 16 bytes.
async fn registered(session: &mut Session, table: &PgRow) -> Result<Option<Vec<u8>>> {
    let quoted: String = table.try_get("quoted")?;
    let rows = session
        .all(
            "SELECT pg_catalog.uuid_send(id) FROM doorbell.outbox WHERE name = $1",
            |q| q.bind(quoted),
        )
        .await?;
    rows.first()
        .map(|row| row.try_get(0))
        .transpose()
        .map_err(Error::from)
}

/// `asks`: the trigger asks whether to ring.
const FIND: &str = "SELECT c.oid::bigint AS oid, c.relkind::text AS kind, pg_catalog.format('%I.%I', n.nspname, c.relname) AS quoted, \
    current_user::text AS user, \
    pg_catalog.has_table_privilege(c.oid, 'SELECT') AS \"SELECT\", pg_catalog.has_table_privilege(c.oid, 'DELETE') AS \"DELETE\", \
    pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS \"UPDATE\", \
    t.tgenabled::text AS trigger, coalesce(p.prosrc LIKE '%pg_try_advisory_xact_lock_shared%', false) AS asks, \
    ARRAY(SELECT p.relid::oid::bigint FROM pg_catalog.pg_partition_tree(c.oid) p UNION SELECT c.oid::bigint) AS relations \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'doorbell_ring' \
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
    WHERE c.oid = pg_catalog.to_regclass($1)";

/// `indexed`: some usable index begins with the column. `unique`: some unique index is on it alone.
const COLUMNS: &str = "SELECT a.attname::text AS name, a.attnotnull AS not_null, b.typname::text AS type, b.typtype::text AS typtype, \
    EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum) AS indexed, \
    EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indisunique \
            AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS unique \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
    JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";

struct Column {
    name: String,
    /// The base type's name, or `enum`.
    kind: String,
    not_null: bool,
    indexed: bool,
    unique: bool,
}

struct Found<'a> {
    table: &'a str,
    columns: Vec<Column>,
}

impl<'a> Found<'a> {
    fn read(table: &'a str, rows: &[PgRow]) -> Result<Self> {
        let column = |row: &PgRow| -> Result<Column> {
            let typtype: String = row.try_get("typtype")?;
            Ok(Column {
                name: row.try_get("name")?,
                kind: if typtype == "e" {
                    "enum".into()
                } else {
                    row.try_get("type")?
                },
                not_null: row.try_get("not_null")?,
                indexed: row.try_get("indexed")?,
                unique: row.try_get("unique")?,
            })
        };
        let columns = rows.iter().map(column).collect::<Result<_>>()?;
        Ok(Self { table, columns })
    }

    fn required(&self, name: &str) -> Result<&Column> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| {
                Error::refused(
                    format!("table {} has no column {}", self.table, quote(name)),
                    "map it under [outbox.columns], or add it",
                )
            })
    }

    fn optional(&self, name: &Optional) -> Result<Option<&Column>> {
        match name {
            Optional::Named(name) => self.required(name).map(Some),
            Optional::Default(name) => Ok(self.columns.iter().find(|column| column.name == *name)),
        }
    }

    fn map(&self, columns: &Columns) -> Result<Mapped> {
        let or_null = |expression: Option<String>| expression.unwrap_or_else(|| NO_COLUMN.into());
        let optional = |name: &Optional, role: &str, kinds: &[&str]| -> Result<String> {
            let column = self.optional(name)?;
            Ok(or_null(
                column
                    .map(|column| self.expression(column, role, kinds))
                    .transpose()?,
            ))
        };
        Ok(Mapped {
            id: {
                let column = self.required(&columns.id)?;
                self.expression(column, "id", &["int8"])?
            },
            created_at: self.expression(
                self.required(&columns.created_at)?,
                "created_at",
                &["timestamptz", "timestamp"],
            )?,
            event_type: self.expression(self.required(&columns.event_type)?, "type", TEXTS)?,
            payload_is_bytes: self.required(&columns.payload)?.kind == "bytea",
            key_is_bytes: self
                .optional(&columns.key)?
                .is_some_and(|column| column.kind == "bytea"),
            payload: self.expression(
                self.required(&columns.payload)?,
                "payload",
                &["text", "varchar", "json", "jsonb", "bytea"],
            )?,
            key: optional(
                &columns.key,
                "key",
                &[
                    "text", "varchar", "bpchar", "name", "enum", "bytea", "uuid", "int8", "int4",
                    "int2",
                ],
            )?,
            topic: optional(&columns.topic, "topic", TEXTS)?,
            headers: optional(&columns.headers, "headers", &["jsonb", "json"])?,
        })
    }

    /// The column in the form that is read: text, bytea, bigint and timestamptz go over the wire as they are stored.
    fn expression(&self, column: &Column, role: &str, kinds: &[&str]) -> Result<String> {
        if !kinds.contains(&column.kind.as_str()) {
            return Err(Error::refused(
                format!(
                    "column {} of {} is of type {}, which cannot be an outbox's {role}",
                    quote(&column.name),
                    self.table,
                    column.kind
                ),
                format!("use one of: {}", kinds.join(", ").replace("int8", "bigint")),
            ));
        }
        let name = quote(&column.name);
        let expression = match column.kind.as_str() {
            "text" | "varchar" | "bytea" | "timestamptz" => name,
            "int8" if role == "id" => name,
            // read in the session's time zone, which is UTC
            "timestamp" => format!("{name}::timestamptz"),
            _ => format!("{name}::text"),
        };
        // A row's time is part of its identity: one without a time has the same one each time.
        Ok(if role == "created_at" && !column.not_null {
            format!("coalesce({expression}, 'epoch'::timestamptz)")
        } else {
            expression
        })
    }
}

const TEXTS: &[&str] = &["text", "varchar", "bpchar", "name", "enum"];

/// An identifier as SQL wants it, whatever is in it.
pub(super) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
