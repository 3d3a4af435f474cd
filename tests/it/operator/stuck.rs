//! Eight relays that are stuck. `status`, `check` and the page name the cause to a user who knows
//! nothing of the project.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Checkup, Consumer, Instance, Proxy, Relay, World, create_topic, eventually, get, not_here,
    within,
};

const ANY: &[&str] = &["--listen", "127.0.0.1:0"];

/// Returns what `status` prints.
fn status(world: &World) -> String {
    let output = world.doorbell(&["status"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn insert(world: &mut World, rows: usize) {
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, created_at) SELECT 't', 'k' || n, 'x', now() - interval '10 minutes' FROM generate_series(1, {rows}) n"
    ));
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// Waits until the page, as it is read without JavaScript, has the words.
#[track_caller]
fn page_says(relay: &Relay, words: &[&str]) {
    let last = get(relay, "/").body;
    eventually(&format!("{words:?} on the page: {last}"), || {
        shows(relay, words)
    });
}

/// Returns something if the page has all the words.
fn shows(relay: &Relay, words: &[&str]) -> Option<()> {
    let page = get(relay, "/").body;
    words.iter().all(|word| page.contains(word)).then_some(())
}

#[test]
fn the_broker_is_down() {
    let broker = Instance::kafka_with("stuckbroker", "transaction.max.timeout.ms=59999");
    let mut world = World::on("stuckbroker", broker.services());
    create_topic(&world, &world.topic, 1, &[]);
    let checkup = Checkup::of(&world, &["--delivery", "exactly-once"]);
    checkup.finds("error", "transactions-short", &["is 59999", "60000"]);
    let relay = Relay::leading(&world, ANY);
    broker.kill("kafka");
    insert(&mut world, 3);
    page_says(
        &relay,
        &[
            "Not ready",
            "Kafka is unreachable",
            "Is a broker down",
            "<dd class=\"backlog\">3</dd>",
        ],
    );
    has(
        &status(&world),
        &["3 rows", "oldest", "stuck", "`doorbell check`"],
    );
    let checkup = Checkup::of(&world, &[]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds(
        "error",
        "kafka-away",
        &[&world.services.kafka_brokers, "does not answer"],
    );
    checkup.finds("error", "stuck", &["3 rows", "10m"]);
    eventually("the leader says it", || {
        status(&world)
            .contains("it reaches no broker")
            .then_some(())
    });
}

#[test]
fn poison_stops_a_relay_that_was_told_to_stop() {
    let mut world = World::new("stuckpoison");
    create_topic(&world, &world.topic, 1, &[]);
    let mut relay = Relay::leading(&world, &["--poison", "stop"]);
    world.sql("INSERT INTO outbox (type, topic, created_at) VALUES ('t', 'no topic!', now() - interval '10 minutes')");
    assert!(!relay.wait().success());
    // Its page is gone; its last log line says why.
    let last = relay.log().pop().expect("a line");
    has(&last, &["cannot be sent", "topic"]);
    insert(&mut world, 1);
    has(&status(&world), &["2 rows", "no relay runs"]);
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "topic-name", &["no topic!"]);
    checkup.finds("error", "no-leader", &["2 rows"]);
    // With the other policy the row is a dead letter, and named as that.
    let relay = Relay::leading(&world, ANY);
    world.await_empty();
    page_says(
        &relay,
        &[
            "moved 1 row to the dead letters",
            "rejected the last one: InvalidTopic",
        ],
    );
    has(&status(&world), &["dead", "1 row", "doorbell dead list"]);
    Checkup::of(&world, &[]).finds("warning", "dead-letters", &["InvalidTopic"]);
}

#[test]
fn the_trigger_is_disabled() {
    let mut world = World::new("stucktrigger");
    create_topic(&world, &world.topic, 1, &[]);
    let disable = "ALTER TABLE outbox DISABLE TRIGGER doorbell_ring";
    // The usual sweep of a minute would take too long here.
    let relay = Relay::leading(&world, &[ANY, &["--sweep", "3s"]].concat());
    world.await_asleep();
    world.sql(disable);
    let warning = [
        "Works, with a warning",
        "the trigger doorbell_ring is disabled or missing",
    ];
    // The warning ends with a sweep that finds nothing, and a relay that is awake needs no trigger.
    eventually("the page names the trigger", || {
        world.await_asleep();
        insert(&mut world, 1);
        within(Duration::from_secs(6), || shows(&relay, &warning))
    });
    assert!(relay.stop().success());
    let relay = Relay::leading(&world, ANY);
    page_says(
        &relay,
        &["the trigger doorbell_ring is disabled", "ENABLE TRIGGER"],
    );
    // A relay that is awake for a moment still finds the row.
    eventually("the row waits", || {
        world.await_asleep();
        insert(&mut world, 1);
        let status = status(&world);
        let words = ["1 row", "trigger  disabled", "ENABLE TRIGGER"];
        words.iter().all(|it| status.contains(it)).then_some(())
    });
    let checkup = Checkup::of(&world, &[]);
    world.sql(&checkup.finds("error", "trigger-disabled", &["disabled"]));
    insert(&mut world, 1);
    world.await_empty();
}

#[test]
fn an_old_snapshot_is_held() {
    let mut world = World::new("stuckxmin");
    create_topic(&world, &world.topic, 1, &[]);
    let mut forgotten = world.connect();
    world.sql_on(
        &mut forgotten,
        "SET application_name = 'forgotten'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    );
    let often = [ANY, &["--sweep", "1s", "--stuck-after", "1s"]].concat();
    let relay = Relay::leading(&world, &often);
    insert(&mut world, 1_000);
    world.await_empty();
    page_says(
        &relay,
        &[
            "Works, with a warning",
            "forgotten",
            "idle in transaction",
            "holds an old snapshot",
            "pg_terminate_backend",
        ],
    );
    let checkup = Checkup::of(&world, &["--old", "0s"]);
    let end = checkup.finds(
        "warning",
        "snapshot-held",
        &["\"forgotten\"", "idle in transaction", "user postgres"],
    );
    world.sql(&end);
    Checkup::of(&world, &["--old", "0s"]).lacks(&["snapshot-held"]);
    page_says(&relay, &["All is sent"]);
}

#[test]
fn a_pooler_is_between() {
    if let Some(reason) = not_here("pgbouncer") {
        return eprintln!("skipped: {reason}");
    }
    let server = Instance::start("stuckpooler", &["postgres", "pgbouncer"]);
    let mut world = World::on("stuckpooler", server.services());
    create_topic(&world, &world.topic, 1, &[]);
    insert(&mut world, 1);
    let database = world.database_url.rsplit_once('/').expect("a URL").1;
    let pooled = format!("{}/{database}", server.pooler());
    let relay = world.doorbell(&["run", "--database-url", &pooled]);
    assert_eq!(relay.status.code(), Some(1));
    has(&status(&world), &["1 row", "no relay runs"]);
    let checkup = Checkup::of(&world, &["--database-url", &pooled]);
    checkup.finds("error", "pooler", &["pooler in transaction mode"]);
    // Nothing of the relay is left on the sessions that the pooler lends: no channel, no setting,
    // no statement.
    let mut client = world.connect_to(&pooled);
    let left = "SELECT format('%s%s', (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()))";
    assert_eq!(world.text_on(&mut client, left), "00");
    assert_eq!(
        world.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        0
    );
    Checkup::of(&world, &[]).lacks(&["pooler"]);
    // A pooler that is put in between while the relay runs is waited out, and named.
    let cable = Proxy::start("127.0.0.1:0", world.host_port());
    let url = world
        .database_url
        .replace(world.host_port(), &cable.address().to_string());
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    world.await_empty();
    cable.lead_to(server.pooler().split('@').nth(1).expect("a host"));
    page_says(&relay, &["Not ready", "pooler in transaction mode"]);
    cable.lead_to(world.host_port());
    page_says(&relay, &["All is sent"]);
    assert!(relay.stop().success());
    // The lent sessions belong to the pooler, and end with it.
    server.stop("pgbouncer");
}

#[test]
fn rights_were_revoked() {
    let mut world = World::new("stuckrights");
    create_topic(&world, &world.topic, 1, &[]);
    let role = format!("stuck_{}", world.name());
    world.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, UPDATE, DELETE ON outbox TO {role}; GRANT USAGE ON SCHEMA doorbell TO {role}; \
         GRANT SELECT ON doorbell.outbox TO {role}; GRANT SELECT, INSERT ON doorbell.dead TO {role}"
    ));
    let url = world
        .database_url
        .replace("//postgres@", &format!("//{role}@"));
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    world.sql(&format!("REVOKE DELETE ON outbox FROM {role}"));
    insert(&mut world, 2);
    Consumer::new(&world, &world.topic).await_records(2);
    page_says(
        &relay,
        &["acknowledged rows cannot be deleted", "permission denied"],
    );
    let said = status(&world);
    has(&said, &["2 rows", "stuck   "]);
    assert!(!said.contains("no relay"), "{said}");
    let checkup = Checkup::of(&world, &["--database-url", &url]);
    checkup.lacks(&["leader-stranger"]);
    let grant = checkup.finds("error", "rights-missing", &[&role]);
    has(&grant, &["GRANT DELETE ON public.outbox TO"]);
    world.sql(&grant);
    world.await_empty();
    assert!(relay.stop().success());
    world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_topic_is_too_small() {
    let mut world = World::new("stucksmall");
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "10000")]);
    let relay = Relay::leading(&world, ANY);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', repeat('x', 20000))");
    world.await_empty();
    page_says(
        &relay,
        &[
            "moved 1 row to the dead letters",
            "rejected the last one: MessageSizeTooLarge",
        ],
    );
    has(&status(&world), &["dead", "1 row"]);
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "topic-too-small", &["10000", "1048588"]);
    checkup.finds(
        "warning",
        "dead-letters",
        &["MessageSizeTooLarge", &world.topic],
    );
}

