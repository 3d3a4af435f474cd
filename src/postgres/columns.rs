//! What the columns of an outbox are mapped to.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::{Error, Result};
use super::session::{Session, literal};
use crate::config::{Optional, Outbox, TopicPart, meant};

/// The columns of an outbox, each as an SQL expression that yields the form the relay reads.
#[derive(Debug, Clone)]
pub struct MappedColumns {
    /// `id` as its quoted name.
    pub id: String,
    /// `created_at` as timestamptz.
    pub created_at: String,
    pub event_type: String,
    /// `payload` as text or bytea.
    pub payload: String,
    pub payload_is_bytes: bool,
    /// `key` as text or bytea, or NULL.
    pub key: String,
    pub key_is_bytes: bool,
    /// Name of the column of the key.
    pub key_column: Option<String>,
    /// The topic as text, or NULL for one that the relay makes: the row's own, or one that is made
    /// of columns. With routes it is bytea: that text, or the record from which the relay chooses.
    pub topic: String,
    /// Whether there are routes.
    pub has_routes: bool,
    /// `topic` as text, or NULL: the row's own.
    pub own_topic: String,
    /// The topic that the row is for.
    pub routed: String,
    /// `headers` as the text of a JSON object, or NULL.
    pub headers: String,
    /// `headers` as the text of the JSON that a dead letter keeps, or NULL.
    pub letter_headers: String,
    /// `not_before` as its quoted name: the row is not sent before that time.
    pub not_before: Option<String>,
    /// The event's own id as text, which is the first of `more`.
    pub event_id: Option<String>,
    /// The columns that are sent and only the configuration names, in its order.
    pub more: Vec<MoreColumn>,
    /// The columns that a dead letter keeps besides those of an event.
    pub kept: Vec<String>,
    /// What is known of the sizes of type, payload, key, topic and headers.
    pub sizes: [Size; 5],
}

/// A column that only the configuration names.
#[derive(Debug, Clone)]
pub struct MoreColumn {
    /// The column as text or bytea.
    pub value: String,
}

/// What the server knows of the size of a value without reading it from TOAST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// A few bytes, or no column.
    Small,
    /// This expression is the size.
    Known(String),
    /// A document, whose text the server builds to send it. This expression is the stored size,
    /// from which the size of the text does not follow.
    Stored(String),
}

impl Size {
    /// The size of two values together.
    fn and(&self, other: Self) -> Self {
        let sum = |one: &str, other: &str| format!("coalesce({one}, 0) + coalesce({other}, 0)");
        match (self, other) {
            (Self::Small, size) => size,
            (size, Self::Small) => size.clone(),
            (Self::Known(one), Self::Known(other)) => Self::Known(sum(one, &other)),
            (Self::Known(one) | Self::Stored(one), Self::Known(other) | Self::Stored(other)) => {
                Self::Stored(sum(one, &other))
            }
        }
    }
}

impl Size {
    /// The size of two values together, as if that of a document were the size of its text.
    fn and_known(&self, other: Self) -> Self {
        match self.and(other) {
            Self::Stored(size) => Self::Known(size),
            size => size,
        }
    }
}

impl MappedColumns {
    pub fn has_key(&self) -> bool {
        self.key != NO_COLUMN
    }

