//! Previews of dead letters: small enough for a page, however large the rows were.

use super::letter::{DeadLetter, DeadLetterContents, Selection};
use super::list::DeadLetters;
use crate::postgres::error::Result;
use crate::postgres::inspect::{LETTERS, MissingPrivileges, operator_lacks};
use crate::postgres::session::{Session, from_row};

/// Characters of a text that a preview shows. A text with as many was cut.
pub(crate) const PREVIEW_CHARS: usize = 200;
/// Characters of a text on the page of one letter.
pub(crate) const DETAIL_CHARS: usize = 4_000;

/// A refusal of a row, and when an operator sent the row back after it.
#[derive(Debug)]
pub(crate) struct LetterRefusal {
    pub refused_at: String,
    pub retried_at: Option<String>,
    pub code: String,
    pub reason: String,
}

from_row! { LetterRefusal: refused_at retried_at code reason }

/// A value that dead letters have in common.
#[derive(Debug)]
pub(crate) struct Facet {
    pub kind: String,
    pub value: String,
    pub letters: i64,
}

from_row! { Facet: kind value letters }

/// Values that are offered to filter by.
const FACETS: usize = 150;

fn utc(time: &str) -> String {
    format!(
        "CASE WHEN pg_catalog.isfinite({time}) THEN pg_catalog.to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') ELSE {time}::text END"
    )
}

/// Two hexadecimal digits show one byte.
fn columns(payloads: bool, chars: usize) -> String {
    let cut = |text: &str| format!("pg_catalog.left({text}, {chars})");
    let either = |text: &str| {
        format!(
            "coalesce({}, '\\x' || pg_catalog.encode(pg_catalog.substr({text}_bytes, 1, {chars} / 2), 'hex'))",
            cut(text)
        )
    };
    format!(
        "id, outbox, row_id, {} AS event_type, {} AS key, {} AS topic, {} AS reason, code, payload_size, key_size, headers_size, attempts, \
         pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - refused_at) AS age_seconds, \
         {} AS refused_at, {} AS payload",
        cut("type"),
        either("key"),
        cut("routed_to"),
        cut("reason"),
        utc("refused_at"),
        if payloads {
            either("payload")
        } else {
            "NULL::text".to_owned()
        },
    )
}

impl DeadLetters<'_> {
    /// Returns a page like [`DeadLetters::list`], with only the beginnings of the texts.
    pub(crate) async fn previews(
        &mut self,
        choice: &Selection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.page(&columns(false, PREVIEW_CHARS), choice, after, limit)
            .await
    }

    /// Returns one dead letter, with the beginnings of its contents, and the refusals of its row,
    /// the oldest first.
    pub(crate) async fn detail(
        &mut self,
        id: i64,
        payloads: bool,
    ) -> Result<Option<(DeadLetterContents, Vec<LetterRefusal>)>> {
        let columns = columns(payloads, DETAIL_CHARS);
        let (created_at, refused_at, retried_at) =
            (utc("created_at"), utc("d.refused_at"), utc("d.retried_at"));
        let columns = format!(
            "{columns}, {created_at} AS created_at, pg_catalog.left(headers::text, {DETAIL_CHARS}) AS headers, \
             pg_catalog.left({}, {DETAIL_CHARS}) AS columns",
            self.columns()
        );
        let refusals = format!(
            "SELECT {refused_at} AS refused_at, {retried_at} AS retried_at, d.code, pg_catalog.left(d.reason, {DETAIL_CHARS}) AS reason \
             FROM doorbell.dead d JOIN doorbell.dead own ON own.outbox = d.outbox AND own.row_id = d.row_id AND own.created_at = d.created_at \
             WHERE own.id = $1 ORDER BY d.id LIMIT 100"
        );
        let mut letters: Vec<DeadLetterContents> = self
            .page(&columns, &Selection::Ids(vec![id]), i64::MIN, 1)
            .await?;
        let Some(letter) = letters.pop() else {
            return Ok(None);
        };
        let earlier = async |session: &mut Session| session.rows(&refusals, |q| q.bind(id)).await;
        Ok(Some((letter, self.session.reading(earlier).await?)))
    }

    /// Returns the topics and types of dead letters, the most frequent first.
    pub(crate) async fn facets(&mut self) -> Result<Vec<Facet>> {
        let sql = format!(
            "SELECT CASE GROUPING(type) WHEN 1 THEN 'topic' ELSE 'type' END AS kind, \
             coalesce(routed_to, type, '') AS value, count(*) AS letters FROM doorbell.dead \
             WHERE outbox = ANY ($1::text[]) AND retried_at IS NULL AND length(coalesce(routed_to, '')) < {PREVIEW_CHARS} AND length(type) < {PREVIEW_CHARS} \
             GROUP BY GROUPING SETS ((routed_to), (type)) ORDER BY letters DESC, value LIMIT {FACETS}"
        );
        let outboxes = self.outboxes();
        let asked = async |session: &mut Session| session.rows(&sql, |q| q.bind(outboxes)).await;
        self.session.reading(asked).await
    }

    /// Returns what the operator role of `sql/roles.sql` may do here and this role may not.
    pub(crate) async fn missing_privileges(&mut self) -> Result<MissingPrivileges> {
        let tables = self.outboxes();
        self.session
            .reading(async |session| operator_lacks(session, &LETTERS, &tables).await)
            .await
    }
}
