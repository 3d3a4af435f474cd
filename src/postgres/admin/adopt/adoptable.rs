//! A table that is to be adopted, as the catalogue describes it.

use super::{COMMENT, NUMBER};
use crate::config::TableName;
use crate::postgres::error::{Error, Result};
use crate::postgres::session::{Place, Session, from_row};
use crate::postgres::table::missing;

/// A table, and what it has already of what the relay needs.
#[derive(Debug)]
pub(crate) struct AdoptableTable {
    pub oid: u32,
    /// Quoted name with its schema.
    pub quoted: String,
    /// The bare name.
    pub name: String,
    /// Names of the columns, without [`NUMBER`], and their types.
    pub columns: Vec<(String, String)>,
    /// Whether the trigger of an outbox is on the table.
    pub is_outbox: bool,
    pub has_number: bool,
    /// Whether the sequence gives the numbers.
    pub has_default: bool,
    pub index: NumberIndex,
    /// Quoted name of the sequence, which exists if the column does.
    pub sequence: String,
    /// Quoted name of the index, which may not exist yet, with the schema and without.
    pub index_names: [String; 2],
    /// Roles that may insert rows and not use the sequence.
    pub ungranted: Vec<String>,
    /// The role that owns the table, where it is not that of the session.
    pub other_owner: Option<String>,
}

/// The index on the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NumberIndex {
    Missing,
    /// Its creation was interrupted. Quoted name.
    Invalid(String),
    Usable,
}

/// A row of [`LOOK`].
struct Seen {
    is_partition: bool,
    owns: bool,
    may_create: bool,
    role: String,
    owner: String,
    is_outbox: bool,
    has_column: bool,
    is_ours: bool,
    has_default: bool,
    index: Option<String>,
    is_valid: bool,
    own_sequence: Option<String>,
    sequence: String,
    index_name: String,
    bare_index_name: String,
    sequence_taken: bool,
    index_taken: bool,
    names: Vec<String>,
    types: Vec<String>,
}

from_row! { Seen: is_partition owns may_create role owner is_outbox has_column is_ours has_default index is_valid own_sequence sequence
index_name bare_index_name sequence_taken index_taken names types }

/// `$2`: the column; `$3`: its comment; `$4`, `$5`: names for the sequence and the index.
const LOOK: &str = "SELECT c.relispartition AS is_partition, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns, \
    pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS may_create, pg_catalog.quote_ident(current_user) AS role, c.relowner::regrole::text AS owner, \
    EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'doorbell_ring') AS is_outbox, \
    a.attname IS NOT NULL AS has_column, \
    coalesce(a.atttypid = 'pg_catalog.int8'::regtype AND pg_catalog.col_description(c.oid, a.attnum) = $3, false) AS is_ours, \
    coalesce(a.atthasdef, false) AS has_default, x.name AS index, coalesce(x.is_valid, false) AS is_valid, \
    CASE WHEN a.attname IS NOT NULL THEN pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', n.nspname, c.relname), $2) END AS own_sequence, \
    pg_catalog.format('%I.%I', n.nspname, $4) AS sequence, pg_catalog.format('%I.%I', n.nspname, $5) AS index_name, pg_catalog.quote_ident($5) AS bare_index_name, \
    pg_catalog.to_regclass(pg_catalog.format('%I.%I', n.nspname, $4)) IS NOT NULL AS sequence_taken, \
    pg_catalog.to_regclass(pg_catalog.format('%I.%I', n.nspname, $5)) IS NOT NULL AS index_taken, \
    ARRAY(SELECT b.attname::text FROM pg_catalog.pg_attribute b WHERE b.attrelid = c.oid AND b.attnum > 0 AND NOT b.attisdropped AND b.attname <> $2 ORDER BY b.attnum) AS names, \
    ARRAY(SELECT pg_catalog.format_type(b.atttypid, NULL) FROM pg_catalog.pg_attribute b \
        WHERE b.attrelid = c.oid AND b.attnum > 0 AND NOT b.attisdropped AND b.attname <> $2 ORDER BY b.attnum) AS types \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped \
    LEFT JOIN LATERAL (SELECT i.indexrelid::regclass::text AS name, i.indisvalid AS is_valid FROM pg_catalog.pg_index i \
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indnatts = 1 AND i.indkey[0] = a.attnum AND i.indislive \
        AND pg_catalog.pg_get_expr(i.indpred, i.indrelid) = pg_catalog.format('(%I IS NOT NULL)', a.attname) ORDER BY i.indisvalid DESC LIMIT 1) x ON true \
    WHERE c.oid = $1::bigint::oid";

/// Roles that may insert into `$1` and may not use the sequence `$2`, which need not exist.
const UNGRANTED: &str = "SELECT DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END \
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class s ON s.oid = pg_catalog.to_regclass($2) \
    CROSS JOIN LATERAL (SELECT e.grantee FROM pg_catalog.aclexplode(c.relacl) e WHERE e.privilege_type = 'INSERT' \
        UNION SELECT e.grantee FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) e \
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND e.privilege_type = 'INSERT') x \
    WHERE c.oid = $1::bigint::oid AND x.grantee <> c.relowner AND (CASE WHEN s.oid IS NULL THEN true \
        WHEN x.grantee <> 0 THEN NOT pg_catalog.has_sequence_privilege(x.grantee, s.oid, 'USAGE') \
        ELSE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(s.relacl) e WHERE e.grantee = 0 AND e.privilege_type = 'USAGE') END) ORDER BY 1";

