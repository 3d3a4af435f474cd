//! All kinds of writers at once, at random, with the sweep an hour away: no row is lost, and none
//! waits for longer than the design allows.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::{Consumer, Relay, World, create_topic};

const WRITERS: usize = 6;
/// Periods of load, each followed by silence until everything committed has arrived: a row without
/// a notification has no later row to save it.
const PHASES: usize = 40;
/// The longest period of load, around the time that the relay stays awake without a row (5 to 200
/// ms).
const PHASE: Duration = Duration::from_millis(400);
/// Before them, each writer commits so many times one row at about the same moment, after a
/// silence: the relay is about to fall asleep.
const MOMENTS: usize = 150;
/// The silence before each: rows are then so rare that the relay sleeps as soon as it can.
const RARELY: Duration = Duration::from_millis(80);
/// Writers of such a moment.
const FEW: usize = 3;
/// The leader is killed each time that so many have passed.
const PHASES_OF_A_LEADER: usize = 8;

/// How long a row may wait from its commit to its consumer while a relay leads. It is the sum of:
/// - 0.9 s: a row that was silent, beside a transaction that is silent and stays open, is found
///   when the relay's wait for the key ends. All other waits of the design are shorter: the pause
///   of a relay that is awake (20 ms), the look over many gaps (0.25 s);
/// - 1.6 s for a machine that does other things: fetch, produce and consume take milliseconds of
///   it.
///
/// A row without a notification would wait for an hour.
const BOUND: Duration = Duration::from_millis(900 + 1_600);

/// No record for so long means that none will come: far above the bound, the longest transaction
/// (2.5 s) and a takeover (a second).
const SILENCE: Duration = Duration::from_secs(20);

/// When each row was committed, by its text, and which must never arrive.
#[derive(Default)]
struct Ledger {
    committed: Mutex<HashMap<String, Instant>>,
    rolled_back: Mutex<HashSet<String>>,
}

impl Ledger {
    fn is_all_in(&self, arrived: &HashMap<String, Instant>) -> bool {
        let committed = self.committed.lock().expect("no panic holds it");
        committed.keys().all(|text| arrived.contains_key(text))
    }
}

struct Writer<'a> {
    session: PgConnection,
    runtime: tokio::runtime::Runtime,
    random: fastrand::Rng,
    ledger: &'a Ledger,
    name: usize,
    rows: usize,
}

impl Writer<'_> {
    fn execute(&mut self, sql: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = self.runtime.block_on(self.session.execute(statements));
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A statement that inserts one row, and the row's text.
    fn insert(&mut self) -> (String, String) {
        self.rows += 1;
        let text = format!("{} {}", self.name, self.rows);
        let sql = format!("INSERT INTO outbox (type, payload) VALUES ('x', '{text}');");
        (sql, text)
    }

    /// A commit is recorded when the server has confirmed it.
    fn commit(&mut self, sql: &str, texts: Vec<String>) {
        self.execute(sql);
        let now = Instant::now();
        let mut committed = self.ledger.committed.lock().expect("no panic holds it");
        committed.extend(texts.into_iter().map(|text| (text, now)));
    }

    fn never(&self, text: String) {
        let mut rolled_back = self.ledger.rolled_back.lock().expect("no panic holds it");
        rolled_back.insert(text);
    }

    fn pause(&mut self, longest: u64) {
        thread::sleep(Duration::from_micros(self.random.u64(0..longest * 1_000)));
    }

    /// One row, within the few milliseconds in which a relay that was woken fetches and falls
    /// asleep again.
    fn commit_soon(&mut self) {
        self.pause(4);
        let (insert, text) = self.insert();
        self.commit(&insert, vec![text]);
    }

    /// One thing that a writer may do.
    fn act(&mut self) {
        match self.random.u32(0..20) {
            // A burst, each row on its own.
            0..8 => {
                for _ in 0..self.random.usize(1..30) {
                    let (insert, text) = self.insert();
                    self.commit(&insert, vec![text]);
                }
            }
            // Savepoints: one is rolled back, one released.
            8..11 => {
                let rows: Vec<_> = (0..4).map(|_| self.insert()).collect();
                let [(a, ta), (b, tb), (c, tc), (d, td)] =
                    <[_; 4]>::try_from(rows).expect("four rows");
                self.execute(&format!("BEGIN; {a} SAVEPOINT s; {b}"));
                self.pause(5);
                self.execute(&format!("ROLLBACK TO s; {c} SAVEPOINT t; {d} RELEASE t"));
                self.never(tb);
                self.commit("COMMIT", vec![ta, tc, td]);
            }
            11..13 => {
                let (insert, text) = self.insert();
                self.execute(&format!("BEGIN; {insert}"));
                self.pause(5);
                self.execute("ROLLBACK");
                self.never(text);
            }
            // Everything that the transaction inserts is rolled back to a savepoint, so that only
            // its locks remain.
            13 => {
                let (insert, text) = self.insert();
                self.execute(&format!("BEGIN; SAVEPOINT s; {insert} ROLLBACK TO s"));
                self.never(text);
                let (insert, text) = self.insert();
                self.pause(20);
                self.commit(&format!("{insert} COMMIT"), vec![text]);
            }
            // Open for long: the others continue meanwhile, and the relay may stop polling.
            14 => {
                let (insert, text) = self.insert();
                self.execute(&format!("BEGIN; {insert}"));
                let longest = if self.random.u32(0..10) == 0 {
                    2_500
                } else {
                    50
                };
                self.pause(longest);
                self.commit("COMMIT", vec![text]);
            }
            // Around the pauses of a relay that is awake.
            15 => self.pause(100),
            16 => self.pause(40),
            _ => self.pause(8),
        }
    }
}

