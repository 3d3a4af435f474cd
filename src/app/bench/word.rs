//! What is said before anything is touched, and whether there is room for it.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::bail;
use rustix::fs::statvfs;

use super::plan::{Plan, shown_bytes};
use crate::config::Settings;
use crate::postgres::{Ground, SCRATCH_PREFIX, Server};

/// What was found before the start.
pub(super) struct Found<'a> {
    pub(super) settings: &'a Settings,
    pub(super) server: &'a Server,
    pub(super) ground: &'a Ground,
    /// Topics that a killed run may have left.
    pub(super) topics: &'a [String],
    /// Bytes that PostgreSQL's disk has free, where that can be known.
    pub(super) free: Option<u64>,
}

/// Free bytes of the disk under a folder.
pub(super) fn free_bytes(folder: &str) -> Option<u64> {
    let disk = statvfs(folder).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

/// Refuses a plan that PostgreSQL's disk cannot hold.
pub(super) fn check_room(plan: &Plan, free: Option<u64>) -> anyhow::Result<()> {
    let needed = plan.postgres_bytes();
    match free {
        Some(free) if free < needed => bail!(
            "not enough disk: this may write {} at PostgreSQL, which has {} left; measure less with --rows, --backlog, --duration or --rates",
            shown_bytes(needed),
            shown_bytes(free)
        ),
        _ => Ok(()),
    }
}

/// Says what will be done, on standard error.
pub(super) fn announce(plan: &Plan, found: &Found<'_>) {
    let parts: Vec<_> = plan.parts.iter().map(|part| part.name()).collect();
    let doorbell = if found.ground.has_doorbell {
        ""
    } else {
        ", the schema doorbell, which is not there,"
    };
    let free = match found.free {
        Some(free) => format!("{} are free", shown_bytes(free)),
        None => "what is free there cannot be known from here".into(),
    };
    eprintln!(
        "doorbell bench: {} at PostgreSQL {}, database {}, and Kafka {}\n\
         \x20 makes   a schema {SCRATCH_PREFIX}…{doorbell} and topics of the same name; they are removed at the end, also after Ctrl-C or an error\n\
         \x20 spares  your tables and topics; but the server and the brokers will be busy: choose some that nobody is waiting for\n\
         \x20 writes  at most about {} at PostgreSQL ({free}) and {} at the brokers, whose free space cannot be known\n\
         \x20 takes   about {}, and up to {} sessions",
        parts.join(", "),
        found.server.shown(),
        found.ground.database,
        found.settings.kafka.brokers,
        shown_bytes(plan.postgres_bytes()),
        shown_bytes(plan.broker_bytes()),
        humantime::format_duration(plan.time()),
        plan.sessions(),
    );
    if !found.ground.leftovers.is_empty() {
        let statements = found.ground.leftovers.join("; ");
        eprintln!("  left    by a run that was killed, to be removed by: {statements}");
    }
    if !found.topics.is_empty() {
        eprintln!(
            "  left    by a run that was killed, unless one is running in another database: topics {}",
            found.topics.join(", ")
        );
    }
}

/// Asks whoever sits at a terminal; nobody else is asked.
pub(super) fn agreed(yes: bool) -> std::io::Result<bool> {
    let stdin = std::io::stdin();
    if yes || !stdin.is_terminal() {
        return Ok(true);
    }
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_under_a_folder_has_room_or_not() {
        let free = free_bytes("/").expect("a disk");
        assert!(free > 0);
        assert!(free_bytes("/no/such/folder").is_none());
    }
}
