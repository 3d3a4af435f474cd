//! Dead letters at a glance: small enough for a page, whatever the rows were; and what our role lacks to look after them.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Choice, Letter, Letters, letter};
use crate::postgres::error::Result;
use crate::postgres::survey;

/// Characters of a text that are shown; one that has as many was cut.
pub const CUT: usize = 200;

/// A dead letter of whose texts there are the beginnings alone.
#[derive(Debug)]
pub struct Glance {
    /// The letter; type, key, topic and reason are cut.
    pub letter: Letter,
    /// The beginning of the payload; `None`: there is none, or it was not asked for.
    pub payload: Option<String>,
}

/// What our role may not do with dead letters.
#[derive(Debug)]
pub struct Lacks {
    /// What grants it.
    pub grants: Vec<String>,
    /// Whether it may not even see them.
    pub sight: bool,
}

/// Two hexadecimal digits stand for a byte.
fn columns(payloads: bool) -> String {
    let cut = |text: &str| format!("pg_catalog.left({text}, {CUT})");
    let either = |text: &str| {
        format!(
            "coalesce({}, '\\x' || pg_catalog.encode(pg_catalog.substr({text}_bytes, 1, {CUT} / 2), 'hex'))",
            cut(text)
        )
    };
    format!(
        "id, outbox, row_id, {} AS type, {} AS key, {} AS routed_to, {} AS reason, code, payload_size, key_size, headers_size, attempts, \
         pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - refused_at) AS age, \
         pg_catalog.to_char(refused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS refused_at, \
         {} AS payload",
        cut("type"),
        either("key"),
        cut("routed_to"),
        cut("reason"),
        if payloads {
            either("payload")
        } else {
            "NULL::text".to_owned()
        },
    )
}

impl Letters {
    /// A page as [`Letters::list`] gives it, with the beginnings of the payloads if they are wanted.
    pub async fn glance(
        &mut self,
        choice: &Choice,
        after: i64,
        limit: u32,
        payloads: bool,
    ) -> Result<Vec<Glance>> {
        let rows = self.page(&columns(payloads), choice, after, limit).await?;
        let glance = |row: &PgRow| {
            Ok(Glance {
                letter: letter(row)?,
                payload: row.try_get("payload")?,
            })
        };
        rows.iter().map(glance).collect()
    }

    /// What the operator's role of `sql/roles.sql` may do here and ours may not.
    pub async fn lacks(&mut self) -> Result<Lacks> {
        let tables = self.outboxes();
        self.session
            .reading(async |session| survey::operator_lacks(session, &tables).await)
            .await
    }
}
