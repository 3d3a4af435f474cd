//! Dead letters for whoever looks after them: list, show, retry, drop; `glance` for the page.

mod glance;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::{Error, Result};
use super::session::Session;
use super::table::quote;
use crate::config::{Columns, Outbox, TableName};

pub use glance::{CUT, Glance, Lacks};

/// A dead letter without its contents.
#[derive(Debug, Serialize)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// The outbox that its row was in.
    pub outbox: String,
    /// The row's id.
    pub row_id: i64,
    /// What kind of event.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The key; that of a bytea column as `\x` and hexadecimal digits.
    pub key: Option<String>,
    /// The topic that the record was for.
    pub topic: Option<String>,
    /// What is wrong, in words.
    pub reason: String,
    /// The same in one word.
    pub code: String,
    /// Bytes of the payload.
    pub payload_size: i64,
    /// Bytes of the key.
    pub key_size: i64,
    /// Bytes of the headers.
    pub headers_size: i64,
    /// How often it was refused.
    pub attempts: i64,
    /// When it was refused the last time.
    pub refused_at: String,
    /// Seconds since then.
    pub age_seconds: f64,
}

/// A dead letter with everything.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// Without its contents.
    #[serde(flatten)]
    pub letter: Letter,
    /// When the row was created.
    pub created_at: String,
    /// The headers, as they were.
    pub headers: Option<String>,
    /// The payload; that of a bytea column as `\x` and hexadecimal digits.
    pub payload: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// These.
    Ids(Vec<i64>),
    /// Those whose reason or code has this text, in whatever case.
    Reason(String),
    /// All.
    All,
}

impl Choice {
    fn ids(&self) -> Option<Vec<i64>> {
        match self {
            Self::Ids(ids) => Some(ids.clone()),
            Self::Reason(_) | Self::All => None,
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Self::Reason(text) => Some(text.clone()),
            Self::Ids(_) | Self::All => None,
        }
    }
}

/// `$1`: outboxes, `$2`: ids, `$3`: part of a reason.
const CHOSEN: &str = "outbox = ANY ($1::text[]) AND retried_at IS NULL AND ($2::bigint[] IS NULL OR id = ANY ($2)) \
    AND ($3::text IS NULL OR pg_catalog.strpos(lower(code || ' ' || reason), lower($3)) > 0)";

const LETTER: &str = "id, outbox, row_id, type, coalesce(key, '\\x' || pg_catalog.encode(key_bytes, 'hex')) AS key, routed_to, reason, code, \
    payload_size, key_size, headers_size, attempts, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - refused_at) AS age, created_at::text AS created_at, \
    refused_at::text AS refused_at";

/// After this time the attempts of a row that was sent back are forgotten.
const MARKS_STAY: &str = "30 days";

/// The dead letters of some outboxes.
pub struct Letters {
    session: Session,
    places: Vec<Place>,
}

struct Place {
    table: TableName,
    columns: Columns,
    /// As in the registry.
    quoted: String,
    oid: i64,
}