    /// The columns that only the configuration names, as a dead letter keeps them. `None`: it names
    /// none.
    pub(crate) fn kept(&self) -> Option<String> {
        let list = |of: &dyn Fn(&String) -> String| {
            self.kept.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        (!self.kept.is_empty()).then(|| {
            format!(
                "pg_catalog.jsonb_object(ARRAY[{}], ARRAY[{}])",
                list(&|name| literal(name)),
                list(&|name| format!("{}::text", quote(name)))
            )
        })
    }

    /// The headers as they are fetched: if the configuration names more columns, in one record with
    /// them, so that no other row pays for these.
    pub(crate) fn fetched_headers(&self) -> String {
        if self.more.is_empty() {
            return self.headers.clone();
        }
        let more = self.more.iter().map(|it| format!(", {}", it.value));
        format!(
            "pg_catalog.record_send(ROW({}{}))",
            self.headers,
            more.collect::<String>()
        )
    }
}

/// Expression for an optional column that the table lacks.
const NO_COLUMN: &str = "NULL::text";

/// The time of creation where the table has no column for it. Nothing computes an age from an
/// infinite time, and no record gets it as its timestamp.
const NO_TIME: &str = "'infinity'::timestamptz";

/// `indexed`: a usable index begins with the column. `unique`: a unique index covers it alone.
/// `numbered`: such an index leaves out the rows in which the column is NULL, and no others.
const COLUMNS: &str = "SELECT a.attname::text AS name, a.attnotnull AS not_null, b.typname::text AS type, b.typtype::text AS typtype, \
    coalesce(x.indexed, false) AS indexed, coalesce(x.unique, false) AS unique, coalesce(x.numbered, false) AS numbered \
    FROM pg_catalog.pg_attribute a \
    LEFT JOIN LATERAL (SELECT true AS indexed, bool_or(i.indisunique AND i.indnkeyatts = 1) AS unique, \
            bool_or(i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NOT NULL) AS numbered \
        FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum \
            AND (i.indpred IS NULL OR pg_catalog.pg_get_expr(i.indpred, i.indrelid) = pg_catalog.format('(%I IS NOT NULL)', a.attname)) \
        HAVING count(*) > 0) x ON true \
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
    JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";

pub(crate) struct Column {
    name: String,
    /// Name of the base type, or `enum`.
    kind: String,
    pub(crate) not_null: bool,
    pub(crate) indexed: bool,
    pub(crate) unique: bool,
    pub(crate) numbered: bool,
}

impl Column {
    fn size(&self) -> Size {
        let name = quote(&self.name);
        match self.kind.as_str() {
            "text" | "varchar" | "bpchar" | "bytea" => {
                Size::Known(format!("pg_catalog.octet_length({name})"))
            }
            "json" | "jsonb" | "_text" | "_varchar" => {
                Size::Stored(format!("pg_catalog.pg_column_size({name})"))
            }
            _ => Size::Small,
        }
    }
}

pub(crate) struct Found<'a> {
    table: &'a str,
    columns: Vec<Column>,
}

