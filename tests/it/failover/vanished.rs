//! A machine that vanishes: no connection is closed, and neither its processes nor its kernel
//! answer.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Cable, Consumer, Instance, Relay, World, create_topic};

/// Makes the server listen on the cable's end as well, and accept every user from there.
fn open(server: &mut Instance, world: &mut World, cable: &Cable) {
    world.sql(&format!(
        "ALTER SYSTEM SET listen_addresses = '127.0.0.1,{}'",
        cable.here
    ));
    let path = format!("{}/pg_hba.conf", server.variable("POSTGRES_DATA"));
    let mut rules = OpenOptions::new()
        .append(true)
        .open(path)
        .expect("pg_hba.conf");
    writeln!(rules, "host all all {}/30 trust", cable.here).expect("room for a line");
    server.stop("postgres");
    server.again();
    world.reconnect();
}

#[test]
fn a_relay_whose_machine_vanishes_is_replaced_within_fifteen_seconds_and_notices_by_itself() {
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let mut server = Instance::start("vanished", &["postgres"]);
    let mut world = World::on("vanished", server.services());
    create_topic(&world, &world.topic, 1, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    open(&mut server, &mut world, &cable);
    let (host, database) = world.database_url.rsplit_once('/').expect("a URL");
    let port = host
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a number");
    let far = format!(
        "postgres://postgres@127.0.0.1:{}/{database}",
        cable.to(port)
    );
    // Keepalive probes of its sessions are frequent, so that the test does not last a minute.
    let vanishing = Relay::leading(&world, &["--database-url", &far, "--leader-timeout", "6s"]);
    let standby = Relay::spawn(&world, &[]);
    standby.await_log("standby");
    world.await_asleep();
    // Its last fetch before the sleep is over: what it asks next is whether its sessions live.
    world.await_number(
        &format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell % reader {}' \
             AND state = 'idle' AND state_change < clock_timestamp() - interval '500 ms'",
            vanishing.pid()
        ),
        1,
    );

    let pulled = Instant::now();
    cable.pull();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'rung for a machine that is gone')");
    assert_eq!(
        consumer.await_records(1)[0].text(),
        "rung for a machine that is gone"
    );
    let took = pulled.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    standby.assert_logged("leading", 1);
    // The other side: the server vanished, and one of the relay's sessions gets no answer.
    vanishing.await_log("a session with PostgreSQL was lost: no answer within 10 s");
    let noticed = pulled.elapsed();
    assert!(noticed < Duration::from_secs(30), "{noticed:?}");
    eprintln!("the standby took over after {took:?}, the vanished relay noticed after {noticed:?}");

    cable.plug();
    vanishing.await_log("standby");
    vanishing.assert_logged("leading", 1);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 1);
    assert!(vanishing.stop().success());
    assert!(standby.stop().success());
}
