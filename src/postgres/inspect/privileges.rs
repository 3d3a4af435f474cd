//! Compares the role's privileges with `sql/roles.sql`. That file is the list, so a change there is
//! a change here.

use sqlx::Row;

use super::table_shape::TableShape;
use crate::postgres::error::Result;
use crate::postgres::session::Session;

const ROLES: &str = include_str!("../../../sql/roles.sql");
/// The role of that file with the privileges that `doorbell run` needs.
const RELAY: &str = "doorbell_relay";
/// The role of that file with the privileges that `doorbell dead` needs.
const OPERATOR: &str = "doorbell_operator";
/// Objects besides the outbox that `doorbell dead` needs privileges on.
pub(crate) const LETTERS: [&str; 2] = ["doorbell", "doorbell.dead"];
/// Those that `doorbell pause` needs privileges on.
pub(crate) const PAUSES: [&str; 2] = ["doorbell", "doorbell.outbox"];
/// The table of that file.
const OUTBOX: &str = "outbox";

#[derive(Debug)]
pub(crate) struct Privileges {
    /// Privileges of the relay that the role lacks.
    pub missing: Vec<MissingPrivilege>,
    /// What the role may do beyond relaying, as sentences.
    pub superfluous: Vec<String>,
    /// Whether the role is a superuser or owns the table: then it may do everything.
    pub all_powerful: bool,
    /// Whether the role may execute `pg_terminate_backend`, as every role may unless that was
    /// revoked.
    pub may_terminate: bool,
    /// The role that logged in, which settings may have exchanged for another.
    pub login: String,
    /// The same, quoted.
    pub quoted_login: String,
}

#[derive(Debug)]
pub(crate) struct MissingPrivilege {
    /// `SELECT`, `SELECT (attempts)`, `USAGE`.
    pub right: String,
    /// The table or schema, as a GRANT names it.
    pub on: String,
    /// Whether the relay cannot start without it. The others are for single cases.
    pub vital: bool,
}

#[derive(Debug)]
pub(crate) struct MissingPrivileges {
    /// The GRANT statements that give them.
    pub grants: Vec<String>,
    /// Whether the role may not even read them.
    pub cannot_read: bool,
}

/// One privilege on one object, as the file grants it.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    right: &'static str,
    columns: Vec<&'static str>,
    /// `SCHEMA`, `FUNCTION`, `SEQUENCE`, or nothing for a table.
    kind: &'static str,
    object: &'static str,
}

/// Compares the role's privileges with those of the relay. Without the schema `doorbell` nothing is
/// missing: the schema must be created first.
pub(crate) async fn privileges(session: &mut Session, shape: &TableShape) -> Result<Privileges> {
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
            Ok(Privileges {
                missing,
                superfluous: row.try_get("beyond")?,
                all_powerful: row.try_get("all_powerful")?,
                may_terminate: row.try_get("may_terminate")?,
                login: row.try_get("login")?,
                quoted_login: row.try_get("quoted_login")?,
            })
        })
        .await
}

/// Returns what the role lacks of the operator's privileges on these objects and tables.
pub(crate) async fn operator_lacks(
    session: &mut Session,
    objects: &[&str],
    tables: &[String],
) -> Result<MissingPrivileges> {
    const ROLE: &str = "SELECT pg_catalog.quote_ident(current_user)";
    let role: String = session.value(ROLE, |q| q).await?;
    let (mut statements, mut cannot_read) = (Vec::new(), false);
    for grant in grants(ROLES, OPERATOR) {
        let one = [OUTBOX.to_owned()];
        let named = match grant.object {
            OUTBOX => tables,
            object if objects.contains(&object) => &one[..],
            _ => continue,
        };
        for table in named {
            if let Some(missing) = lacks(session, &grant, table).await? {
                let MissingPrivilege { right, on, .. } = missing;
                cannot_read |= right == "USAGE" || right == "SELECT";
                statements.push(format!("GRANT {right} ON {on} TO {role};"));
            }
        }
    }
    Ok(MissingPrivileges {
        grants: statements,
        cannot_read,
    })
}

