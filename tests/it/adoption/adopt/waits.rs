//! `adopt --apply` beside writers, behind a long transaction, and after an interruption.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

use super::{DEBEZIUM, adopt, adoptable, catalogue, path, printed_config, printed_sql};
use crate::support::{Consumer, Relay, World, create_topic, doorbell, eventually};

/// No writer waits for longer.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

const INSERT: &str = "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) VALUES ('order', 'k', 'New', '{}')";

/// Starts `adopt` and returns its process.
fn spawn(world: &World) -> Relay {
    let mut command = doorbell(world, &["adopt", "outboxevent", "--apply"]);
    Relay::of(command.stdout(Stdio::null()))
}

#[test]
fn it_says_whom_it_waits_for_while_others_write_and_goes_on_when_that_ends() {
    let mut world = adoptable("adoptwaits", DEBEZIUM);
    let mut holder = world.connect();
    let pid = world.text_on(&mut holder, "SELECT pg_backend_pid()::text");
    world.sql_on(&mut holder, &format!("BEGIN; {INSERT}"));
    let mut run = spawn(&world);
    run.await_log(&format!("waiting for server process {pid},"));
    // It does not keep others out.
    let begun = Instant::now();
    world.sql(INSERT);
    assert!(begun.elapsed() < LONGEST_WAIT, "{:?}", begun.elapsed());
    world.sql_on(&mut holder, "COMMIT");
    assert!(run.wait().success(), "{:?}", run.log());
    assert_eq!(
        world.number("SELECT count(*) FROM outboxevent WHERE seq IS NULL"),
        2
    );
    world.sql(INSERT);
    assert_eq!(world.number("SELECT max(seq) FROM outboxevent"), 1);
}

#[test]
fn after_an_interruption_the_next_run_goes_on_and_replaces_the_invalid_index() {
    let mut world = adoptable("adoptcut", DEBEZIUM);
    let before = catalogue(&mut world, "outboxevent");
    let steps = printed_sql(&adopt(&world, &["outboxevent"]));
    assert_eq!(steps.len(), 3);
    world.sql(&steps[0]);
    let mut holder = world.connect();
    let pid = world.text_on(&mut holder, "SELECT pg_backend_pid()::text");
    world.sql_on(&mut holder, &format!("BEGIN; {INSERT}"));
    // The creation of the index waits for it.
    let run = spawn(&world);
    run.await_log(&format!("waiting for server process {pid},"));
    run.kill();
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'doorbell % adopt%' AND datname = current_database()");
    let invalid =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'outboxevent'::regclass AND NOT indisvalid";
    world.await_number(invalid, 1);
    world.await_number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell % adopt%' AND datname = current_database()", 0);
    let plan = printed_sql(&adopt(&world, &["outboxevent"])).concat();
    assert!(
        plan.contains("DROP INDEX CONCURRENTLY public.outboxevent_seq_key;"),
        "{plan}"
    );
    world.sql_on(&mut holder, "COMMIT");
    adopt(&world, &["outboxevent", "--apply"]);
    assert_eq!(world.number(invalid), 0);
    world.sql(INSERT);
    assert_eq!(
        world.number("SELECT count(*) FROM outboxevent WHERE seq = 1"),
        1
    );
    adopt(&world, &["outboxevent", "--undo", "--apply"]);
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
}

/// Writers that insert one row after the other, and the longest time that one of them took.
struct Writers {
    stop: Arc<AtomicBool>,
    longest: Arc<AtomicU64>,
    rows: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(world: &World, count: usize) -> Self {
        let (stop, longest, rows) = (Arc::default(), Arc::default(), Arc::default());
        let thread = |_| {
            let stop: Arc<AtomicBool> = Arc::clone(&stop);
            let (longest, rows): (Arc<AtomicU64>, Arc<AtomicU64>) =
                (Arc::clone(&longest), Arc::clone(&rows));
            let url = world.database_url.clone();
            std::thread::spawn(move || write(&url, &stop, &longest, &rows))
        };
        let threads = (0..count).map(thread).collect();
        Self {
            stop,
            longest,
            rows,
            threads,
        }
    }

