//! Where the ids of an outbox come from.

use serde::Serialize;
use sqlx::Row;

use crate::postgres::error::Result;
use crate::postgres::session::Session;

/// The sequence behind the column `id`.
#[derive(Debug, Serialize)]
pub struct Sequence {
    /// Its name, quoted where SQL needs it.
    pub name: String,
    /// Numbers that a session draws at once.
    pub cache: i64,
    /// Whether it begins anew at its end.
    pub cycles: bool,
    /// Whether numbers descend.
    pub descends: bool,
    /// The last number that it may give.
    pub end: i64,
    /// The last number that it gave; `None`: none yet, or our role may not see it.
    pub last: Option<i64>,
}

/// An identity or serial column owns its sequence; a default may draw from any.
const SEQUENCE: &str = "SELECT s.seqrelid::regclass::text AS name, s.seqcache AS cache, s.seqcycle AS cycles, s.seqincrement < 0 AS descends, \
    CASE WHEN s.seqincrement < 0 THEN s.seqmin ELSE s.seqmax END AS end_at, \
    CASE WHEN pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE') THEN pg_catalog.pg_sequence_last_value(s.seqrelid) END AS last \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_sequence s ON EXISTS ( \
        SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = s.seqrelid \
        AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i') \
        UNION ALL SELECT FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = f.oid \
        WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = s.seqrelid) \
    WHERE a.attrelid = $1::bigint::oid AND a.attname = $2 AND NOT a.attisdropped LIMIT 1";

/// Looks it up by the column.
pub(super) async fn sequence(
    session: &mut Session,
    oid: u32,
    column: &str,
) -> Result<Option<Sequence>> {
    let rows = session
        .all(SEQUENCE, |q| q.bind(i64::from(oid)).bind(column.to_owned()))
        .await?;
    rows.first()
        .map(|row| {
            Ok(Sequence {
                name: row.try_get("name")?,
                cache: row.try_get("cache")?,
                cycles: row.try_get("cycles")?,
                descends: row.try_get("descends")?,
                end: row.try_get("end_at")?,
                last: row.try_get("last")?,
            })
        })
        .transpose()
}

impl Sequence {
    /// How much of its numbers is used up, from 0 to 1.
    pub fn used(&self) -> f64 {
        match self.last {
            Some(last) if !self.descends => last as f64 / self.end as f64,
            _ => 0.0,
        }
    }
}