impl<'a> Found<'a> {
    pub(crate) async fn read(session: &mut Session, table: &'a str, oid: u32) -> Result<Self> {
        let rows = session.all(COLUMNS, |q| q.bind(i64::from(oid))).await?;
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
                numbered: row.try_get("numbered")?,
            })
        };
        let columns = rows.iter().map(column).collect::<Result<_>>()?;
        Ok(Self { table, columns })
    }

    pub(crate) fn required(&self, name: &str) -> Result<&Column> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| no_column(self.table, name))
    }

    fn optional(&self, name: &Optional) -> Result<Option<&Column>> {
        match name {
            Optional::Named(name) => self.required(name).map(Some),
            Optional::Default(name) => Ok(self.columns.iter().find(|column| column.name == *name)),
        }
    }

    pub(crate) fn map(&self, outbox: &Outbox) -> Result<MappedColumns> {
        let columns = &outbox.columns;
        let or_null = |expression: Option<String>| expression.unwrap_or_else(|| NO_COLUMN.into());
        let optional = |name: &Optional, role: &str, kinds: &[&str]| -> Result<String> {
            let column = self.optional(name)?;
            Ok(or_null(
                column
                    .map(|column| self.expression(column, role, kinds))
                    .transpose()?,
            ))
        };
        let event_id = columns.event_id.as_ref().map(|name| {
            let column = self.required(name)?;
            self.expression(column, "event_id", &["uuid", "text", "varchar", "bpchar"])
        });
        if let Some(name) = &columns.partition {
            self.expression(self.required(name)?, "partition", &["int4"])?;
        }
        let not_before = columns
            .not_before
            .as_ref()
            .map(|name| self.expression(self.required(name)?, "not_before", &["timestamptz"]));
        let more = columns.more().map(|name| self.more(name));
        let more = more.collect::<Result<Vec<_>>>()?;
        let own_topic = optional(&columns.topic, "topic", TEXTS)?;
        let event_type = match &columns.event_type {
            Some(name) => self.expression(self.required(name)?, "type", TEXTS)?,
            None => NO_COLUMN.into(),
        };
        let routed = self.routed(outbox, &own_topic, &event_type)?;
        let mut mapped = MappedColumns {
            id: {
                let column = self.required(&columns.id)?;
                self.expression(column, "id", &["int8"])?
            },
            created_at: match &columns.created_at {
                Some(name) => self.expression(
                    self.required(name)?,
                    "created_at",
                    &["timestamptz", "timestamp"],
                )?,
                None => NO_TIME.into(),
            },
            event_type,
            payload_is_bytes: self.required(&columns.payload)?.kind == "bytea",
            key_is_bytes: self
                .optional(&columns.key)?
                .is_some_and(|column| column.kind == "bytea"),
            key_column: self.optional(&columns.key)?.map(|it| it.name.clone()),
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
            topic: match outbox.topic.columns().next() {
                _ if !outbox.routes.is_empty() => self.routing(outbox, &own_topic, &routed)?,
                Some(_) => routed.clone(),
                None => own_topic.clone(),
            },
            has_routes: !outbox.routes.is_empty(),
            own_topic,
            routed,
            headers: optional(&columns.headers, "headers", HEADERS)?,
            letter_headers: or_null(self.optional(&columns.headers)?.map(|column| {
                let name = quote(&column.name);
                match column.kind.as_str() {
                    "json" | "jsonb" => format!("{name}::text"),
                    // It may be no JSON, so a letter has it as a JSON string.
                    _ => format!("pg_catalog.to_json({name}::text)::text"),
                }
            })),
            sizes: [
                columns
                    .event_type
                    .as_ref()
                    .map(|name| self.required(name))
                    .transpose()?,
                self.required(&columns.payload).map(Some)?,
                self.optional(&columns.key)?,
                self.optional(&columns.topic)?,
                self.optional(&columns.headers)?,
            ]
            .map(|column| column.map_or(Size::Small, Column::size)),
            not_before: not_before.transpose()?,
            event_id: event_id.transpose()?,
            more,
            kept: outbox.kept_columns().map(str::to_owned).collect(),
        };
        let [.., of_topic, of_headers] = &mut mapped.sizes;
        for column in outbox.route_columns() {
            *of_topic = of_topic.and_known(self.required(column)?.size());
        }
        if outbox.routed_header().is_some() {
            *of_topic = of_topic.and_known(of_headers.clone());
        }
        for column in columns.more() {
            *of_headers = of_headers.and(self.required(column)?.size());
        }
        Ok(mapped)
    }

    /// Returns the topic that a row is for as an expression: its own, or by the route.
    fn routed(&self, outbox: &Outbox, own: &str, event_type: &str) -> Result<String> {
        let part = |part| {
            Ok(match part {
                TopicPart::Text(text) => literal(text),
                TopicPart::Type => format!("{event_type}::text"),
                TopicPart::Column(name) => self.placeholder(name)?.value,
                TopicPart::Group(_) => literal(""),
            })
        };
        let parts = outbox.topic.pieces(&outbox.table.name).map(part);
        let parts = parts.collect::<Result<Vec<_>>>()?.join(", ");
        Ok(format!("coalesce({own}::text, pg_catalog.concat({parts}))"))
    }

    /// Returns what the relay reads in the place of a topic, where it chooses by routes: the row's
    /// own topic, or a record of the topic without routes, the headers and the columns of routes,
    /// as texts. What is not needed is NULL.
    fn routing(&self, outbox: &Outbox, own: &str, routed: &str) -> Result<String> {
        let usual = match outbox.topic.columns().next() {
            Some(_) => routed,
            None => NO_COLUMN,
        };
        let headers = match outbox.routed_header() {
            Some(header) => self.headers_of_routes(outbox, header)?,
            None => NO_COLUMN.into(),
        };
        let columns = outbox.route_columns().into_iter().map(|name| {
            self.placeholder(name)?;
            Ok(format!(", {}::text", quote(name)))
        });
        let columns = columns.collect::<Result<String>>()?;
        Ok(format!(
            "CASE WHEN {own} IS NULL THEN pg_catalog.record_send(ROW({usual}, {headers}{columns})) ELSE pg_catalog.textsend({own}::text) END"
        ))
    }

    fn headers_of_routes(&self, outbox: &Outbox, header: &str) -> Result<String> {
        let Some(column) = self.optional(&outbox.columns.headers)? else {
            return Err(Error::refused(
                format!(
                    "table {} has no column for headers, and a route matches header.{header}",
                    self.table
                ),
                "map `headers` under [outbox.columns], or match a column",
            ));
        };
        self.expression(column, "headers", HEADERS)
    }

    /// Returns the column that a topic or a route names.
    fn placeholder(&self, name: &str) -> Result<MoreColumn> {
        self.more(name).map_err(|_| {
            let columns = self.columns.iter().map(|it| it.name.as_str());
            let known: Vec<_> = ["table", "type"].into_iter().chain(columns).collect();
            Error::refused(
                format!(
                    "table {} has no column {}, which `topic` or [[outbox.route]] names",
                    self.table,
                    quote(name)
                ),
                meant(name, &known),
            )
        })
    }

    fn more(&self, name: &str) -> Result<MoreColumn> {
        let column = self.required(name).map_err(|_| {
            Error::refused(
                format!("table {} has no column {}", self.table, quote(name)),
                "add it, or name another one in [outbox.headers_from] or [outbox.columns]",
            )
        })?;
        let quoted = quote(name);
        Ok(MoreColumn {
            value: match column.kind.as_str() {
                "bytea" | "text" => quoted,
                _ => format!("{quoted}::text"),
            },
        })
    }

    /// Returns the column in the form that is read: text, bytea, bigint and timestamptz are sent as
    /// they are stored.
    fn expression(&self, column: &Column, role: &str, kinds: &[&str]) -> Result<String> {
        if !kinds.contains(&column.kind.as_str()) {
            return Err(Error::refused(
                format!(
                    "column {} of {} is of type {}, which cannot be an outbox's {role}",
                    quote(&column.name),
                    self.table,
                    column.kind
                ),
                format!(
                    "use one of: {}",
                    kinds
                        .join(", ")
                        .replace("int8", "bigint")
                        .replace("int4", "integer")
                        .replace("_text", "text[]")
                        .replace("_varchar", "varchar[]")
                ),
            ));
        }
        let name = quote(&column.name);
        let expression = match column.kind.as_str() {
            "text" | "varchar" | "bytea" | "timestamptz" => name,
            "int8" if role == "id" => name,
            // Names and values in turn, or pairs of them; others are that row's fault.
            "_text" | "_varchar" => format!("pg_catalog.json_object({name}::text[])::text"),
            // Read in the session's time zone, which is UTC.
            "timestamp" => format!("{name}::timestamptz"),
            _ => format!("{name}::text"),
        };
        // A row's time is part of its identity, so a row without a time gets the same one each
        // time.
        Ok(if role == "created_at" && !column.not_null {
            format!("coalesce({expression}, 'epoch'::timestamptz)")
        } else {
            expression
        })
    }
}

/// The refusal of a table without a column.
pub(super) fn no_column(table: &str, name: &str) -> Error {
    Error::refused(
        format!("table {table} has no column {}", quote(name)),
        "map it under [outbox.columns] or with --column, or add it",
    )
}

const HEADERS: &[&str] = &["jsonb", "json", "text", "varchar", "_text", "_varchar"];

const TEXTS: &[&str] = &["text", "varchar", "bpchar", "name", "enum"];

pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
