//! Findings about the server, from what it answered.

use super::finding::{Code, Finding};
use crate::app::status::held;
use crate::postgres::survey::{Pin, Surroundings};
use crate::postgres::{Error, OLDEST_SERVER, Reached};

/// Clocks that are further apart than this make times of events wrong for whoever reads them.
const CLOCKS_APART: f64 = 1.0;
/// Sessions of a leader.
pub(super) const SESSIONS: i64 = 4;

/// Judges the hosts of the URL. The server to go on with is the first that takes writes.
pub(super) fn hosts(hosts: Vec<Result<Reached, Error>>) -> (Vec<Finding>, Option<Reached>) {
    let mut findings = Vec::new();
    let mut chosen = None;
    let mut standbys = Vec::new();
    for host in hosts {
        match host {
            Err(error) => findings.push(unusable(&error)),
            Ok(host) if host.server.version() < OLDEST_SERVER => findings.push(Finding::error(
                Code::PostgresVersion,
                format!(
                    "PostgreSQL {} is version {}",
                    host.server.shown(),
                    host.server.version() / 10_000
                ),
                "Doorbell uses what PostgreSQL has from version 14 on",
                "upgrade the server to PostgreSQL 14 or newer",
            )),
            Ok(host) if host.is_standby => standbys.push(host),
            Ok(host) if chosen.is_none() => chosen = Some(host),
            Ok(_) => {}
        }
    }
    if chosen.is_some() {
        for finding in &mut findings {
            *finding = Finding::warning(
                Code::HostAway,
                finding.what.clone(),
                "one of the hosts of DATABASE_URL is of no use now: after a failover to it the relay would wait",
                "bring it back, or take it out of DATABASE_URL",
            );
        }
    } else if let Some(standby) = standbys.into_iter().next() {
        findings.push(Finding::error(
            Code::PostgresStandby,
            format!("PostgreSQL {} is a standby server (in recovery)", standby.server.shown()),
            "a standby takes no writes: the relay could not delete what it sent",
            "name the primary in DATABASE_URL, or several hosts: postgres://relay@db1:5432,db2:5432/shop",
        ));
    }
    (findings, chosen)
}

pub(super) fn unusable(error: &Error) -> Finding {
    match error {
        Error::Refused { problem, remedy } => Finding::error(
            Code::PostgresRefused,
            problem.clone(),
            "the relay could not connect either",
            remedy.clone(),
        ),
        error => Finding::error(
            Code::PostgresAway,
            error.to_string(),
            "nothing can be relayed while the database is away; rows that applications write elsewhere wait",
            "start the server, or correct host and port in DATABASE_URL; a firewall or listen_addresses may be in the way",
        ),
    }
}

pub(super) fn pooler() -> Finding {
    Finding::error(
        Code::Pooler,
        "a session does not hear what another one notifies: there is a pooler in transaction mode between",
        "the relay listens and holds locks on sessions of its own; through such a pooler it would be deaf, so it refuses to start",
        "give the relay a direct connection to PostgreSQL (its own DATABASE_URL, past the pooler); writers may keep the pooler",
    )
}

/// `sessions`: how many the relay still has to open.
pub(super) fn surroundings(it: &Surroundings, sessions: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(clocks(it));
    let (left, limit) = &it.connections_left;
    if sessions > 0 && *left < sessions {
        found.push(Finding::warning(
            Code::Connections,
            format!("{} connections are left to role {} by {limit}, and the relay needs {sessions}", (*left).max(0), it.role),
            "a relay that finds no free connection waits, and so does every standby that should take over",
            match limit.split_whitespace().last() {
                Some("role") => format!("ALTER ROLE {} CONNECTION LIMIT {}", it.role, sessions * 3),
                Some("database") => format!("ALTER DATABASE {} CONNECTION LIMIT -1", it.database),
                _ => "end sessions that nobody needs, or raise max_connections (ALTER SYSTEM SET max_connections = ...; needs a restart)".into(),
            },
        ));
    }
    if !it.commits_unwaited.is_empty() {
        found.push(Finding::warning(
            Code::CommitsUnwaited,
            format!("synchronous_commit is off for {}", it.commits_unwaited.join(", ")),
            "a crash of the server can forget a transaction that it had called committed, after its event was sent",
            "ALTER ROLE or ALTER DATABASE ... RESET synchronous_commit, where events must not be ahead of the data",
        ));
    }
    if !it.switched_off.is_empty() {
        let reset: Vec<_> = (it
            .switched_off
            .iter()
            .map(|name| format!("ALTER SYSTEM SET {name} = on;")))
        .collect();
        found.push(Finding::warning(
            Code::ServerSettings,
            format!("the server runs with {} = off", it.switched_off.join(" = off, ")),
            "without fsync and full_page_writes a crash can destroy data; without autovacuum and track_counts the dead rows of a queue are never cleaned up",
            format!("{} SELECT pg_reload_conf();", reset.join(" ")),
        ));
    }
    if it.prepared_transactions > 0 {
        found.push(Finding::note(
            Code::TwoPhase,
            format!("max_prepared_transactions is {}: writers may work in two phases", it.prepared_transactions),
            "PREPARE TRANSACTION fails after a notification, so an insert into the outbox would make it fail whenever the relay sleeps",
            "have writers that prepare their transactions run: SET LOCAL doorbell.silent = on",
        ));
    }
    if !it.sees_sessions {
        found.push(Finding::note(
            Code::SeesLittle,
            format!("role {} does not see what sessions of other roles do", it.role),
            "who holds an old snapshot or keeps the relay awake can then not be named by `status` and `check`",
            format!("GRANT pg_read_all_stats TO {}", it.role),
        ));
    }
    found
}

fn clocks(it: &Surroundings) -> Option<Finding> {
    let (ahead, error) = it.clock_ahead;
    (ahead.abs() - error > CLOCKS_APART).then(|| {
        let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
        Finding::warning(
            Code::ClockSkew,
            format!("the clock of PostgreSQL is {:.1} s {direction} that of this machine", ahead.abs()),
            "created_at, and with it the timestamp of each record, comes from the server's clock: latencies and retention by time are wrong by as much",
            "synchronise both clocks: `timedatectl set-ntp true`, or `chronyc makestep`",
        )
    })
}

/// Where ordinary triggers are silent. A trigger that is set to ALWAYS is not.
pub(super) fn replica_role(it: &Surroundings, table: &str, always: bool) -> Option<Finding> {
    (!it.triggers_silent.is_empty() && !always).then(|| {
        Finding::warning(
            Code::ReplicaRole,
            format!(
                "session_replication_role is replica for {}",
                it.triggers_silent.join(", ")
            ),
            "ordinary triggers do not fire there: nobody is rung for, and rows wait for the sweep",
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER doorbell_ring"),
        )
        .runs_remedy()
    })
}

/// Who keeps dead rows from being cleaned up.
pub(super) fn pins(pins: &[Pin]) -> Vec<Finding> {
    pins.iter().map(pin).collect()
}

fn pin(pin: &Pin) -> Finding {
    let (what, remedy) = held(pin);
    Finding::warning(
        Code::SnapshotHeld,
        what,
        "rows that were deleted since cannot be cleaned up: the outbox and its index grow, and vacuum works in vain",
        remedy,
    )
}