/// A small file system that replaces a folder, with the folder's contents. Unmounted with the test.
struct SmallDisk(String);

impl SmallDisk {
    /// `None` where this machine does not allow mounting one.
    fn over(folder: &str, size: &str) -> Option<Self> {
        let kept = format!("{folder}.kept");
        std::fs::rename(folder, &kept).expect("the folder can be moved");
        std::fs::create_dir(folder).expect("a folder");
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs", folder])
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        let disk = Self(folder.to_owned());
        let copied = Command::new("cp")
            .args(["-a", &format!("{kept}/."), folder])
            .status();
        assert!(copied.expect("cp runs").success());
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount: a broker may still have files open.
        Command::new("umount").args(["-l", &self.0]).status().ok();
    }
}

#[test]
fn the_disk_of_the_broker_is_full() {
    let mut broker = Instance::start("stuckdisk", &["kafka"]);
    broker.stop("kafka");
    let folder = broker.variable("KAFKA_DATA").to_owned();
    let Some(_disk) = SmallDisk::over(&folder, "32m") else {
        return eprintln!("skipped: no file system can be mounted here, which takes root");
    };
    broker.again();
    let mut world = World::on("stuckdisk", broker.services());
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, ANY);
    world.sql("INSERT INTO outbox (type, payload, created_at) SELECT 't', repeat('x', 500000), now() - interval '10 minutes' FROM generate_series(1, 100)");
    // A broker whose only log directory has failed ends, and says why at the end of its log.
    let log = format!("{folder}/../log");
    eventually("the broker ends for want of room", || {
        let log = std::fs::read_to_string(&log).expect("the broker's log");
        let gone = TcpStream::connect(&world.services.kafka_brokers).is_err();
        (gone && log.contains("No space left on device")).then_some(())
    });
    page_says(
        &relay,
        &["Not ready", "Kafka is unreachable", "its disk full"],
    );
    let checkup = Checkup::of(&world, &[]);
    let remedy = checkup.finds("error", "kafka-away", &["does not answer"]);
    has(&remedy, &["disk is full", "No space left on device"]);
    checkup.finds("error", "stuck", &["although a relay leads"]);
    has(&status(&world), &["stuck", "`doorbell check`"]);
    // Nothing is lost: what the broker did not take waits.
    assert!(world.number("SELECT count(*) FROM outbox") > 0);
}
