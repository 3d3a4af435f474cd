//! PostgreSQL fails over to a standby; the relay and the writers name both servers.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Consumer, Instance, Load, Relay, World, create_topic, eventually};

/// A primary with a standby, and a world on them.
struct Pair {
    servers: Instance,
    world: World,
    standby_url: String,
}

impl Pair {
    fn start(name: &str) -> Self {
        let servers = Instance::start(name, &["postgres", "standby"]);
        let mut world = World::on(name, servers.services());
        create_topic(&world, &world.topic, 3, &[]);
        let standby_url = world.database_at(servers.variable("DATABASE_URL_STANDBY"));
        world.await_number("SELECT count(*) FROM pg_stat_replication", 1);
        Self {
            servers,
            world,
            standby_url,
        }
    }

    /// Both hosts in one URL.
    fn both(&self) -> String {
        let (_, standby) = self.standby_url.rsplit_once('@').expect("a user");
        let (host, _) = standby.split_once('/').expect("a database");
        let (server, database) = self.world.database_url.rsplit_once('/').expect("a URL");
        format!("{server},{host}/{database}")
    }

    fn relay(&self) -> Relay {
        Relay::spawn(&self.world, &["--database-url", &self.both()])
    }

    /// Waits until the standby has caught up with the primary.
    fn await_replay(&mut self) {
        let written =
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
        self.world.await_number(written, 1);
    }

    /// Kills the primary, and promotes the standby.
    fn fail_over(&mut self) {
        self.servers.kill("postgres");
        self.servers.promote("standby");
        self.world.database_url = self.standby_url.clone();
        self.world.reconnect();
    }
}

#[test]
fn a_failover_under_load_loses_nothing_and_needs_no_restart() {
    let mut pair = Pair::start("failover");
    // A commit is confirmed when the standby has it, so both servers have every confirmed row.
    pair.world
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    pair.world.sql("SELECT pg_reload_conf()");
    pair.world.await_number(
        "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
        1,
    );
    let (first, second) = (pair.relay(), pair.relay());
    let count = |text: &str| first.count_log(text) + second.count_log(text);
    eventually("one leads, one stands by", || {
        (count("leading") == 1 && count("standby:") == 1).then_some(())
    });
    let load = Load::to(vec![
        pair.world.database_url.clone(),
        pair.standby_url.clone(),
    ]);
    load.await_rows(1_000);
    pair.fail_over();
    eventually("one leads again", || (count("leading") == 2).then_some(()));
    load.await_rows(1_000);
    let written = load.stop();
    pair.world.await_empty();
    let duplicates = written.check(Consumer::new(&pair.world, &pair.world.topic).drain());
    assert!(duplicates <= 20_000, "{duplicates}");
    assert!(first.stop().success());
    assert!(second.stop().success());
}

#[test]
fn a_standby_that_lagged_sends_again_what_it_did_not_see_deleted_and_forgets_what_it_never_had() {
    let mut pair = Pair::start("lagged");
    let rows = |text: &str, count: usize| {
        format!(
            "INSERT INTO outbox (type, key, payload) SELECT 'x', 'k', '{text} ' || g FROM generate_series(1, {count}) g"
        )
    };
    pair.world.sql(&rows("kept", 10));
    pair.await_replay();
    let mut standby = pair.world.connect_to(&pair.standby_url);
    pair.world
        .sql_on(&mut standby, "ALTER SYSTEM SET primary_conninfo = ''");
    pair.world.sql_on(&mut standby, "SELECT pg_reload_conf()");
    drop(standby);
    pair.world
        .await_number("SELECT count(*) FROM pg_stat_replication", 0);

    let relay = pair.relay();
    relay.await_log("leading");
    pair.world.sql(&rows("forgotten", 100));
    pair.world.await_empty();
    pair.fail_over();
    relay.await_log_times("leading", 2);
    pair.world.await_empty();
    pair.world.sql(&rows("new", 100));
    pair.world.await_empty();

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut seqs: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for record in Consumer::new(&pair.world, &pair.world.topic).drain() {
        let id = record.header("id").to_owned();
        *times.entry(format!("{id} {}", record.text())).or_default() += 1;
        seqs.entry(record.seq()).or_default().insert(id);
    }
    let of = |text: &str, expected: usize| {
        let events: Vec<_> = times.iter().filter(|(it, _)| it.contains(text)).collect();
        assert!(
            events.iter().all(|(_, times)| **times == expected),
            "{events:?}"
        );
        events.len()
    };
    // The same event with the same id, by which consumers drop duplicates.
    assert_eq!(of(" kept ", 2), 10);
    // Rows that were sent and that the promoted server does not know.
    assert_eq!(of(" forgotten ", 1), 100);
    assert_eq!(of(" new ", 1), 100);
    // Its sequence gives some numbers a second time, but never under the same id.
    let again = seqs.values().filter(|ids| ids.len() > 1).count();
    assert!(again > 0, "no number came twice");
    relay.assert_logged("a session with PostgreSQL was lost", 1);
    assert!(relay.stop().success());
}

#[test]
fn a_relay_waits_while_only_a_standby_answers() {
    let mut pair = Pair::start("waiting");
    pair.world
        .sql("INSERT INTO outbox (type, payload) VALUES ('x', '1')");
    pair.await_replay();
    pair.servers.kill("postgres");
    let relay = pair.relay();
    // The error names the unreachable primary, not the recovery of the other server.
    relay.await_log("unreachable");
    assert_eq!(relay.count_log("is a standby server"), 0);
    pair.servers.promote("standby");
    relay.await_log("leading");
    pair.world.database_url = pair.standby_url.clone();
    pair.world.reconnect();
    pair.world.await_empty();
    assert!(relay.stop().success());
}
