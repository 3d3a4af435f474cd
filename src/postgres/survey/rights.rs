//! Rights of our role, held against `sql/roles.sql`: that file is the list, so a change there is a change here.

use serde::Serialize;
use sqlx::Row;

use super::shape::Shape;
use crate::postgres::error::Result;
use crate::postgres::letters::Lacks;
use crate::postgres::session::Session;

const ROLES: &str = include_str!("../../../sql/roles.sql");
/// The role of that file whose rights `doorbell run` needs.
const RELAY: &str = "doorbell_relay";
/// The role of that file whose rights `doorbell dead` needs.
const OPERATOR: &str = "doorbell_operator";
/// What it needs them on, beside the outbox.
const LETTERS: [&str; 2] = ["doorbell", "doorbell.dead"];
/// The table of that file.
const OUTBOX: &str = "outbox";

/// What our role lacks and what it has too much of.
#[derive(Debug, Serialize)]
pub struct Rights {
    /// Rights of the relay that it lacks.
    pub missing: Vec<Missing>,
    /// What it could do beyond relaying, in words.
    pub superfluous: Vec<String>,
    /// Whether it is a superuser or owns the table: then nothing is forbidden to it.
    pub all_powerful: bool,
    /// Whether it may execute `pg_terminate_backend`, as everybody may unless that was revoked.
    pub may_terminate: bool,
}

/// A right that our role lacks.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// `SELECT`, `SELECT (attempts)`, `USAGE`.
    pub right: String,
    /// The table or schema, as a GRANT names it.
    pub on: String,
    /// Whether the relay cannot even start without it: the others are for single cases.
    pub vital: bool,
}

/// One right on one object, as the file grants it.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    right: &'static str,
    columns: Vec<&'static str>,
    /// `SCHEMA`, `FUNCTION`, `SEQUENCE` or nothing for a table.
    kind: &'static str,
    object: &'static str,
}

/// Compares. Without the schema `doorbell` nothing is missing: it is to be made first.
pub async fn rights(session: &mut Session, shape: &Shape) -> Result<Rights> {
    session
        .reading(async |session| {
            let mut missing = Vec::new();
            for grant in grants(ROLES, RELAY) {
                if let Some(right) = lacks(session, &grant, &shape.quoted).await? {
                    missing.push(right);
                }
            }
            let row = session
                .one(BEYOND, |q| q.bind(i64::from(shape.oid)))
                .await?;
            Ok(Rights {
                missing,
                superfluous: row.try_get("beyond")?,
                all_powerful: row.try_get("all_powerful")?,
                may_terminate: row.try_get("may_terminate")?,
            })
        })
        .await
}

/// What our role lacks to look after the dead letters of these tables.
pub(in crate::postgres) async fn operator_lacks(
    session: &mut Session,
    tables: &[String],
) -> Result<Lacks> {
    const ROLE: &str = "SELECT pg_catalog.quote_ident(current_user)";
    let role: String = session.one(ROLE, |q| q).await?.try_get(0)?;
    let (mut statements, mut sight) = (Vec::new(), false);
    for grant in grants(ROLES, OPERATOR) {
        let one = [OUTBOX.to_owned()];
        let objects = match grant.object {
            OUTBOX => tables,
            object if LETTERS.contains(&object) => &one,
            _ => continue,
        };
        for table in objects {
            if let Some(missing) = lacks(session, &grant, table).await? {
                let Missing { right, on, .. } = missing;
                sight |= right == "USAGE" || right == "SELECT";
                statements.push(format!("GRANT {right} ON {on} TO {role};"));
            }
        }
    }
    Ok(Lacks {
        grants: statements,
        sight,
    })
}

const BEYOND: &str = "SELECT r.rolsuper OR o.owns AS all_powerful, \
    pg_catalog.has_function_privilege('pg_catalog.pg_terminate_backend(int, bigint)', 'EXECUTE') AS may_terminate, \
    pg_catalog.array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'is a superuser' END, CASE WHEN o.owns AND NOT r.rolsuper THEN 'owns the table, or may act as its owner' END, \
    CASE WHEN r.rolbypassrls AND NOT r.rolsuper THEN 'passes by row security' END, CASE WHEN r.rolreplication AND NOT r.rolsuper THEN 'may replicate' END, \
    CASE WHEN r.rolcreaterole AND NOT r.rolsuper THEN 'may create roles' END, CASE WHEN r.rolcreatedb AND NOT r.rolsuper THEN 'may create databases' END, \
    CASE WHEN NOT o.owns AND pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') THEN 'may TRUNCATE the table' END, \
    CASE WHEN NOT o.owns AND pg_catalog.has_table_privilege(c.oid, 'TRIGGER') THEN 'may put triggers on the table' END]::text[], NULL) AS beyond \
    FROM pg_catalog.pg_roles r, pg_catalog.pg_class c, LATERAL (SELECT r.rolsuper OR pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns) o \
    WHERE r.rolname = current_user AND c.oid = $1::bigint::oid";

