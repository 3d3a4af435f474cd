//! The schedule of faults: which, in which order, and how long each lasts. The seed decides all of
//! it before the first fault.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::plan::{Plan, word};

/// The kinds of faults. Each has a begin and an end; its text says what lies between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// kill -9 of the relay that leads; a new one starts
    KillLeader,
    /// kill -9 of any relay
    KillRelay,
    /// kill -9 of all relays
    KillAllRelays,
    /// SIGTERM to the relay that leads
    StopLeader,
    /// SIGSTOP and SIGCONT of the relay that leads
    FreezeLeader,
    /// SIGSTOP of the relay that leads, its sessions terminated so that another takes over, and
    /// SIGCONT
    DeposeFrozenLeader,
    /// One of the leading relay's sessions is terminated, or every session of all relays
    EndRelaySessions,
    /// Sessions of the writers are terminated, most of them in a transaction
    EndWriterSessions,
    /// The connections between the relays and PostgreSQL are cut
    CutPostgres,
    /// No byte passes between the relays and PostgreSQL
    StallPostgres,
    /// PostgreSQL restarts: fast shutdown
    RestartPostgresFast,
    /// PostgreSQL restarts: immediate shutdown, with recovery from its log
    RestartPostgresImmediate,
    /// kill -9 of all of PostgreSQL, and its restart
    KillPostgres,
    /// PostgreSQL is killed and its standby promoted, which had all that was committed; the former
    /// primary becomes the standby
    FailOver,
    /// The connections between the relays and Kafka are cut
    CutKafka,
    /// No byte passes between the relays and Kafka
    StallKafka,
    /// kill -9 of a broker, and its restart
    KillBroker,
    /// An orderly restart of a broker
    RestartBroker,
    /// SIGSTOP and SIGCONT of a broker
    FreezeBroker,
    /// The disk of a broker's log fills up, and has room again
    FillBrokerDisk,
}

/// The time that a fault needs in addition to its own, in milliseconds, and its frequency in a
/// thousand.
struct Nature {
    often: u32,
    lasts: std::ops::Range<u64>,
    /// Faults of the same system do not overlap.
    room: Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Relays,
    Postgres,
    Kafka,
}

impl Kind {
    fn nature(self) -> Nature {
        use Room::{Kafka, Postgres, Relays};
        let (often, lasts, room) = match self {
            Self::KillLeader => (170, 0..300, Relays),
            Self::KillRelay => (70, 0..300, Relays),
            Self::KillAllRelays => (30, 0..300, Relays),
            Self::StopLeader => (50, 0..300, Relays),
            Self::FreezeLeader => (80, 50..1_500, Relays),
            Self::DeposeFrozenLeader => (90, 200..1_500, Relays),
            Self::EndRelaySessions => (110, 0..50, Postgres),
            Self::EndWriterSessions => (60, 0..50, Postgres),
            Self::CutPostgres => (80, 0..50, Postgres),
            Self::StallPostgres => (50, 100..2_500, Postgres),
            Self::RestartPostgresFast => (30, 0..500, Postgres),
            Self::RestartPostgresImmediate => (30, 0..500, Postgres),
            Self::KillPostgres => (20, 0..500, Postgres),
            Self::FailOver => (25, 0..300, Postgres),
            Self::CutKafka => (50, 0..50, Kafka),
            Self::StallKafka => (30, 100..2_500, Kafka),
            Self::KillBroker => (30, 0..1_000, Kafka),
            Self::RestartBroker => (10, 0..500, Kafka),
            Self::FreezeBroker => (20, 100..4_000, Kafka),
            Self::FillBrokerDisk => (10, 0..200, Kafka),
        };
        Nature { often, lasts, room }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(self))
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Chooses among relays, sessions and brokers.
    pub(crate) pick: u32,
    /// From its begin to its end.
    pub(crate) lasts: Duration,
}

/// A fault, possibly a second one while it lasts, and the calm after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Wave {
    pub(crate) first: Fault,
    /// Begins and ends within the first fault.
    pub(crate) second: Option<Fault>,
    /// The pause after everything has arrived.
    pub(crate) calm: Duration,
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.first.kind, self.first.lasts)?;
        if let Some(second) = &self.second {
            write!(f, ", in it {} for {:?}", second.kind, second.lasts)?;
        }
        Ok(())
    }
}

/// One in so many waves has two faults at once.
const DOUBLE: u32 = 5;

/// Returns all waves of a plan. `has_disk`: a small disk for a broker could be mounted.
pub(crate) fn waves(plan: &Plan, has_disk: bool) -> Vec<Wave> {
    let mut random = fastrand::Rng::with_seed(plan.seed());
    let kinds: Vec<Kind> = Kind::value_variants()
        .iter()
        .copied()
        .filter(|kind| plan.only.is_empty() || plan.only.contains(kind))
        .filter(|kind| has_disk || *kind != Kind::FillBrokerDisk)
        .collect();
    assert!(!kinds.is_empty(), "no kind of fault is left");
    let mut waves = Vec::new();
    let mut faults = 0;
    while faults < plan.faults {
        // Each kind once at first, so that a short run also has most of them.
        let first = match kinds.get(waves.len()) {
            Some(_) if plan.faults >= kinds.len() * 2 => kinds[waves.len()],
            _ => choose(&mut random, &kinds),
        };
        let first = fault(&mut random, first);
        let may_double = plan.faults - faults > 1 && random.u32(0..DOUBLE) == 0;
        let room = first.kind.nature().room;
        let others: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|kind| kind.nature().room != room)
            .collect();
        let second = (may_double && !others.is_empty()).then(|| {
            let kind = choose(&mut random, &others);
            fault(&mut random, kind)
        });
        faults += 1 + usize::from(second.is_some());
        waves.push(Wave {
            first,
            second,
            calm: Duration::from_millis(random.u64(0..400)),
        });
    }
    waves
}

fn choose(random: &mut fastrand::Rng, kinds: &[Kind]) -> Kind {
    let all = kinds.iter().map(|kind| kind.nature().often).sum();
    let mut at = random.u32(0..all);
    for kind in kinds {
        match at.checked_sub(kind.nature().often) {
            Some(rest) => at = rest,
            None => return *kind,
        }
    }
    unreachable!("the sum bounds it")
}

fn fault(random: &mut fastrand::Rng, kind: Kind) -> Fault {
    Fault {
        kind,
        pick: random.u32(..),
        lasts: Duration::from_millis(random.u64(kind.nature().lasts)),
    }
}