    /// Waits until so many more rows are committed.
    fn await_rows(&self, more: u64) {
        let until = self.rows.load(Ordering::Relaxed) + more;
        eventually("rows are written", || {
            (self.rows.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    /// Returns the longest wait, and how many rows there are.
    fn stop(self) -> (Duration, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no insert fails");
        }
        (
            Duration::from_micros(self.longest.load(Ordering::Relaxed)),
            self.rows.load(Ordering::Relaxed),
        )
    }
}

/// Inserts until it is told to end.
fn write(url: &str, stop: &AtomicBool, longest: &AtomicU64, rows: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options: PgConnectOptions = url.parse().expect("a database URL");
    let session = options.disable_statement_logging();
    let mut session = runtime.block_on(session.connect()).expect("a session");
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        runtime
            .block_on(session.execute(INSERT))
            .expect("an insert");
        let took = u64::try_from(begun.elapsed().as_micros()).expect("a short time");
        longest.fetch_max(took, Ordering::Relaxed);
        rows.fetch_add(1, Ordering::Relaxed);
    }
}

/// `ADOPT_ROWS` is another number of old rows, for a measurement by hand.
#[test]
fn writers_wait_for_less_than_200_ms_and_every_row_is_old_or_sent() {
    let rows: u64 = std::env::var("ADOPT_ROWS").map_or(200_000, |it| it.parse().expect("a number"));
    let mut world = adoptable("adoptload", DEBEZIUM);
    world.sql(&format!(
        "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) SELECT 'order', n::text, 'Old', '{{\"n\": 1}}' FROM generate_series(1, {rows}) n"
    ));
    let before = catalogue(&mut world, "outboxevent");
    let writers = Writers::start(&world, 4);
    writers.await_rows(500);
    let begun = Instant::now();
    let plan = adopt(&world, &["outboxevent", "--apply"]);
    let took = begun.elapsed();
    writers.await_rows(500);
    let (longest, written) = writers.stop();
    println!("{rows} old rows: adopted in {took:?}, longest wait of a writer {longest:?}");
    assert!(longest < LONGEST_WAIT, "a writer waited for {longest:?}");

    let numbered = world.number("SELECT count(*) FROM outboxevent WHERE seq IS NOT NULL");
    assert!(numbered >= 500, "{numbered}");
    assert_eq!(
        world.number("SELECT count(*) FROM outboxevent"),
        (rows + written) as i64
    );
    assert_eq!(
        world.number("SELECT count(*) FROM outboxevent WHERE type = 'Old' AND seq IS NOT NULL"),
        0
    );
    let prefix = world.topic.replace("outbox", "event");
    let topic = format!("{prefix}.order");
    create_topic(&world, &topic, 1, &[]);
    let file = printed_config(&plan, &prefix, "");
    let config = ["--config", path(&file)];
    world.migrate(&config);
    let relay = Relay::leading(&world, &config);
    world.await_number("SELECT count(*) FROM outboxevent WHERE seq IS NOT NULL", 0);
    assert!(relay.stop().success());
    let sent = Consumer::new(&world, &topic).drain().len();
    assert_eq!(
        sent as i64, numbered,
        "rows without a number were sent, or some with one were not"
    );

    let undone = world.doorbell(&[&["migrate", "--undo"], &config[..]].concat());
    assert!(undone.status.success(), "{undone:?}");
    let writers = Writers::start(&world, 4);
    writers.await_rows(500);
    adopt(&world, &["outboxevent", "--undo", "--apply"]);
    let (longest, _) = writers.stop();
    assert!(longest < LONGEST_WAIT, "a writer waited for {longest:?}");
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
}