impl AdoptableTable {
    /// Looks a table up. Refuses one that cannot be adopted.
    pub(crate) async fn find(session: &mut Session, name: &TableName) -> Result<Self> {
        session
            .reading(async |session| Self::look_up(session, name).await)
            .await
    }

    async fn look_up(session: &mut Session, name: &TableName) -> Result<Self> {
        let Some(place) = session.place(name).await? else {
            return Err(missing(name));
        };
        is_plain(&place)?;
        let [sequence, index] = ["_seq_seq", "_seq_key"].map(|end| beside(&name.name, end));
        let mut rows: Vec<Seen> = session
            .rows(LOOK, |q| {
                let q = q.bind(i64::from(place.oid)).bind(NUMBER).bind(COMMENT);
                q.bind(sequence).bind(index)
            })
            .await?;
        let Some(seen) = rows.pop() else {
            return Err(missing(name));
        };
        check(&place.quoted, &seen)?;
        let sequence = seen.own_sequence.unwrap_or(seen.sequence);
        let asked = sequence.clone();
        let ungranted = session
            .values(UNGRANTED, |q| q.bind(i64::from(place.oid)).bind(asked))
            .await?;
        Ok(Self {
            oid: place.oid,
            quoted: place.quoted,
            name: name.name.clone(),
            columns: seen.names.into_iter().zip(seen.types).collect(),
            is_outbox: seen.is_outbox,
            has_number: seen.is_ours,
            has_default: seen.is_ours && seen.has_default,
            index: match seen.index {
                None => NumberIndex::Missing,
                Some(_) if seen.is_valid => NumberIndex::Usable,
                Some(name) => NumberIndex::Invalid(name),
            },
            sequence,
            index_names: [seen.index_name, seen.bare_index_name],
            ungranted,
            other_owner: (seen.owner != seen.role).then_some(seen.owner),
        })
    }

    /// The type of a column, if the table has it.
    pub(crate) fn type_of(&self, name: &str) -> Option<&str> {
        let column = self.columns.iter().find(|(column, _)| column == name);
        column.map(|(_, kind)| kind.as_str())
    }
}

/// Refuses what has no rows of its own.
fn is_plain(place: &Place) -> Result<()> {
    let (what, instead) = match place.kind.as_str() {
        "r" => return Ok(()),
        "v" | "m" => ("a view", "adopt the table below it"),
        "f" => ("a foreign table", "adopt it where it is"),
        "p" => (
            "a partitioned table",
            "an index on it cannot be built while writers go on: copy new rows into an outbox instead, as docs/adopt.md shows",
        ),
        _ => ("no table", "name a table"),
    };
    let problem = format!("{} is {what}, which cannot be adopted", place.quoted);
    Err(Error::refused(problem, instead))
}

/// Refuses a table that another role owns, or that has something else under the names.
fn check(quoted: &str, seen: &Seen) -> Result<()> {
    if seen.is_partition {
        return Err(Error::refused(
            format!("{quoted} is a partition, which cannot be adopted"),
            "copy new rows of the whole table into an outbox instead, as docs/adopt.md shows",
        ));
    }
    if !seen.owns || !seen.may_create {
        let lacks = match seen.owns {
            false => format!("does not own {quoted}"),
            true => format!("may not create a sequence in the schema of {quoted}"),
        };
        return Err(Error::refused(
            format!("permission denied: role {} {lacks}", seen.role),
            format!(
                "log in as {} or a superuser; nothing was changed",
                seen.owner
            ),
        ));
    }
    // An outbox of another kind may have what it likes.
    if seen.is_outbox && !seen.is_ours {
        return Ok(());
    }
    let clash = if seen.has_column && !seen.is_ours {
        format!("{quoted} has a column {NUMBER} already, which is not the one that is needed")
    } else if !seen.has_column && seen.sequence_taken {
        format!("the name {} of the sequence is taken", seen.sequence)
    } else if seen.index.is_none() && seen.index_taken {
        format!("the name {} of the index is taken", seen.index_name)
    } else if seen.is_ours && seen.own_sequence.is_none() {
        format!("the column {NUMBER} of {quoted} has lost its sequence")
    } else {
        return Ok(());
    };
    Err(Error::refused(
        clash,
        "rename or drop that first; a bigint column that ascends can be mapped as id without this. Nothing was changed",
    ))
}

/// A name beside that of the table, within PostgreSQL's limit.
pub(in crate::postgres::admin) fn beside(table: &str, end: &str) -> String {
    let room = crate::config::LONGEST_NAME - end.len();
    let cut = (0..=room.min(table.len()))
        .rev()
        .find(|at| table.is_char_boundary(*at));
    format!("{}{end}", &table[..cut.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_a_table_are_within_the_limit_and_end_between_characters() {
        assert_eq!(beside("outboxevent", "_seq_seq"), "outboxevent_seq_seq");
        let long = beside(&"é".repeat(31), "_seq_key");
        assert_eq!(long, format!("{}_seq_key", "é".repeat(27)));
    }
}
