//! Takes a snapshot of the monitor.

use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use super::kinds::{ProblemKind, Role};
use super::recorder::{Histograms, Monitor, RelayState, Seen, UnderWay};
use super::snapshot::{
    Backlog, Bell, Delayed, InFlight, KafkaState, Problem, Rows, Snapshot, Stages,
};
use crate::relay::clock::{is_finite, unix_micros};
use crate::relay::in_flight::InFlightStats;

impl Monitor {
    /// Takes a snapshot.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let ago = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        let UnderWay {
            standing,
            refused,
            held_keys,
        } = self.under_way();
        let state = self.state();
        let leads = state.role == Role::Leading;
        let sees_table = leads || state.role == Role::Paused;
        let seen = self.seen();
        let acknowledged = self.acknowledged_at.load(Ordering::Relaxed);
        let acknowledged_ago = unix_micros(SystemTime::now()).saturating_sub(acknowledged as i64);
        Snapshot {
            outbox: self.outbox.clone(),
            topic: self.topic.clone(),
            role: state.role,
            role_seconds: ago(state.since),
            server: state.server.clone(),
            problems: state.problems(&ago),
            bell: Bell {
                state: state.bell,
                changes: self.bell_changes.get(),
                rings: self.rings.get(),
            },
            rows: self.rows(),
            bytes: self.bytes.get(),
            fetches: self.fetches.get(),
            batches: self.batches.get(),
            delete_failures: self.delete_failures.get(),
            cursor_moves: self.cursor_moves.get(),
            takeovers: self.takeovers.get(),
            reconnects: self.reconnects.get(),
            producer_failures: self.producer_failures.get(),
            reserved_headers: self.kafka.reserved_headers.load(Ordering::Relaxed),
            backlog: sees_table
                .then(|| seen.backlog(standing.as_ref(), refused))
                .flatten(),
            waiting: seen.waiting(standing.as_ref(), &ago, acknowledged_ago as f64 / 1e6),
            trying_seconds: seen.trying.map(&ago),
            dead_letters: seen.dead.filter(|_| sees_table),
            delayed: seen.delayed.filter(|_| sees_table).map(|it| Delayed {
                rows: it.rows,
                is_more: it.is_more,
            }),
            in_flight: standing.map(in_flight),
            held_keys,
            kept_rows: self.kept.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
            last_acknowledged: (acknowledged > 0).then_some(acknowledged as f64 / 1e6),
            look_seconds: leads.then(|| ago(seen.looked.unwrap_or(state.since))),
            xmin_age: seen.xmin_age.filter(|_| leads),
            pin: seen.pin.clone().filter(|_| leads),
            kafka: self.kafka_state(&ago),
            stages: self.stages.read(),
            changes: state.incidents.0.iter().cloned().collect(),
            last_parked: state.last_parked.clone(),
            sweep_seconds: self.sweep.as_secs_f64(),
        }
    }

    /// What is in flight while the relay leads. It takes one lock at a time, because the stages
    /// take them too.
    fn under_way(&self) -> UnderWay {
        let state = self.state();
        if state.role != Role::Leading {
            return UnderWay::default();
        }
        let read = state.under_way.clone();
        drop(state);
        (read.0)()
    }

    fn kafka_state(&self, ago: &dyn Fn(Instant) -> f64) -> KafkaState {
        let away = self.kafka.unreachable_since();
        KafkaState {
            away_seconds: away.as_ref().map(|(since, _)| ago(*since)),
            away_reason: away.map(|(_, reason)| reason),
            traffic: self.kafka.traffic(),
        }
    }

    fn rows(&self) -> Rows {
        Rows {
            fetched: self.fetched.get(),
            published: self.published.get(),
            deleted: self.deleted.get(),
            dropped: self.dropped.get(),
            refused: self.refused.get(),
            parked: self.parked.get(),
            retried: self.retried.get(),
            swept: self.swept.get(),
        }
    }
}

impl RelayState {
    fn problems(&self, ago: &dyn Fn(Instant) -> f64) -> Vec<Problem> {
        let problem = |(kind, (since, words)): (&ProblemKind, &(Instant, String))| Problem {
            kind: *kind,
            words: words.clone(),
            seconds: ago(*since),
        };
        self.problems.iter().map(problem).collect()
    }
}