impl Letters {
    /// Finds the outboxes; needs no right on the tables themselves.
    pub async fn of(mut session: Session, outboxes: &[Outbox]) -> Result<Self> {
        let mut places = Vec::new();
        for outbox in outboxes {
            let name = outbox.table.to_string();
            let rows = session
                .reading(async |session| {
                    session
                        .all(
                            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid::bigint FROM pg_catalog.pg_class c \
                             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)",
                            |q| q.bind(name.clone()),
                        )
                        .await
                })
                .await?;
            let row = rows.first().ok_or_else(|| {
                Error::refused(format!("table {name} does not exist"), "check --table")
            })?;
            places.push(Place {
                table: outbox.table.clone(),
                columns: outbox.columns.clone(),
                quoted: row.try_get(0)?,
                oid: row.try_get(1)?,
            });
        }
        Ok(Self { session, places })
    }

    fn outboxes(&self) -> Vec<String> {
        self.places.iter().map(|p| p.quoted.clone()).collect()
    }

    /// One page, ascending: at most `limit` letters above the id `after`.
    pub async fn list(&mut self, choice: &Choice, after: i64, limit: u32) -> Result<Vec<Letter>> {
        let rows = self.page(LETTER, choice, after, limit).await?;
        rows.iter().map(letter).collect()
    }

    /// These columns of a page.
    async fn page(
        &mut self,
        columns: &str,
        choice: &Choice,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PgRow>> {
        let sql = format!(
            "SELECT {columns} FROM doorbell.dead WHERE {CHOSEN} AND id > $4 ORDER BY id LIMIT $5"
        );
        let outboxes = self.outboxes();
        self.session
            .reading(async |session| {
                session
                    .all(&sql, |q| {
                        q.bind(outboxes)
                            .bind(choice.ids())
                            .bind(choice.reason())
                            .bind(after)
                            .bind(i64::from(limit))
                    })
                    .await
            })
            .await
    }

    /// One letter with its contents.
    pub async fn show(&mut self, id: i64) -> Result<Contents> {
        let sql = format!(
            "SELECT {LETTER}, headers::text AS headers, coalesce(payload, '\\x' || pg_catalog.encode(payload_bytes, 'hex')) AS payload \
             FROM doorbell.dead WHERE outbox = ANY ($1::text[]) AND retried_at IS NULL AND id = $2"
        );
        let outboxes = self.outboxes();
        let rows = self
            .session
            .reading(async |session| session.all(&sql, |q| q.bind(outboxes).bind(id)).await)
            .await?;
        let row = rows.first().ok_or_else(|| missing(&[id]))?;
        Ok(Contents {
            letter: letter(row)?,
            created_at: row.try_get("created_at")?,
            headers: row.try_get("headers")?,
            payload: row.try_get("payload")?,
        })
    }

    /// How many are chosen.
    pub async fn count(&mut self, choice: &Choice) -> Result<i64> {
        let outboxes = self.outboxes();
        self.session
            .reading(async |session| {
                check(session, &outboxes, choice).await?;
                let sql = format!("SELECT count(*) FROM doorbell.dead WHERE {CHOSEN}");
                let row = session
                    .one(&sql, |q| {
                        q.bind(outboxes).bind(choice.ids()).bind(choice.reason())
                    })
                    .await?;
                Ok(row.try_get(0)?)
            })
            .await
    }

    /// Puts rows back into their tables, as they were, and under their own ids: an event keeps its identity. How many.
    ///
    /// # Errors
    /// Nothing is changed: an id that does not exist; a row in the table that has the id of one of them.
    pub async fn retry(&mut self, choice: &Choice) -> Result<usize> {
        let outboxes = self.outboxes();
        let places = &self.places;
        self.session
            .writing(async |session| {
                check(session, &outboxes, choice).await?;
                let mut sent = 0;
                for place in places {
                    sent += send_back(session, place, choice).await?;
                }
                Ok(sent)
            })
            .await
    }

    /// Deletes letters for ever. How many.
    ///
    /// # Errors
    /// Nothing is changed: an id that does not exist.
    pub async fn drop(&mut self, choice: &Choice) -> Result<usize> {
        let outboxes = self.outboxes();
        self.session
            .writing(async |session| {
                check(session, &outboxes, choice).await?;
                let marks = format!(
                    "DELETE FROM doorbell.dead WHERE retried_at < pg_catalog.now() - interval '{MARKS_STAY}'"
                );
                session.batch(&marks).await?;
                let sql = format!("DELETE FROM doorbell.dead WHERE {CHOSEN} RETURNING id");
                let rows = session
                    .all(&sql, |q| {
                        q.bind(outboxes).bind(choice.ids()).bind(choice.reason())
                    })
                    .await?;
                Ok(rows.len())
            })
            .await
    }
}

