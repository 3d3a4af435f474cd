//! What is told before anything is touched, and whether there is room for it.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::ensure;
use doorbell::Settings;
use rustix::fs::statvfs;

use super::plan::{Plan, shown_bytes};
use crate::fixture::{Ground, PREFIX};
use crate::report::value_name;

/// Checks that everything is there, and tells what will be done; `None` where the user does not
/// agree.
pub(super) async fn prepare(settings: &Settings, plan: &Plan) -> anyhow::Result<Option<Ground>> {
    let mut ground = Ground::inspect(settings, plan.sessions()).await?;
    let folder = ground.data_directory().await?;
    let free = folder.and_then(|folder| free_bytes(&folder));
    let needed = plan.cost().disk;
    ensure!(
        free.is_none_or(|free| free >= needed),
        "not enough disk: this may write {} at PostgreSQL, which has {} left; measure less with --rows, --backlog, --duration or --rates",
        shown_bytes(needed),
        shown_bytes(free.unwrap_or_default())
    );
    announce(plan, settings, &ground, free);
    Ok(agreed(plan.yes)?.then_some(ground))
}

/// Free bytes of the disk under a folder.
fn free_bytes(folder: &str) -> Option<u64> {
    let disk = statvfs(folder).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

fn announce(plan: &Plan, settings: &Settings, ground: &Ground, free: Option<u64>) {
    let parts: Vec<_> = plan.parts().iter().map(value_name).collect();
    let cost = plan.cost();
    let doorbell = match ground.has_doorbell {
        true => "",
        false => ", the schema doorbell, which is not there,",
    };
    let free = match free {
        Some(free) => format!("{} are free", shown_bytes(free)),
        None => "what is free there cannot be known from here".into(),
    };
    eprintln!(
        "doorbell bench: {} at PostgreSQL {}, database {}, and Kafka {}\n\
         \x20 makes   a schema {PREFIX}…{doorbell} and topics of the same name; they are removed at the end, also after Ctrl-C or an error\n\
         \x20 spares  your tables and topics; but the server and the brokers will be busy: choose some that no one is waiting for\n\
         \x20 writes  at most about {} at PostgreSQL ({free}) and {} at the brokers, whose free space cannot be known\n\
         \x20 takes   about {}, and up to {} sessions",
        parts.join(", "),
        ground.server.shown(),
        ground.database,
        settings.kafka.brokers,
        shown_bytes(cost.disk),
        shown_bytes(cost.brokers),
        humantime::format_duration(cost.time),
        plan.sessions(),
    );
    if !ground.leftovers.is_empty() {
        let statements = ground.leftovers.join("; ");
        eprintln!("  left    by a run that was killed, to be removed by: {statements}");
    }
    if !ground.topics_left.is_empty() {
        let topics = ground.topics_left.join(", ");
        eprintln!(
            "  left    by a run that was killed, unless one is running in another database: topics {topics}"
        );
    }
}

/// Asks at a terminal. Elsewhere there is no user to ask.
fn agreed(yes: bool) -> std::io::Result<bool> {
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
        assert!(free_bytes("/").expect("a disk") > 0);
        assert!(free_bytes("/no/such/folder").is_none());
    }
}