/// Lets the writers act, or makes them pause.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    is_over: AtomicBool,
    acting: AtomicUsize,
    /// How often the first writers were asked to commit one row each, and how often one of them did
    /// so.
    asked: AtomicUsize,
    answered: AtomicUsize,
}

impl Gate {
    /// Acts repeatedly while the gate is open, until the end.
    fn pass(&self, writer: &mut Writer<'_>) {
        let mut answers = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            self.acting.fetch_add(1, Ordering::SeqCst);
            let is_open = self.is_open.load(Ordering::SeqCst);
            if is_open {
                writer.act();
            } else if writer.name < FEW && answers < self.asked.load(Ordering::SeqCst) {
                writer.commit_soon();
                answers += 1;
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            self.acting.fetch_sub(1, Ordering::SeqCst);
            if !is_open {
                // The interval of a poll, not a wait for luck.
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Asks each of the first writers for one row.
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Ordering::SeqCst) == self.asked.load(Ordering::SeqCst) * FEW
    }

    /// Whether all writers are at rest. A writer that only checks the gate counts for a moment.
    fn is_at_rest(&self) -> bool {
        !self.is_open.load(Ordering::SeqCst) && self.acting.load(Ordering::SeqCst) == 0
    }
}

fn write(name: usize, seed: u64, url: &str, ledger: &Ledger, gate: &Gate) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let session = runtime.block_on(PgConnection::connect(url));
    let mut writer = Writer {
        session: session.expect("a session"),
        runtime,
        random: fastrand::Rng::with_seed(seed + name as u64),
        ledger,
        name,
        rows: 0,
    };
    gate.pass(&mut writer);
}

/// A time without a leader: from a kill to the moment at which the next relay reported that it
/// leads.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: Instant,
    until: Option<Instant>,
}

/// The relays, one of which leads, and their ends.
struct Relays<'a> {
    world: &'a World,
    leader: Option<Relay>,
    standby: Relay,
    outages: Vec<Outage>,
}

impl<'a> Relays<'a> {
    fn start(world: &'a World) -> Self {
        let leader = Relay::leading(world, &[]);
        let standby = Relay::spawn(world, &[]);
        standby.await_log("standby");
        Self {
            world,
            leader: Some(leader),
            standby,
            outages: Vec::new(),
        }
    }

    fn kill(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let from = Instant::now();
        self.leader.take().expect("a leader").kill();
        self.outages.push(Outage { from, until: None });
    }

    /// Whether a relay leads; the one that took over gets a standby.
    fn is_led(&mut self) -> bool {
        if self.leader.is_none() && self.standby.count_log("leading") > 0 {
            if let Some(outage) = self.outages.last_mut() {
                outage.until = Some(Instant::now());
            }
            let next = Relay::spawn(self.world, &[]);
            self.leader = Some(std::mem::replace(&mut self.standby, next));
        }
        self.leader.is_some()
    }
}

