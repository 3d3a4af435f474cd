//! Findings about the server, from its answers.

use super::finding::{Code, Finding};
use super::hazards::hazards;
use crate::describe::{described, end, held};
use crate::numbers::counted_verb;
use crate::postgres::inspect::{OldSnapshot, ServerInfo};
use crate::postgres::{Error, Holder, OLDEST_SERVER, Reached};

/// Seconds between two clocks from which on times of events mislead consumers.
const MAX_CLOCK_SKEW: f64 = 1.0;
/// Sessions that a leader opens.
pub(super) const SESSIONS: i64 = 4;

/// Reports on the hosts of the URL, and returns the first server that accepts writes.
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
                "Doorbell needs PostgreSQL 14 or newer",
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
                "one of the hosts of DATABASE_URL is unusable now: after a failover to it the relay would wait",
                "restore it, or remove it from DATABASE_URL",
            );
        }
    } else if let Some(standby) = standbys.into_iter().next() {
        findings.push(Finding::error(
            Code::PostgresStandby,
            format!("PostgreSQL {} is a standby server (in recovery)", standby.server.shown()),
            "a standby accepts no writes: the relay could not delete the rows that it sent",
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
        Error::Statement { code, message } if code == "53300" => Finding::error(
            Code::Connections,
            message.clone(),
            "a relay that finds no free connection waits, and so does every standby that should take over",
            "end unneeded sessions, or raise the limit that the message names: max_connections, or CONNECTION LIMIT of the role or the database",
        ),
        Error::Statement { code, message } => Finding::error(
            Code::StatementFailed,
            format!("{message} (SQLSTATE {code})"),
            "the server is reachable, and a statement that the relay runs as well, or one like it, fails",
            remedy_of(code),
        ),
        error => Finding::error(
            Code::PostgresAway,
            error.to_string(),
            "nothing can be relayed while the database is unreachable",
            "start the server, or correct host and port in DATABASE_URL; a firewall or listen_addresses may be in the way",
        ),
    }
}

/// Returns what the operator can do about a class of errors.
fn remedy_of(code: &str) -> &'static str {
    match code {
        "55P03" => {
            "end the session that holds the lock: SELECT pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        }
        "57014" => {
            "ALTER ROLE or ALTER DATABASE ... RESET statement_timeout, or find out what made the statement slow"
        }
        "22021" | "22P05" => {
            "correct or delete the row that cannot be converted to UTF-8; the relay's log names it"
        }
        "54000" => "resolve notify-queue, if the queue of notifications is full",
        _ if code.starts_with("53") => {
            "give the server more room: its log says whether disk, memory or configuration is at its limit"
        }
        _ if code.starts_with("XX") || code.starts_with("58") => {
            "read the server's log: an internal error, or one of the disk"
        }
        _ => {
            "correct what the message names: a policy, a view, a function or a type that the table uses"
        }
    }
}

/// Reports the session that holds the table.
pub(super) fn table_locked(table: &str, holder: &Holder) -> Finding {
    Finding::error(
        Code::TableLocked,
        format!("table {table} is locked by {}", described(holder)),
        "no statement can read the table, and none can insert, until the lock (ACCESS EXCLUSIVE) is released",
        end(holder),
    )
}

/// Reports a connection that others on the network may read.
pub(super) fn plaintext(words: &str) -> Finding {
    Finding::warning(
        Code::PostgresPlaintext,
        words,
        "any machine on the way can read and change events, and the password if it is not hashed",
        "sslmode=verify-full in DATABASE_URL, with sslrootcert",
    )
}

pub(super) fn pooler() -> Finding {
    Finding::error(
        Code::Pooler,
        "a session does not receive the notifications of another one: a pooler in transaction mode is in between",
        "the relay needs sessions of its own for LISTEN and for locks; through such a pooler it would receive no notifications, so it refuses to start",
        "give the relay a direct connection to PostgreSQL (its own DATABASE_URL, past the pooler); writers may keep the pooler",
    )
}

/// Reports on settings of the server. `sessions`: how many relays still have to open.
pub(super) fn surroundings(it: &ServerInfo, sessions: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(clocks(it));
    let (left, limit) = &it.connections_left;
    if sessions > 0 && *left < sessions {
        found.push(Finding::warning(
            Code::Connections,
            format!(
                "{} left to role {} by {limit}, and the relay needs {sessions}",
                counted_verb((*left).max(0), "connection", "are"),
                it.role
            ),
            "a relay that finds no free connection waits, and so does every standby that should take over",
            match limit.split_whitespace().last() {
                Some("role") => format!("ALTER ROLE {} CONNECTION LIMIT {}", it.role, sessions * 3),
                Some("database") => format!("ALTER DATABASE {} CONNECTION LIMIT -1", it.database),
                _ => "end unneeded sessions, or raise max_connections (ALTER SYSTEM SET max_connections = ...; needs a restart)".into(),
            },
        ));
    }
    found.extend(hazards(&it.hazards));
    if it.read_only {
        found.push(Finding::warning(
            Code::ReadOnly,
            format!("default_transaction_read_only is on for role {} or database {}", it.role, it.database),
            "the relay sets it off for itself; writers like this one cannot insert, and other tools cannot migrate",
            "ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only",
        ));
    }
    if !it.commits_unwaited.is_empty() {
        found.push(Finding::warning(
            Code::CommitsUnwaited,
            format!("synchronous_commit is off for {}", it.commits_unwaited.join(", ")),
            "a crash of the server can lose a transaction that it reported as committed, after its event was sent",
            "ALTER ROLE or ALTER DATABASE ... RESET synchronous_commit, if events must not be ahead of the data",
        ));
    }
    if !it.switched_off.is_empty() {
        let reset = |name| format!("ALTER SYSTEM SET {name} = on;");
        let reset: Vec<_> = it.switched_off.iter().map(reset).collect();
        found.push(Finding::warning(
            Code::ServerSettings,
            format!("the server runs with {} = off", it.switched_off.join(" = off, ")),
            "without fsync and full_page_writes a crash can destroy data; without autovacuum and track_counts the dead rows of a queue are never vacuumed",
            format!("{} SELECT pg_reload_conf();", reset.join(" ")),
        ));
    }
    if it.prepared_transactions > 0 {
        found.push(Finding::note(
            Code::TwoPhase,
            format!("max_prepared_transactions is {}: writers may use two-phase commit", it.prepared_transactions),
            "PREPARE TRANSACTION fails after a notification, so it would fail after an insert into the outbox while the relay sleeps",
            "run in such transactions: SET LOCAL doorbell.silent = on",
        ));
    }
    if !it.sees_sessions {
        found.push(Finding::note(
            Code::SeesLittle,
            format!("role {} cannot see the sessions of other roles", it.role),
            "`status` and `check` cannot name the session that holds an old snapshot or keeps the relay awake",
            format!("GRANT pg_read_all_stats TO {}", it.role),
        ));
    }
    found
}

fn clocks(it: &ServerInfo) -> Option<Finding> {
    let (ahead, error) = it.clock_ahead;
    (ahead.abs() - error > MAX_CLOCK_SKEW).then(|| {
        let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
        Finding::warning(
            Code::ClockSkew,
            format!("the clock of PostgreSQL is {:.1} s {direction} that of this machine", ahead.abs()),
            "created_at, and with it the timestamp of each record, comes from the server's clock: latencies and retention by time are wrong by as much",
            "synchronise both clocks: `timedatectl set-ntp true`, or `chronyc makestep`",
        )
    })
}

/// Reports where ordinary triggers do not fire. A trigger that is set to ALWAYS does.
pub(super) fn replica_role(it: &ServerInfo, table: &str, always: bool) -> Option<Finding> {
    (!it.triggers_silent.is_empty() && !always).then(|| {
        Finding::warning(
            Code::ReplicaRole,
            format!(
                "session_replication_role is replica for {}",
                it.triggers_silent.join(", ")
            ),
            "ordinary triggers do not fire there: the relay is not notified, and rows wait for the sweep",
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER doorbell_ring"),
        )
        .runs_remedy()
    })
}

/// Reports an old snapshot, which keeps dead rows from being vacuumed.
pub(super) fn pin(pin: &OldSnapshot) -> Finding {
    let (what, remedy) = held(pin);
    Finding::warning(
        Code::SnapshotHeld,
        what,
        "vacuum cannot remove rows that were deleted since: the outbox and its index grow, and sweeps and a takeover take longer",
        remedy,
    )
}