/// `table`: what is meant by the table of the file, quoted, with its schema.
async fn lacks(session: &mut Session, grant: &Grant, table: &str) -> Result<Option<Missing>> {
    let is_outbox = grant.object == OUTBOX;
    let object = if is_outbox {
        table.to_owned()
    } else {
        grant.object.to_owned()
    };
    let (right, name) = (grant.right.to_owned(), object.clone());
    // An object that is not there gives NULL: another finding names it.
    let columns: Vec<String> = grant.columns.iter().map(|it| (*it).to_owned()).collect();
    let row = match grant.kind {
        "SCHEMA" => {
            const HAS: &str = "SELECT pg_catalog.has_schema_privilege(n.oid, $2) FROM (SELECT pg_catalog.to_regnamespace($1)::oid AS oid) n";
            session.all(HAS, |q| q.bind(name).bind(right)).await?
        }
        "FUNCTION" => {
            const HAS: &str = "SELECT pg_catalog.has_function_privilege(f.oid, $2) FROM (SELECT pg_catalog.to_regprocedure($1)::oid AS oid) f";
            session.all(HAS, |q| q.bind(name).bind(right)).await?
        }
        "SEQUENCE" => {
            const HAS: &str = "SELECT pg_catalog.has_sequence_privilege(c.oid, $2) FROM (SELECT pg_catalog.to_regclass($1)::oid AS oid) c";
            session.all(HAS, |q| q.bind(name).bind(right)).await?
        }
        _ if columns.is_empty() => {
            const HAS: &str = "SELECT pg_catalog.has_table_privilege(c.oid, $2) FROM (SELECT c.oid FROM pg_catalog.pg_class c \
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE pg_catalog.format('%I.%I', n.nspname, c.relname) = $1) c";
            session.all(HAS, |q| q.bind(name).bind(right)).await?
        }
        _ => {
            const HAS: &str = "SELECT bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, $2)) FROM (SELECT c.oid FROM pg_catalog.pg_class c \
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE pg_catalog.format('%I.%I', n.nspname, c.relname) = $1) c \
                JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($3)";
            session
                .all(HAS, |q| q.bind(name).bind(right).bind(columns))
                .await?
        }
    };
    let has: Option<bool> = match row.first() {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    let columns = match grant.columns.is_empty() {
        true => String::new(),
        false => format!(" ({})", grant.columns.join(", ")),
    };
    Ok((has == Some(false)).then(|| Missing {
        right: format!("{}{columns}", grant.right),
        on: format!("{} {object}", grant.kind).trim_start().to_owned(),
        vital: is_outbox || grant.kind == "SCHEMA" || grant.object == "doorbell.outbox",
    }))
}

/// The grants to a role: `GRANT right, right (columns) ON [kind] object TO role;`.
fn grants(file: &'static str, role: &str) -> Vec<Grant> {
    let end = format!(" TO {role};");
    let mut grants = Vec::new();
    for line in file.lines().filter_map(|line| line.strip_suffix(&end)) {
        let Some((rights, object)) = line
            .trim_start()
            .strip_prefix("GRANT ")
            .and_then(|rest| rest.split_once(" ON "))
        else {
            continue;
        };
        let (kind, object) = match object.split_once(' ') {
            Some((kind, object)) => (if kind == "TABLE" { "" } else { kind }, object),
            None => ("", object),
        };
        for (right, columns) in split(rights) {
            grants.push(Grant {
                right,
                columns,
                kind,
                object,
            });
        }
    }
    grants
}

/// `INSERT, SELECT (a, b)` as its rights with their columns.
fn split(rights: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut found = Vec::new();
    let mut rest = rights;
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (right, after) = rest.split_at(end);
        let mut columns = Vec::new();
        rest = after.trim_start_matches([',', ' ']);
        if let Some((inner, after)) = after.strip_prefix('(').and_then(|it| it.split_once(')')) {
            columns = inner.split(',').map(str::trim).collect();
            rest = after.trim_start_matches([',', ' ']);
        }
        found.push((right.trim(), columns));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grant_of_the_file_is_read() {
        let lines = ROLES
            .lines()
            .filter(|line| line.starts_with("GRANT") && line.contains(RELAY));
        let read = grants(ROLES, RELAY);
        let objects: std::collections::BTreeSet<_> = read.iter().map(|it| it.object).collect();
        assert!(read.len() >= lines.count(), "{read:?}");
        assert!(objects.contains("outbox") && objects.contains("doorbell"));
        let has = |right, object| (read.iter()).any(|it| it.right == right && it.object == object);
        for (right, object) in [
            ("SELECT", "outbox"),
            ("UPDATE", "outbox"),
            ("DELETE", "outbox"),
            ("USAGE", "doorbell"),
            ("INSERT", "doorbell.dead"),
        ] {
            assert!(has(right, object), "{right} on {object} in {read:?}");
        }
    }

    #[test]
    fn rights_with_columns_are_taken_apart() {
        assert_eq!(
            split("INSERT, SELECT (a, b), UPDATE"),
            [
                ("INSERT", vec![]),
                ("SELECT", vec!["a", "b"]),
                ("UPDATE", vec![])
            ]
        );
    }
}
