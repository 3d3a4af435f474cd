//! Findings about what our role may do.

use super::finding::{Code, Finding};
use crate::postgres::survey::Rights;

/// What it lacks, and what it has too much of.
pub(super) fn rights(rights: &Rights, role: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for vital in [true, false] {
        let missing = rights.missing.iter().filter(|it| it.vital == vital);
        let grants: Vec<_> = missing
            .map(|it| format!("GRANT {} ON {} TO {role};", it.right, it.on))
            .collect();
        if grants.is_empty() {
            continue;
        }
        let what = format!("role {role} lacks {} rights of the relay", grants.len());
        let remedy = grants.join("\n");
        found.push(match vital {
            true => Finding::error(Code::RightsMissing, what, "the relay cannot start without them, or stops working", remedy),
            false => Finding::warning(Code::RightsMissing, what, "rows that Kafka cannot take stay where they are, and `verify` and `status` cannot tell", remedy),
        });
    }
    if !rights.superfluous.is_empty() {
        found.push(Finding::warning(
            Code::RightsSuperfluous,
            format!("role {role} {}", rights.superfluous.join(", ")),
            "the relay needs none of it: whoever gets hold of its password could do as much",
            format!("psql \"$DATABASE_URL\" -f sql/roles.sql makes the role doorbell_relay, which has what is needed; then CREATE ROLE relay LOGIN IN ROLE doorbell_relay, and use it in place of {role}"),
        ));
    }
    found
}
