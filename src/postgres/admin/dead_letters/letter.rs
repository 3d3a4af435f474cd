//! A dead letter, and a selection of dead letters.

use serde::Serialize;

use crate::postgres::session::{Query, from_row};

/// A dead letter without its contents.
#[derive(Debug, Serialize)]
pub(crate) struct DeadLetter {
    pub id: i64,
    pub outbox: String,
    pub row_id: i64,
    #[serde(rename = "type")]
    pub event_type: String,
    /// The key. That of a bytea column as `\x` and hexadecimal digits.
    pub key: Option<String>,
    /// The topic that the record was for.
    pub topic: Option<String>,
    /// The reason, as a sentence.
    pub reason: String,
    pub code: String,
    /// Bytes of the payload.
    pub payload_size: i64,
    pub key_size: i64,
    pub headers_size: i64,
    pub attempts: i64,
    pub refused_at: String,
    pub age_seconds: f64,
}

from_row! { DeadLetter: id outbox row_id event_type key topic reason code payload_size key_size
headers_size attempts refused_at age_seconds }

#[derive(Debug, Serialize)]
pub(crate) struct DeadLetterContents {
    #[serde(flatten)]
    pub letter: DeadLetter,
    pub created_at: String,
    /// The headers, unchanged.
    pub headers: Option<String>,
    /// The columns that only the configuration names: the text of a JSON object.
    pub columns: Option<String>,
    /// The payload. That of a bytea column as `\x` and hexadecimal digits.
    pub payload: Option<String>,
}

from_row! { DeadLetterContents: created_at headers columns payload; letter }

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    Ids(Vec<i64>),
    Matching(LetterFilter),
}

/// What dead letters have in common. By default all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LetterFilter {
    /// Text that reason or code contains, in any case.
    pub reason: Option<String>,
    pub topic: Option<String>,
    pub event_type: Option<String>,
    /// Greatest id, so that letters that arrived since are left alone.
    pub until: Option<i64>,
}

impl Selection {
    pub(crate) fn all() -> Self {
        Self::Matching(LetterFilter::default())
    }

    /// Selects those whose reason or code contains this text.
    pub(crate) fn reason(text: String) -> Self {
        Self::Matching(LetterFilter {
            reason: Some(text),
            ..LetterFilter::default()
        })
    }

    /// Binds the parameters of [`CHOSEN`].
    pub(super) fn bind<'q>(&self, query: Query<'q>, outboxes: Vec<String>) -> Query<'q> {
        let (ids, filter) = match self.clone() {
            Self::Ids(ids) => (Some(ids), LetterFilter::default()),
            Self::Matching(filter) => (None, filter),
        };
        let query = query.bind(outboxes).bind(ids).bind(filter.reason);
        query
            .bind(filter.topic)
            .bind(filter.event_type)
            .bind(filter.until)
    }
}

/// `$1`: outboxes, `$2`: ids, `$3` to `$6`: the filter.
pub(crate) const CHOSEN: &str = "outbox = ANY ($1::text[]) AND retried_at IS NULL AND ($2::bigint[] IS NULL OR id = ANY ($2)) \
    AND ($3::text IS NULL OR pg_catalog.strpos(lower(code || ' ' || reason), lower($3)) > 0) \
    AND ($4::text IS NULL OR routed_to = $4) AND ($5::text IS NULL OR type = $5) AND ($6::bigint IS NULL OR id <= $6)";

pub(crate) const LETTER: &str = "id, outbox, row_id, type AS event_type, coalesce(key, '\\x' || pg_catalog.encode(key_bytes, 'hex')) AS key, routed_to AS topic, reason, code, \
    payload_size, key_size, headers_size, attempts, \
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - refused_at) AS age_seconds, created_at::text AS created_at, \
    refused_at::text AS refused_at";
