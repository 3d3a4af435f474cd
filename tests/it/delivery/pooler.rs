//! A pooler in transaction mode: writers may use it, the relay must not, and no pooled session
//! keeps anything of the relay.

use sqlx::postgres::PgConnection;

use crate::support::{Consumer, Instance, Relay, World, create_topic, not_here, refused};

/// The server's sessions that the pooler lends.
const LENT: usize = 3;

/// Returns what each session behind the pooler holds that would outlive a client. Each is inspected
/// in a transaction of its own, all at the same time, so that each is a different session. The
/// pooler sets and keeps the name of a client.
fn left_behind(world: &World, clients: &mut [PgConnection]) -> Vec<String> {
    const LOOK: &str = "BEGIN; SELECT format('channels %s, statements %s, settings %s', \
        (SELECT string_agg(c, ' ') FROM pg_listening_channels() c), (SELECT string_agg(name, ' ') FROM pg_prepared_statements), \
        (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE source = 'session' AND name <> 'application_name'))";
    let looks = clients
        .iter_mut()
        .map(|client| world.text_on(client, LOOK))
        .collect();
    for client in clients {
        world.sql_on(client, "COMMIT");
    }
    looks
}

#[test]
fn a_pooler_in_transaction_mode_is_for_writers_alone() {
    if let Some(reason) = not_here("pgbouncer") {
        return eprintln!("skipped: {reason}");
    }
    let server = Instance::start("pooler", &["postgres", "pgbouncer"]);
    let mut world = World::on("pooler", server.services());
    create_topic(&world, &world.topic, 1, &[]);
    let database = world.database_url.rsplit_once('/').expect("a URL").1;
    let pooled = format!("{}/{database}", server.pooler());
    let mut clients: Vec<_> = (0..LENT).map(|_| world.connect_to(&pooled)).collect();
    let before = left_behind(&world, &mut clients);
    let lent = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(world.number(lent), 3);

    // An idle pooler lends the session that was used last; a busy one might lend any.
    let mut console = world.connect_to(&format!("{}/pgbouncer", server.pooler()));
    for round_robin in [0, 1] {
        world.sql_on(
            &mut console,
            &format!("SET server_round_robin = {round_robin}"),
        );
        let output = world.doorbell(&["run", "--database-url", &pooled]);
        refused(
            &output,
            1,
            &["pooler in transaction mode", "direct connection"],
        );
        for arguments in [
            &["migrate"][..],
            &["status"],
            &["emit", "--type", "t", "x"],
            &["verify", "--topic", &world.topic],
        ] {
            let output = world.doorbell(&[arguments, &["--database-url", &pooled]].concat());
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }
        assert_eq!(
            world.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
            0
        );
        assert_eq!(left_behind(&world, &mut clients), before);
    }
    assert_eq!(world.number(lent), 3, "no other session to look at");

    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(2);
    for count in 3..20 {
        world.sql_on(
            &mut clients[count % LENT],
            "INSERT INTO outbox (type, payload) VALUES ('t', 'x')",
        );
        consumer.await_records(count);
    }
    world.await_empty();
    assert_eq!(relay.count_log("the sweep found rows"), 0);
    // The lent sessions belong to the pooler, and end with it.
    server.stop("pgbouncer");
}
