//! Ordinary traffic is no finding: nothing is concluded from a moment between two looks, nor from
//! sessions that are merely busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::support::{Checkup, Load, Relay, Roles, World, create_topic, eventually};

/// What `check` infers from sessions and locks.
const INFERRED: &[&str] = &[
    "silent-writer",
    "leader-stranger",
    "bell-stranger",
    "order-stranger",
    "snapshot-held",
    "no-leader",
    "stuck",
    "table-locked",
    "sequence-behind",
    "connections",
    "other-version",
    "frozen-takeover",
];
/// What `status` says of them.
const WORDS: &[&str] = &[
    "did not ring",
    "no relay",
    "no writer",
    "stuck",
    "snapshot",
    "unless one",
];

/// A session that runs the same statements again and again, until it is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn with(url: String, first: &str, again: &str) -> Self {
        let (first, again) = (first.to_owned(), again.to_owned());
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = async move {
            let options: PgConnectOptions = url.parse().expect("a URL");
            let options = options.disable_statement_logging();
            let mut session: PgConnection = options.connect().await.expect("a session");
            let sql = |text: &str| sqlx::raw_sql(AssertSqlSafe(text.to_owned()));
            session.execute(sql(&first)).await.expect("it begins");
            while !stopped.load(Ordering::Relaxed) {
                session.execute(sql(&again)).await.expect("it goes on");
            }
            session.close().await.expect("it ends");
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(run);
        });
        let thread = Some(thread);
        Self { stop, thread }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it ends once").join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn status(world: &World) -> String {
    let output = world.doorbell(&["status"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn assert_status_is_quiet(world: &World) {
    let status = status(world);
    for word in WORDS {
        assert!(!status.contains(word), "{word} in {status}");
    }
}

#[test]
fn beside_writers_that_commit_at_once_nothing_is_cried() {
    let mut world = World::new("quiet");
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let writers = [(); 3].map(|()| Load::start(&world));
    writers[0].await_rows(100);
    for _ in 0..40 {
        assert_status_is_quiet(&world);
    }
    // Rows may be older than they are in the table, and flow all the same.
    world.sql("ALTER TABLE outbox ALTER created_at SET DEFAULT now() - interval '1 hour'");
    writers[0].await_rows(1_000);
    for _ in 0..3 {
        assert_status_is_quiet(&world);
        Checkup::of(&world, &["--old", "1s"]).lacks(INFERRED);
    }
    // Of several that are open, those that only come and go are not counted.
    let mut slow = world.connect();
    world.sql_on(
        &mut slow,
        "SET application_name = 'slow'; BEGIN; SET LOCAL doorbell.silent = on; INSERT INTO outbox (type) VALUES ('t')",
    );
    let said = eventually("the slow one is named", || {
        Some(status(&world)).filter(|it| it.contains("did not ring"))
    });
    assert!(
        said.contains("\"slow\"") && !said.contains(" more)"),
        "{said}"
    );
    world.sql_on(&mut slow, "COMMIT");
    for writer in writers {
        writer.stop();
    }
    world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn sessions_that_are_busy_hold_no_old_snapshot_and_those_of_other_databases_nothing() {
    let mut world = World::new("busy");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    let url = world.database_url.clone();
    let url = || url.clone();
    // A transaction that is long and reads committed rows, while others write.
    let reader = Busy::with(url(), "BEGIN", "SELECT count(*) FROM pg_class");
    let writer = Busy::with(url(), "", "SELECT pg_current_xact_id()");
    // VACUUM, which other vacuums do not wait for.
    world.sql("CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 350)");
    let vacuum = Busy::with(
        url(),
        "SET vacuum_cost_delay = '100ms'; SET vacuum_cost_limit = 1",
        "VACUUM (DISABLE_PAGE_SKIPPING) wide",
    );
    // Another database, with the same locks.
    let other = World::new("busyother");
    let mut elsewhere = other.connect();
    let oid = world.number("SELECT 'outbox'::regclass::oid::bigint");
    let lock =
        |class: u32| format!("SELECT pg_advisory_lock({class}, {oid}), pg_current_xact_id();");
    let locks = [0x646f_6f72, 0x6265_6c6c, 0x6f72_6472].map(lock).concat();
    other.sql_on(&mut elsewhere, &format!("BEGIN; {locks}"));
    let long = |kind: &str, world: &mut World| {
        let long = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '{kind}%' AND xact_start < clock_timestamp() - interval '5 seconds' AND datname = current_database()"
        );
        world.await_number(&long, 1);
    };
    long("VACUUM", &mut world);
    long("SELECT count(*) FROM pg_class", &mut world);
    for _ in 0..10 {
        Checkup::of(&world, &["--old", "4s"]).lacks(INFERRED);
        assert_status_is_quiet(&world);
    }
    // A cursor keeps the snapshot of its first row.
    let mut cursor = world.connect();
    world.sql_on(
        &mut cursor,
        "SET application_name = 'cursor'; BEGIN; DECLARE c CURSOR FOR SELECT * FROM pg_class; FETCH c",
    );
    let end = eventually("the cursor is old", || {
        let checkup = Checkup::of(&world, &["--old", "4s"]);
        let found = !checkup.all("snapshot-held").is_empty();
        found.then(|| checkup.finds("warning", "snapshot-held", &["\"cursor\""]))
    });
    world.sql(&end);
    // The workers of a parallel query are not named beside their session.
    world.sql("CREATE TABLE many AS SELECT n FROM generate_series(1, 10000) n; ANALYZE many");
    drop(vacuum);
    let query = Busy::with(
        url(),
        "SET application_name = 'parallel'; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
        "SELECT count(*) FROM many WHERE pg_sleep(0.001) IS NOT NULL",
    );
    let workers = "SELECT least(count(*), 1) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND datname = current_database() \
        AND xact_start < clock_timestamp() - interval '5 seconds'";
    world.await_number(workers, 1);
    // The query may end, and the next one begin, before `check` asks.
    let checkup = eventually("the query is named", || {
        let checkup = Checkup::of(&world, &["--old", "4s"]);
        let named = |it: &&serde_json::Value| it["what"].to_string().contains("parallel");
        let found = checkup.all("snapshot-held").iter().any(named);
        found.then_some(checkup)
    });
    assert_eq!(
        checkup.all("snapshot-held").len(),
        1,
        "{:#}",
        checkup.answer
    );
    drop((query, reader, writer));
    other.sql_on(&mut elsewhere, "ROLLBACK; SELECT pg_advisory_unlock_all()");
    drop(elsewhere);
    assert!(relay.stop().success());
}

#[test]
fn writers_in_strict_order_are_writers_whatever_their_role() {
    let mut world = World::new("ordered");
    world.migrate(&["--table", "second"]);
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    world.sql(include_str!("../../../sql/strict_order.sql"));
    world.sql("SELECT doorbell.keep_order('outbox'), doorbell.keep_order('second')");
    let roles = Roles::new(&mut world);
    let caller = &roles.operator;
    // One role may insert some columns; one may call a function; and one writes to another outbox.
    world.sql(&format!(
        "CREATE FUNCTION place() RETURNS void LANGUAGE sql SECURITY DEFINER AS \
            $$ INSERT INTO outbox (type, key) VALUES ('t', 'placed'); SELECT pg_sleep(0.02) $$; \
         GRANT INSERT (type, key) ON second TO {}",
        roles.relay
    ));
    let insert = |table: &str| format!("INSERT INTO {table} (type, key) VALUES ('t', 'k')");
    let slowly = |table: &str| format!("BEGIN; {}; SELECT pg_sleep(0.02); COMMIT", insert(table));
    let writers = [
        Busy::with(world.url_as(&roles.writer), "", &slowly("outbox")),
        Busy::with(world.url_as(caller), "", "SELECT place()"),
        Busy::with(world.url_as(&roles.relay), "", &slowly("second")),
    ];
    for _ in 0..20 {
        assert_status_is_quiet(&world);
    }
    Checkup::of(&world, &["--old", "1s"]).lacks(INFERRED);
    drop(writers);
    world.await_empty();
    assert!(relay.stop().success());
    roles.drop(&mut world);
}

#[test]
fn from_one_leader_to_the_next_no_relay_is_missed_and_one_of_another_outbox_is_not_waited_for() {
    let mut world = World::new("handover");
    world.migrate(&["--table", "second"]);
    create_topic(&world, &world.topic, 1, &[]);
    let mut leader = Relay::leading(&world, &[]);
    for _ in 0..5 {
        let next = Relay::spawn(&world, &[]);
        next.await_log("standby");
        std::thread::scope(|scope| {
            let world = world.database_url.as_str();
            let looks = scope.spawn(move || {
                let looks = (0..5).map(|_| {
                    let mut status = std::process::Command::new(env!("CARGO_BIN_EXE_doorbell"));
                    status.args(["status", "--database-url", world]);
                    status.output().expect("it runs").stdout
                });
                looks.collect::<Vec<_>>()
            });
            assert!(leader.stop().success());
            for look in looks.join().expect("looks") {
                let look = String::from_utf8(look).expect("text");
                assert!(!look.contains("no relay"), "{look}");
            }
        });
        next.await_log("leading");
        leader = next;
    }
    let output = world.doorbell(&["status", "--table", "second"]);
    let second = String::from_utf8(output.stdout).expect("text");
    assert!(
        second.contains("none: no relay runs for this outbox\n"),
        "{second}"
    );
    assert!(leader.stop().success());
    world.await_empty();
}

#[test]
fn rows_flow_past_one_that_is_held_and_a_relay_of_few_connections_finds_its_own() {
    let mut world = World::new("heldquiet");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("ALTER TABLE outbox ALTER created_at SET DEFAULT now() - interval '1 hour'");
    let relay = Relay::leading(&world, &["--poison", "hold-key"]);
    world.sql("INSERT INTO outbox (type, key, headers) VALUES ('t', 'held', '[]')");
    relay.await_log("later rows of its key wait behind it");
    let writer = Load::start(&world);
    writer.await_rows(100);
    let said = eventually("the key is held", || {
        Some(status(&world)).filter(|it| it.contains("held list"))
    });
    assert!(!said.contains("stuck"), "{said}");
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "keys-held", &[]);
    checkup.lacks(INFERRED);
    writer.stop();
    world.sql("DELETE FROM outbox WHERE key = 'held'");
    world.await_empty();
    assert!(relay.stop().success());

    // As many as a leader opens; those of the command are not counted.
    let roles = Roles::new(&mut world);
    let limit = |sessions| format!("ALTER ROLE {} CONNECTION LIMIT {sessions}", roles.relay);
    world.sql(&limit(4));
    let url = world.url_as(&roles.relay);
    for _ in 0..5 {
        Checkup::of(&world, &["--database-url", &url]).lacks(&["connections"]);
    }
    world.sql(&limit(3));
    Checkup::of(&world, &["--database-url", &url]).finds("warning", "connections", &["3"]);
    roles.drop(&mut world);
}