async fn send_back(session: &mut Session, place: &Place, choice: &Choice) -> Result<usize> {
    let sql = send_back_statement(session, place).await?;
    let outbox = vec![place.quoted.clone()];
    let sent = session
        .all(&sql, |q| {
            q.bind(outbox).bind(choice.ids()).bind(choice.reason())
        })
        .await;
    match sent {
        Ok(rows) => Ok(rows.len()),
        Err(Error::Statement { code, .. }) if code == "23505" => Err(Error::refused(
            format!(
                "a row of {} has the id of a dead letter that was to go back",
                place.table
            ),
            "retry when that row is gone, or retry the others by their ids",
        )),
        Err(error) => Err(error),
    }
}

/// One statement: the rows go back, and what stays of their letters is the number of attempts.
async fn send_back_statement(session: &mut Session, place: &Place) -> Result<String> {
    // `-1`: without the length, since a cast would cut what an insert refuses.
    const TYPES: &str = "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, -1) AS type, b.typname = 'bytea' AS is_bytes \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
        WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";
    let columns = session.all(TYPES, |q| q.bind(place.oid)).await?;
    let c = &place.columns;
    let wanted = [
        (c.id.as_str(), "row_id", "row_id"),
        (c.created_at.as_str(), "created_at", "created_at"),
        (c.event_type.as_str(), "type", "type"),
        (c.payload.as_str(), "payload", "payload_bytes"),
        (c.key.name(), "key", "key_bytes"),
        (c.topic.name(), "topic", "topic"),
        (c.headers.name(), "headers::text", "headers::text"),
    ];
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, text, bytes) in wanted {
        for column in &columns {
            if column.try_get::<&str, _>("name")? == name {
                let is_bytes: bool = column.try_get("is_bytes")?;
                let kind: &str = column.try_get("type")?;
                names.push(quote(name));
                values.push(format!("{}::{kind}", if is_bytes { bytes } else { text }));
            }
        }
    }
    Ok(format!(
        "WITH chosen AS MATERIALIZED (SELECT * FROM doorbell.dead WHERE {CHOSEN} ORDER BY row_id FOR UPDATE), \
         back AS (INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM chosen ORDER BY row_id) \
         UPDATE doorbell.dead d SET retried_at = pg_catalog.now(), payload = NULL, payload_bytes = NULL, key = NULL, key_bytes = NULL, \
         headers = NULL FROM chosen WHERE d.id = chosen.id RETURNING d.id",
        table = place.quoted,
        names = names.join(", "),
        values = values.join(", "),
    ))
}

/// Ids must exist, all of them.
async fn check(session: &mut Session, outboxes: &[String], choice: &Choice) -> Result<()> {
    let Choice::Ids(ids) = choice else {
        return Ok(());
    };
    let rows = session
        .all(
            &format!("SELECT id FROM doorbell.dead WHERE {CHOSEN}"),
            |q| {
                q.bind(outboxes.to_vec())
                    .bind(ids.clone())
                    .bind(None::<String>)
            },
        )
        .await?;
    let found: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<std::result::Result<_, _>>()?;
    let absent: Vec<i64> = ids
        .iter()
        .copied()
        .filter(|id| !found.contains(id))
        .collect();
    match absent.as_slice() {
        [] => Ok(()),
        absent => Err(missing(absent)),
    }
}

fn missing(ids: &[i64]) -> Error {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    Error::refused(
        format!("there is no dead letter {}", ids.join(", ")),
        "see `doorbell dead list`; nothing was changed",
    )
}

fn letter(row: &PgRow) -> Result<Letter> {
    Ok(Letter {
        id: row.try_get("id")?,
        outbox: row.try_get("outbox")?,
        row_id: row.try_get("row_id")?,
        event_type: row.try_get("type")?,
        key: row.try_get("key")?,
        topic: row.try_get("routed_to")?,
        reason: row.try_get("reason")?,
        code: row.try_get("code")?,
        payload_size: row.try_get("payload_size")?,
        key_size: row.try_get("key_size")?,
        headers_size: row.try_get("headers_size")?,
        attempts: row.try_get("attempts")?,
        refused_at: row.try_get("refused_at")?,
        age_seconds: row.try_get("age")?,
    })
}
