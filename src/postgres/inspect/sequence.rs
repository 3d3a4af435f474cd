//! Where the ids of an outbox come from.

use crate::postgres::error::Result;
use crate::postgres::session::{Session, from_row};

#[derive(Debug)]
pub(crate) struct Sequence {
    /// Name, quoted where SQL needs it.
    pub name: String,
    /// Numbers that a session draws at once.
    pub cache: i64,
    pub cycles: bool,
    /// Distance between two numbers; below 0 it descends.
    pub step: i64,
    /// The last number that it can give.
    pub end: i64,
    /// The last number that it gave. `None`: none yet, or the role may not see it.
    pub last: Option<i64>,
}

from_row! { Sequence: name cache cycles step end last }

/// An identity or serial column owns its sequence. A default may draw from any.
const SEQUENCE: &str = "SELECT s.seqrelid::regclass::text AS name, s.seqcache AS cache, s.seqcycle AS cycles, s.seqincrement AS step, \
    CASE WHEN s.seqincrement < 0 THEN s.seqmin ELSE s.seqmax END AS end, \
    CASE WHEN pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE') THEN pg_catalog.pg_sequence_last_value(s.seqrelid) END AS last \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_sequence s ON EXISTS ( \
        SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = s.seqrelid \
        AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i') \
        UNION ALL SELECT FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = f.oid \
        WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = s.seqrelid) \
    WHERE a.attrelid = $1::bigint::oid AND a.attname = $2 AND NOT a.attisdropped LIMIT 1";

pub(crate) async fn sequence(
    session: &mut Session,
    oid: u32,
    column: &str,
) -> Result<Option<Sequence>> {
    let mut rows = session
        .rows(SEQUENCE, |q| q.bind(i64::from(oid)).bind(column.to_owned()))
        .await?;
    Ok(rows.pop())
}

impl Sequence {
    /// Returns which part of its numbers is used up, from 0 to 1.
    pub(crate) fn used(&self) -> f64 {
        match self.last {
            Some(last) if self.step > 0 => last as f64 / self.end as f64,
            _ => 0.0,
        }
    }
}
