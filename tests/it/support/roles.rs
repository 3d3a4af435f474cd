//! The roles of `sql/roles.sql` under a test's own names, since roles belong to the whole server.

use super::World;

const FILE: &str = include_str!("../../../sql/roles.sql");

/// The three roles of the file, which may log in. The test drops them with everything that depends
/// on them.
pub(crate) struct Roles {
    pub(crate) writer: String,
    pub(crate) relay: String,
    pub(crate) operator: String,
}

/// One privilege of the file. Each column is a privilege of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The role, as the file calls it.
    pub(crate) role: &'static str,
    /// `SELECT`, or `SELECT (attempts)`.
    pub(crate) right: String,
    /// `outbox`, or `SCHEMA doorbell`.
    pub(crate) on: &'static str,
}

impl Roles {
    pub(crate) fn new(world: &mut World) -> Self {
        let name = |role: &str| format!("{}_{role}", world.name());
        let roles = Self {
            writer: name("writer"),
            relay: name("relay"),
            operator: name("operator"),
        };
        let file = FILE
            .replace("doorbell_writer", &roles.writer)
            .replace("doorbell_relay", &roles.relay)
            .replace("doorbell_operator", &roles.operator);
        world.sql(&file);
        for role in [&roles.writer, &roles.relay, &roles.operator] {
            world.sql(&format!("ALTER ROLE {role} LOGIN"));
        }
        roles
    }

    /// Returns the name of a role of the file.
    pub(crate) fn named(&self, role: &str) -> &str {
        match role {
            "doorbell_writer" => &self.writer,
            "doorbell_relay" => &self.relay,
            "doorbell_operator" => &self.operator,
            other => panic!("no role {other}"),
        }
    }

    pub(crate) fn drop(self, world: &mut World) {
        let Self {
            writer,
            relay,
            operator,
        } = self;
        world.sql(&format!(
            "DROP OWNED BY {writer}, {relay}, {operator}; DROP ROLE {writer}, {relay}, {operator}"
        ));
    }
}

impl World {
    /// Returns the database's address for another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        self.database_url
            .replace("//postgres@", &format!("//{role}@"))
    }
}

/// Returns all privileges that the file grants: `GRANT right, right (column, column) ON object TO
/// role;`, one a line.
pub(crate) fn grants() -> Vec<Grant> {
    let mut grants = Vec::new();
    for line in FILE.lines().filter(|line| line.starts_with("GRANT ")) {
        let statement = line.trim_end_matches(';');
        let parts = statement
            .strip_prefix("GRANT ")
            .and_then(|rest| rest.rsplit_once(" TO "))
            .and_then(|(rest, role)| Some((rest.rsplit_once(" ON ")?, role)));
        let ((privileges, on), role) = parts.unwrap_or_else(|| panic!("no GRANT: {line}"));
        for right in split(privileges) {
            grants.push(Grant { role, right, on });
        }
    }
    grants
}

/// `INSERT, SELECT (a, b)` is `INSERT`, `SELECT (a)` and `SELECT (b)`.
fn split(privileges: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = privileges;
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (right, after) = (rest[..end].trim(), &rest[end..]);
        match after.strip_prefix('(').and_then(|it| it.split_once(')')) {
            Some((columns, after)) => {
                let columns = columns.split(',').map(str::trim);
                all.extend(columns.map(|column| format!("{right} ({column})")));
                rest = after.trim_start_matches([',', ' ']);
            }
            None => {
                all.push(right.to_owned());
                rest = after.trim_start_matches([',', ' ']);
            }
        }
    }
    all
}
