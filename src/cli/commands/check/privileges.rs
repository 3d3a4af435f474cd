//! Findings about the role's privileges.

use super::finding::{Code, Finding};
use crate::numbers::counted;
use crate::postgres::inspect::Privileges;

pub(super) fn privileges(held: &Privileges, role: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for vital in [true, false] {
        let missing = held.missing.iter().filter(|it| it.vital == vital);
        let grants: Vec<_> = missing
            .map(|it| format!("GRANT {} ON {} TO {role};", it.right, it.on))
            .collect();
        if grants.is_empty() {
            continue;
        }
        let what = format!(
            "role {role} lacks {} of the relay",
            counted(grants.len(), "privilege")
        );
        let remedy = grants.join("\n");
        found.push(match vital {
            true => Finding::error(Code::RightsMissing, what, "the relay cannot start without them, or stops working", remedy),
            false => Finding::warning(Code::RightsMissing, what, "rows that Kafka rejects cannot become dead letters, and `verify` and `status` cannot read those", remedy),
        });
    }
    if !held.superfluous.is_empty() {
        found.push(Finding::warning(
            Code::RightsSuperfluous,
            format!("role {role} {}", held.superfluous.join(", ")),
            "the relay needs none of this, and a leaked password would allow all of it",
            format!("doorbell migrate --print roles | psql \"$DATABASE_URL\" creates the role doorbell_relay with the privileges that are needed; then CREATE ROLE relay LOGIN IN ROLE doorbell_relay, and use it instead of {role}"),
        ));
    }
    found
}