const BEYOND: &str = "SELECT r.rolsuper OR o.owns AS all_powerful, \
    pg_catalog.has_function_privilege(session_user, 'pg_catalog.pg_terminate_backend(int, bigint)', 'EXECUTE') AS may_terminate, session_user::text AS login, pg_catalog.quote_ident(session_user) AS quoted_login, \
    pg_catalog.array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'is a superuser' END, CASE WHEN o.owns AND NOT r.rolsuper THEN 'owns the table, or may act as its owner' END, \
    CASE WHEN r.rolbypassrls AND NOT r.rolsuper THEN 'passes by row security' END, CASE WHEN r.rolreplication AND NOT r.rolsuper THEN 'may replicate' END, \
    CASE WHEN r.rolcreaterole AND NOT r.rolsuper THEN 'may create roles' END, CASE WHEN r.rolcreatedb AND NOT r.rolsuper THEN 'may create databases' END, \
    CASE WHEN NOT o.owns AND pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') THEN 'may TRUNCATE the table' END, \
    CASE WHEN NOT o.owns AND pg_catalog.has_table_privilege(c.oid, 'TRIGGER') THEN 'may put triggers on the table' END]::text[], NULL) AS beyond \
    FROM pg_catalog.pg_roles r, pg_catalog.pg_class c, LATERAL (SELECT r.rolsuper OR pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns) o \
    WHERE r.rolname = current_user AND c.oid = $1::bigint::oid";

/// Returns the privilege if the role lacks it. `table` stands for the table of the file; it is
/// quoted and has its schema.
async fn lacks(
    session: &mut Session,
    grant: &Grant,
    table: &str,
) -> Result<Option<MissingPrivilege>> {
    let is_outbox = grant.object == OUTBOX;
    let object = if is_outbox { table } else { grant.object };
    // An object that does not exist gives NULL. Another finding reports it.
    const TABLE: &str = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE pg_catalog.format('%I.%I', n.nspname, c.relname) = $1";
    let has = |kind: &str, oid: &str| {
        format!("SELECT pg_catalog.has_{kind}_privilege(pg_catalog.{oid}($1)::oid, $2)")
    };
    let sql = match grant.kind {
        "SCHEMA" => has("schema", "to_regnamespace"),
        "FUNCTION" => has("function", "to_regprocedure"),
        "SEQUENCE" => has("sequence", "to_regclass"),
        _ if grant.columns.is_empty() => {
            format!("SELECT pg_catalog.has_table_privilege(c.oid, $2) FROM ({TABLE}) c")
        }
        _ => format!(
            "SELECT bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, $2)) FROM ({TABLE}) c \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($3)"
        ),
    };
    let has: Vec<Option<bool>> = session
        .values(&sql, |q| {
            let q = q.bind(object).bind(grant.right);
            match grant.columns.as_slice() {
                [] => q,
                columns => q.bind(columns),
            }
        })
        .await?;
    let has = has.first().copied().flatten();
    let columns = match grant.columns.is_empty() {
        true => String::new(),
        false => format!(" ({})", grant.columns.join(", ")),
    };
    Ok((has == Some(false)).then(|| MissingPrivilege {
        right: format!("{}{columns}", grant.right),
        on: format!("{} {object}", grant.kind).trim_start().to_owned(),
        vital: is_outbox || grant.kind == "SCHEMA" || grant.object == "doorbell.outbox",
    }))
}

/// Reads the grants to a role: `GRANT privilege, privilege (columns) ON [kind] object TO role;`.
fn grants(file: &'static str, role: &str) -> Vec<Grant> {
    let end = format!(" TO {role};");
    let mut grants = Vec::new();
    for line in file.lines().filter_map(|line| line.strip_suffix(&end)) {
        let Some((privileges, object)) = line
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
        for (right, columns) in split(privileges) {
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

/// Splits `INSERT, SELECT (a, b)` into privileges with their columns.
fn split(privileges: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut found = Vec::new();
    let mut rest = privileges;
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
