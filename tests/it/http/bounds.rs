//! What a client can take from others, and a site from its visitors: connections, sessions with the
//! database, and what the port shows under another name.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dead_letters::{bury, relay};
use crate::support::{Relay, World, ask, ask_at, create_topic, get};

#[test]
fn a_port_at_every_address_answers_to_its_names_only_and_to_probes_by_address() {
    let world = World::new("rebind");
    create_topic(&world, &world.topic, 1, &[]);
    let config = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(config.path(), "[http]\nhosts = 'relay-1, Own.Example'\n").expect("room");
    let path = config.path().to_str().expect("a path");
    let relay = Relay::leading(&world, &["--listen", "0.0.0.0:0", "--config", path]);
    let address = relay.address().replace("0.0.0.0", "127.0.0.1");
    let code = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = ask_at(&address, request.as_bytes()).expect("an answer");
        (answer.code, answer.body)
    };
    for path in ["/", "/dead", "/metrics", "/healthz"] {
        let (refused, words) = code("Host: rebind.evil.example\r\n", path);
        assert_eq!(refused, 421, "{path}: {words}");
        assert!(words.contains("DOORBELL_HTTP_HOSTS"), "{words}");
    }
    for host in [
        "",
        "Host: 10.1.2.3:8686\r\n",
        "Host: [fd00::1]\r\n",
        "Host: localhost\r\n",
        "Host: relay-1:8686\r\n",
        "Host: OWN.example\r\n",
    ] {
        assert_eq!(code(host, "/readyz").0, 200, "{host}");
    }
    assert!(relay.stop().success());
}

/// Ends the threads of a test, also after a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn idle_connections_of_one_client_do_not_keep_a_probe_out() {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let world = World::new("idlers");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    let address = relay.address();
    let over = AtomicBool::new(false);
    let open = || TcpStream::connect(&address).expect("a connection");
    let mut idle: Vec<TcpStream> = (0..64).map(|_| open()).collect();
    for stream in &mut idle {
        stream.write_all(REQUEST).ok();
    }
    std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            // Often enough for each to be kept alive, were there no bound.
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(2));
                for stream in &mut idle {
                    stream.write_all(REQUEST).ok();
                }
            }
        });
        for _ in 0..5 {
            assert_eq!(get(&relay, "/healthz").code, 200);
        }
    });
    assert!(relay.stop().success());
}

#[test]
fn pages_share_one_session_and_other_sites_open_none() {
    const PAGES: &str = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % page %'";
    let mut world = World::new("onesession");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = relay(&world, "");
    bury(&mut world, 3, "Common");
    for path in ["/dead", "/relays"] {
        let foreign = ask(&relay, path, "Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(foreign.code, 403, "{foreign:?}");
        assert!(foreign.body.contains("another site"), "{foreign:?}");
    }
    assert_eq!(world.number(&format!("SELECT count(*) {PAGES}")), 0);
    let click = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-User: ?1\r\n";
    assert_eq!(ask(&relay, "/dead", click).code, 200);
    let pid = format!("SELECT max(pid)::bigint {PAGES}");
    let first = world.number(&pid);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for path in ["/dead", "/relays", "/dead"] {
                    assert_eq!(get(&relay, path).code, 200);
                }
            });
        }
    });
    let session = format!("SELECT CASE count(*) WHEN 1 THEN max(pid) ELSE 0 END::bigint {PAGES}");
    assert_eq!(world.number(&session), first, "one session, the same");
    world.await_number(&format!("SELECT count(*) {PAGES}"), 0);
    assert!(relay.stop().success());
}