impl Seen {
    /// Rows above the cursor, and fetched rows that are still in the table.
    fn backlog(&self, standing: Option<&InFlightStats>, refused: usize) -> Option<Backlog> {
        let (held, oldest_held) = self.held;
        let in_flight = standing.and_then(|it| it.oldest);
        // Rows below the cursor are usually older than those above it.
        let below = in_flight.into_iter().chain(oldest_held).min();
        let oldest = below.or(self.oldest).filter(|at| is_finite(*at));
        let age = |at: i64| unix_micros(SystemTime::now()).saturating_sub(at).max(0) as f64 / 1e6;
        Some(Backlog {
            rows: self.above? + held + (standing.map_or(0, |it| it.rows) + refused) as u64,
            is_more: self.is_more,
            oldest_seconds: oldest.map(age),
            refused,
            held,
        })
    }

    /// The first row in flight, and for how many seconds it has waited, over terms. Between two
    /// terms, the row that the last one began with waits unless Kafka acknowledged a row since.
    fn waiting(
        &self,
        standing: Option<&InFlightStats>,
        ago: &dyn Fn(Instant) -> f64,
        acknowledged_ago: f64,
    ) -> Option<(i64, f64)> {
        let before = self.first.map(|(row, since)| (row, ago(since)));
        if !self.has_looked {
            let (row, waits) = before.filter(|(_, waits)| *waits < acknowledged_ago)?;
            return Some((row.id, waits));
        }
        let (row, micros) = standing?.first?;
        let same = before.filter(|(first, _)| *first == row);
        let waits = same.map_or(0.0, |(_, waits)| waits);
        Some((row.id, waits.max(micros as f64 / 1e6)))
    }
}

impl Histograms {
    fn read(&self) -> Stages {
        Stages {
            wake: self.wake.read(),
            fetch: self.fetch.read(),
            acknowledge: self.acknowledge.read(),
            delete: self.delete.read(),
            total: self.total.read(),
        }
    }
}

fn in_flight(standing: InFlightStats) -> InFlight {
    let seconds = |micros: u64| micros as f64 / 1e6;
    InFlight {
        rows: standing.rows,
        unacknowledged: standing.unacknowledged,
        bytes: standing.bytes,
        unacknowledged_seconds: standing.unacknowledged_for.map(seconds),
        undeleted_seconds: standing.undeleted_for.map(seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::event::RowId;
    use crate::relay::Readiness;
    use crate::relay::in_flight::{Limits, Window};

    #[test]
    fn a_row_that_terms_begin_with_and_leave_waits_since_the_first_of_them() {
        const TERM: Duration = Duration::from_millis(20);
        let monitor = Monitor::new(&crate::config::Outbox::default());
        monitor.became(Role::Leading, "leading");
        let row = |id| RowId { id, created_at: 0 };
        let in_flight = |id| {
            let mut window = Window::new(Limits { rows: 1, bytes: 1 });
            window.admit(row(id), 1);
            let standing = Some(window.standing());
            move || UnderWay {
                standing: standing.clone(),
                ..UnderWay::default()
            }
        };
        let waits = || monitor.snapshot().waiting;
        for term in 0..3_u32 {
            monitor.begin_term(in_flight(7));
            let before = (TERM * term).as_secs_f64();
            // The row of the last term waits until this one has looked.
            assert!(term == 0 || waits().is_some_and(|(id, it)| id == 7 && it >= before));
            assert!(!monitor.looks());
            monitor.brought([(row(7), 0)].into_iter(), 1, Instant::now(), Instant::now());
            monitor.looked(1, true, 0);
            assert!(waits().is_some_and(|(id, it)| id == 7 && it >= before));
            sleep(TERM);
            monitor.end_term();
        }
        assert!(waits().is_some_and(|(_, it)| it >= (TERM * 3).as_secs_f64()));
        // As of the sweep: the session may have ended since.
        let pin = serde_json::json!({ "kind": "session", "name": "report", "seconds": 299.0, "transactions": 5 });
        monitor.saw_xmin(Some(5), serde_json::from_value(pin).ok());
        sleep(TERM);
        let pin = monitor.snapshot().pin.expect("a session");
        assert_eq!(pin.seconds, Some(299.0));
        let judged = Readiness::of(&monitor.snapshot(), TERM * 3);
        let words = "stuck: row 7 is the first in flight, and has waited for ";
        assert!(
            !judged.ready && judged.words[0].starts_with(words),
            "{judged:?}"
        );
        sleep(Duration::from_millis(1));
        monitor.acknowledged(1);
        assert_eq!(waits(), None, "a row got through");
        monitor.begin_term(in_flight(8));
        assert!(!monitor.looks());
        let trying = || monitor.snapshot().trying_seconds;
        sleep(TERM);
        monitor.begin_term(in_flight(8));
        assert!(monitor.looks(), "the look of the last term failed");
        assert!(trying() >= Some(TERM.as_secs_f64()));
        monitor.looked(0, true, 0);
        assert_eq!(trying(), None);
    }
}
