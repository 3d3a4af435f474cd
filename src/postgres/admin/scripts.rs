//! The files of SQL that come with the program, for the configured table and its columns. For the
//! table `outbox` they are the files themselves.

use crate::config::{Columns, Outbox, TableName};
use crate::postgres::columns::quote;

const ROLES: &str = include_str!("../../../sql/roles.sql");

const STRICT_ORDER: &str = include_str!("../../../sql/strict_order.sql");

const EVENTS: &str = include_str!("../../../sql/events.sql");

/// The claims of a consumer, which know no outbox.
pub(crate) const INBOX: &str = include_str!("../../../sql/inbox.sql");

/// Returns the SQL of the three roles, with their privileges on this table.
pub(crate) fn roles(outbox: &Outbox) -> String {
    let (table, columns) = (&outbox.table, &outbox.columns);
    let column = |name: &str| match columns.name(name)? {
        other if other != name => Some(quote(other)),
        _ => Some(name.to_owned()),
    };
    let line = |line: &str| {
        let Some((grant, role)) = line.split_once(" ON outbox ") else {
            return line.to_owned();
        };
        let list = grant.split_once('(').and_then(|(right, list)| {
            let mut names: Vec<_> = list
                .strip_suffix(')')?
                .split(", ")
                .filter_map(column)
                .collect();
            if right.trim_end() == "GRANT INSERT" {
                for name in outbox.kept_columns() {
                    let known = [name.to_owned(), quote(name)];
                    if !names.iter().any(|it| known.contains(it)) {
                        names.push(quote(name));
                    }
                }
            }
            Some(format!("{right}({})", names.join(", ")))
        });
        format!("{} ON {table} {role}", list.unwrap_or(grant.to_owned()))
    };
    ROLES.lines().map(|it| line(it) + "\n").collect()
}

/// Returns the SQL that keeps the order of commits for the keys of this table.
pub(crate) fn strict_order(table: &TableName, columns: &Columns) -> String {
    let [table, key, id] = [&table.to_string(), columns.key.name(), &columns.id].map(literal);
    format!("{STRICT_ORDER}\nSELECT doorbell.keep_order({table}, {key}, {id});\n")
}

/// Returns the SQL of an event store that sends its events through this table.
pub(crate) fn events(table: &TableName) -> String {
    let table = literal(&table.to_string());
    format!("{EVENTS}\nSELECT doorbell.create_event_store({table});\n")
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Leaves out the statements that begin and end a transaction, for one that has begun. What follows
/// in it has the `search_path` that it had before.
pub(crate) fn without_transaction(sql: &str) -> String {
    const KEEP: &str = "\nDO $$ BEGIN PERFORM pg_catalog.set_config('doorbell.search_path', pg_catalog.current_setting('search_path'), true); END $$;\n";
    const BRING_BACK: &str = "\nDO $$ BEGIN PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('doorbell.search_path'), true); END $$;\n";
    sql.replace("\nBEGIN;\n", KEEP)
        .replace("\nCOMMIT;\n", BRING_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouteRule;

    #[test]
    fn the_roles_get_their_privileges_on_the_table_and_the_columns_that_are_configured() {
        let mut outbox = Outbox::default();
        assert_eq!(roles(&outbox), ROLES);
        outbox
            .columns
            .map("type", "Event Type".into())
            .expect("a column's name");
        outbox.table = TableName::parse("app.\"Events\"").expect("a table's name");
        let route = RouteRule::parse("kind", "x", Some("{region}.{key}")).expect("a route");
        outbox.routes = vec![route.clone(), route];
        let sql = roles(&outbox);
        let grant = "\nGRANT INSERT (\"Event Type\", payload, key, headers, \"kind\", \"region\") ON app.\"Events\" TO doorbell_writer;\n";
        assert!(sql.contains(grant), "{sql}");
        assert!(!sql.contains("ON outbox"), "{sql}");
    }
}
