//! Lists, shows, counts and drops dead letters.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::letter::{CHOSEN, DeadLetter, DeadLetterContents, LETTER, Selection};
use crate::config::{Columns, Outbox};
use crate::postgres::error::{Error, Result};
use crate::postgres::session::{Place, Session};
use crate::postgres::table::missing as missing_table;

/// After this time the number of attempts of a row that was sent back is forgotten.
const MARKS_STAY: &str = "30 days";

pub(crate) struct DeadLetters<'a> {
    pub(super) session: &'a mut Session,
    pub(super) places: Vec<LetterPlace>,
}

pub(super) struct LetterPlace {
    pub(super) table: Place,
    pub(super) columns: Columns,
    /// The columns that only the configuration names.
    pub(super) kept: Vec<String>,
}

impl<'a> DeadLetters<'a> {
    /// Finds the outboxes. Needs no privilege on the tables themselves.
    pub(crate) async fn of(session: &'a mut Session, outboxes: &[Outbox]) -> Result<Self> {
        let mut places = Vec::new();
        for outbox in outboxes {
            let found = session.place(&outbox.table).await?;
            let table = found.ok_or_else(|| missing_table(&outbox.table))?;
            places.push(LetterPlace {
                columns: outbox.columns.clone(),
                kept: outbox.kept_columns().map(str::to_owned).collect(),
                table,
            });
        }
        Ok(Self { session, places })
    }

    /// The columns that only the configuration names. A schema of an earlier version has none.
    pub(super) fn columns(&self) -> &'static str {
        match self.places.iter().any(|it| !it.kept.is_empty()) {
            true => "columns::text",
            false => "NULL::text",
        }
    }

    pub(super) fn outboxes(&self) -> Vec<String> {
        self.places
            .iter()
            .map(|it| it.table.quoted.clone())
            .collect()
    }

    /// Returns one page in ascending order: at most `limit` letters above the id `after`.
    pub(crate) async fn list(
        &mut self,
        choice: &Selection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.page(LETTER, choice, after, limit).await
    }

    pub(super) async fn page<T: for<'r> FromRow<'r, PgRow>>(
        &mut self,
        columns: &str,
        choice: &Selection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<T>> {
        let sql = format!(
            "SELECT {columns} FROM doorbell.dead WHERE {CHOSEN} AND id > $7 ORDER BY id LIMIT $8"
        );
        let outboxes = self.outboxes();
        self.session
            .reading(async |session| {
                session
                    .rows(&sql, |q| {
                        choice.bind(q, outboxes).bind(after).bind(i64::from(limit))
                    })
                    .await
            })
            .await
    }

    /// Returns the first letters of a key, by id.
    pub(crate) async fn of_key(&mut self, key: &str) -> Result<Vec<DeadLetter>> {
        let sql = format!(
            "SELECT {LETTER} FROM doorbell.dead WHERE outbox = ANY ($1::text[]) AND retried_at IS NULL \
             AND coalesce(key, '\\x' || pg_catalog.encode(key_bytes, 'hex')) = $2 ORDER BY id LIMIT 1000"
        );
        let (outboxes, key) = (self.outboxes(), key.to_owned());
        self.session
            .reading(async |session| session.rows(&sql, |q| q.bind(outboxes).bind(key)).await)
            .await
    }

    pub(crate) async fn show(&mut self, id: i64) -> Result<DeadLetterContents> {
        let sql = format!(
            "SELECT {LETTER}, headers::text AS headers, {} AS columns, coalesce(payload, '\\x' || pg_catalog.encode(payload_bytes, 'hex')) AS payload \
             FROM doorbell.dead WHERE outbox = ANY ($1::text[]) AND retried_at IS NULL AND id = $2",
            self.columns()
        );
        let outboxes = self.outboxes();
        let mut rows = self
            .session
            .reading(async |session| session.rows(&sql, |q| q.bind(outboxes).bind(id)).await)
            .await?;
        rows.pop().ok_or_else(|| missing(&[id]))
    }

    pub(crate) async fn count(&mut self, choice: &Selection) -> Result<i64> {
        Ok(self.counted(choice).await?.0)
    }

    /// Returns their number, and the greatest id.
    pub(crate) async fn counted(&mut self, choice: &Selection) -> Result<(i64, Option<i64>)> {
        let outboxes = self.outboxes();
        self.session
            .reading(async |session| {
                check(session, &outboxes, choice).await?;
                let sql = format!("SELECT count(*), max(id) FROM doorbell.dead WHERE {CHOSEN}");
                let row = session.one(&sql, |q| choice.bind(q, outboxes)).await?;
                Ok((row.try_get(0)?, row.try_get(1)?))
            })
            .await
    }

    /// Deletes letters permanently, and returns how many. If an id does not exist, nothing is
    /// changed.
    pub(crate) async fn drop(&mut self, choice: &Selection) -> Result<usize> {
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
                        choice.bind(q, outboxes)
                    })
                    .await?;
                Ok(rows.len())
            })
            .await
    }
}

/// Checks that all selected ids exist.
pub(super) async fn check(
    session: &mut Session,
    outboxes: &[String],
    choice: &Selection,
) -> Result<()> {
    let Selection::Ids(ids) = choice else {
        return Ok(());
    };
    let sql = format!("SELECT id FROM doorbell.dead WHERE {CHOSEN}");
    let outboxes = outboxes.to_vec();
    let found: Vec<i64> = session.values(&sql, |q| choice.bind(q, outboxes)).await?;
    let absent = ids.iter().copied().filter(|id| !found.contains(id));
    match absent.collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        absent => Err(missing(absent)),
    }
}

pub(super) fn missing(ids: &[i64]) -> Error {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    Error::refused(
        format!("there is no dead letter {}", ids.join(", ")),
        "see `doorbell dead list`; nothing was changed",
    )
}