/// Takes a record, and notes the first arrival of its text. Whether there was one.
fn listen(consumer: &mut Consumer, arrived: &mut HashMap<String, Instant>) -> bool {
    if !consumer.poll(Duration::from_millis(1)) {
        return false;
    }
    let now = Instant::now();
    if let Some(record) = consumer.received.last() {
        arrived.entry(record.text().to_owned()).or_insert(now);
    }
    true
}

/// Ends the writers, also when the test fails: the scope waits for them.
struct OverAtEnd<'a>(&'a Gate);

impl Drop for OverAtEnd<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// For how long of this time no relay led.
fn unled(outages: &[Outage], committed: Instant, arrived: Instant) -> Duration {
    let overlap = |outage: &Outage| {
        let until = outage.until.expect("a relay took over");
        until.min(arrived) - outage.from.max(committed).min(until.min(arrived))
    };
    outages.iter().map(overlap).sum()
}

#[test]
fn no_row_waits_for_long_whatever_writers_and_relays_do() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = std::env::var("DOORBELL_SEED").ok();
    let seed = seed.map_or_else(
        || u64::from(now.expect("a clock").subsec_nanos()),
        |seed| seed.parse().expect("a number"),
    );
    eprintln!("DOORBELL_SEED={seed} repeats what is chosen by chance here");
    let mut world = World::new("stress");
    create_topic(&world, &world.topic, 1, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let (ledger, gate) = (Ledger::default(), Gate::default());
    let mut arrived = HashMap::new();
    let mut relays = Relays::start(&world);

    thread::scope(|scope| {
        for name in 0..WRITERS {
            let (url, ledger, gate) = (&world.database_url, &ledger, &gate);
            scope.spawn(move || write(name, seed, url, ledger, gate));
        }
        let end = OverAtEnd(&gate);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..MOMENTS {
            gate.ask();
            let until = Instant::now() + RARELY;
            let mut last = Instant::now();
            while Instant::now() < until || !gate.is_answered() || !ledger.is_all_in(&arrived) {
                if listen(&mut consumer, &mut arrived) {
                    last = Instant::now();
                }
                assert!(last.elapsed() < SILENCE, "rows are missing");
            }
        }
        for phase in 1..=PHASES {
            gate.is_open.store(true, Ordering::SeqCst);
            let until = Instant::now() + PHASE.mul_f64(random.f64());
            while Instant::now() < until {
                listen(&mut consumer, &mut arrived);
                relays.is_led();
            }
            if phase % PHASES_OF_A_LEADER == 0 {
                relays.kill();
            }
            gate.is_open.store(false, Ordering::SeqCst);
            let mut last = Instant::now();
            while !relays.is_led() || !gate.is_at_rest() || !ledger.is_all_in(&arrived) {
                if listen(&mut consumer, &mut arrived) {
                    last = Instant::now();
                }
                assert!(last.elapsed() < SILENCE, "rows are missing");
            }
        }
        drop(end);
    });
    check(&ledger, &arrived, &relays.outages);
    let leader = relays.leader.take().expect("a leader");
    assert_eq!(leader.count_log("the sweep found rows"), 0);
    drop(relays);
    world.await_empty();
    assert!(leader.stop().success());
}

fn check(ledger: &Ledger, arrived: &HashMap<String, Instant>, outages: &[Outage]) {
    let committed = ledger.committed.lock().expect("no panic holds it");
    let rolled_back = ledger.rolled_back.lock().expect("no panic holds it");
    let mut waits: Vec<Duration> = Vec::with_capacity(committed.len());
    for (text, at) in &*committed {
        let arrival = arrived[text];
        // Its consumer may have it before the writer's commit is confirmed.
        let wait = arrival.saturating_duration_since(*at);
        let wait = wait.saturating_sub(unled(outages, *at, arrival));
        assert!(wait < BOUND, "{text} waited {wait:?}; {outages:?}");
        waits.push(wait);
    }
    let made_up: Vec<_> = arrived
        .keys()
        .filter(|text| !committed.contains_key(*text))
        .collect();
    assert!(made_up.is_empty(), "never committed: {made_up:?}");
    assert!(!rolled_back.is_empty(), "nothing was rolled back");
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 1_000];
    let took = outages.iter().filter_map(|it| Some(it.until? - it.from));
    eprintln!(
        "{} rows; waits: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}; takeovers {:?}",
        waits.len(),
        at(500),
        at(990),
        at(999),
        at(1_000),
        took.collect::<Vec<_>>()
    );
}
