//! Each driver against a real PostgreSQL.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use doorbell_outbox::{Event, Outbox, PayloadColumn, Transaction, testing};

#[path = "../examples/place_order.rs"]
#[expect(dead_code, reason = "`main` is the program's")]
mod place_order;
#[path = "../examples/tokio_postgres.rs"]
#[expect(dead_code, reason = "`main` is the program's")]
mod tokio_postgres;

use sqlx_0_9::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const TABLES: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer text); \
     CREATE SCHEMA app; \
     CREATE TABLE app.json (id bigint GENERATED ALWAYS AS IDENTITY, type text, payload jsonb); \
     CREATE TABLE app.\"By\"\"tes\" (id bigint GENERATED ALWAYS AS IDENTITY, type text, key text, payload bytea, not_before timestamptz)";

/// The server that `scripts/test` starts, or that `scripts/services` has started before.
fn server() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        let services = Path::new(ROOT).join("scripts/services");
        let output = Command::new(services).arg("env").output();
        let output = String::from_utf8(output.expect("an answer").stdout).expect("text");
        let mut lines = output.lines();
        let url = lines.find_map(|line| line.strip_prefix("DATABASE_URL="));
        url.expect("run `make services` first").to_owned()
    })
}

/// Creates a database with an outbox, runs a test in it, and drops it.
#[track_caller]
fn with_database(driver: &str, test: impl AsyncFnOnce(&str)) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = server();
        let name = format!("writers_{driver}_{}", std::process::id());
        let mut admin = PgConnection::connect(&server).await.expect("a session");
        let create = format!("CREATE DATABASE {name}");
        admin
            .execute(AssertSqlSafe(create))
            .await
            .expect("a database");
        let (before, after) = server.split_once('?').unwrap_or((&server, ""));
        let slash = before.rfind('/').expect("a database in the URL");
        let url = format!("{}/{name}?{after}", &before[..slash]);
        let mut session = PgConnection::connect(&url).await.expect("a session");
        let migration = std::fs::read_to_string(Path::new(ROOT).join("migrations/0001_outbox.sql"));
        for sql in [migration.expect("the migration"), TABLES.to_owned()] {
            session.execute(AssertSqlSafe(sql)).await.expect("tables");
        }
        test(&url).await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        admin.execute(AssertSqlSafe(drop)).await.expect("an end");
    });
}

/// Writes and reads all that an event can have, in a transaction of any driver.
async fn every_event_is_written_as_it_is<T: Transaction>(tx: &mut T)
where
    T::Error: std::fmt::Debug,
{
    let events = [
        Event::new("plain"),
        Event::new("all")
            .key("7")
            .json(&vec!["é", "\""])
            .expect("JSON")
            .header("tenant", b"x")
            .header("bytes", b"\xff\0")
            .topic("orders"),
        Event::new("erased")
            .key("7")
            .bytes("x")
            .tombstone()
            .header("h", ""),
        Event::new("text").bytes("not JSON 🔔"),
    ];
    let many = (0..1_000).map(|n| Event::new("many").key(n.to_string()).bytes("{}"));
    let many: Vec<Event> = many.collect();
    let outbox = Outbox::DEFAULT;
    outbox.insert(tx, &events[0]).await.expect("one event");
    outbox.insert_all(tx, &events[1..]).await.expect("a batch");
    outbox.insert_all(tx, &[]).await.expect("nothing");
    outbox.insert_all(tx, &many).await.expect("many");
    let written = testing::events(tx).await.expect("events");
    assert_eq!(written, [&events[..], &many].concat());

    let json = Outbox::table("app.json").expect("a name");
    let json = json.payload(PayloadColumn::Json);
    let event = Event::new("json").json(&[1, 2]).expect("JSON");
    json.insert(tx, &event).await.expect("JSON as jsonb");
    assert_eq!(testing::events_of(&json, tx).await.expect("it"), [event]);

    let bytes = Outbox::table("app.\"By\"\"tes\"").expect("a name");
    let bytes = bytes.payload(PayloadColumn::Bytea);
    let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    let event = Event::new("bytes").bytes(b"\0\xff").not_before(time);
    bytes.insert(tx, &event).await.expect("bytes");
    assert_eq!(testing::events_of(&bytes, tx).await.expect("it"), [event]);
}

#[test]
fn sqlx_0_9() {
    with_database("sqlx_0_9", async |url| {
        let mut session = PgConnection::connect(url).await.expect("a session");
        // What others wrote is not what this transaction wrote.
        session
            .execute("INSERT INTO outbox (type) VALUES ('other')")
            .await
            .expect("a row");
        let mut tx = session.begin().await.expect("a transaction");
        tx.execute("SAVEPOINT s").await.expect("a savepoint");
        every_event_is_written_as_it_is(&mut tx).await;
        tx.rollback().await.expect("a rollback");

        let mut tx = session.begin().await.expect("a transaction");
        let placed = place_order::place(&mut tx, 7, "grace").await;
        placed.expect("an order");
        let events = testing::events(&mut tx).await.expect("events");
        let event = Event::new("OrderPlaced")
            .key("7")
            .header("tenant", b"grace");
        assert_eq!(events, [event.bytes(r#"{"id":7,"customer":"grace"}"#)]);
        // A text cannot hold what is not UTF-8, and the trace of a transaction is its default.
        let bad = Event::new("bad").bytes(b"\xff");
        let error = Outbox::DEFAULT
            .insert(&mut tx, bad)
            .await
            .expect_err("bytes");
        let error = error.into_database_error().expect("the server's");
        assert_eq!(error.code().as_deref(), Some("22021"));
        tx.rollback().await.expect("a rollback");

        let mut tx = session.begin().await.expect("a transaction");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let set = format!("SET LOCAL doorbell.traceparent = '{trace}'");
        tx.execute(AssertSqlSafe(set)).await.expect("a trace");
        let pair = [Event::new("own").header("a", "b"), Event::new("traced")];
        Outbox::DEFAULT
            .insert_all(&mut tx, &pair)
            .await
            .expect("two");
        let traced = Event::new("traced").header("traceparent", trace);
        let events = testing::events(&mut tx).await.expect("events");
        assert_eq!(events, [pair[0].clone(), traced]);
    });
}

#[test]
fn sqlx_0_8() {
    use sqlx_0_8::{Connection as _, PgConnection};
    with_database("sqlx_0_8", async |url| {
        let mut session = PgConnection::connect(url).await.expect("a session");
        let mut tx = session.begin().await.expect("a transaction");
        every_event_is_written_as_it_is(&mut tx).await;
    });
}

#[test]
fn tokio_postgres_0_7() {
    with_database("tokio_postgres_0_7", async |url| {
        let connected = tokio_postgres_0_7::connect(url, tokio_postgres_0_7::NoTls).await;
        let (mut client, connection) = connected.expect("a session");
        let mut background = tokio::task::JoinSet::new();
        background.spawn(connection);
        let mut tx = client.transaction().await.expect("a transaction");
        every_event_is_written_as_it_is(&mut tx).await;
        tx.rollback().await.expect("a rollback");
        let mut tx = client.transaction().await.expect("a transaction");
        tokio_postgres::place(&mut tx, &[7, 8])
            .await
            .expect("orders");
        let events = testing::events(&mut tx).await.expect("events");
        let event = |id: &str| Event::new("OrderPlaced").key(id);
        let expected = ["7", "8"].map(|id| event(id).bytes(format!(r#"{{"id": {id}}}"#)));
        assert_eq!(events, expected);
    });
}
