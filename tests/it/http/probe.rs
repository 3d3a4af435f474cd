//! `doorbell health` beside relays that are well, that are not, and that cannot be asked.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Output;

use crate::support::{Relay, World, create_topic, eventually, refused};

fn health(world: &World, flags: &[&str]) -> Output {
    world.doorbell(&[&["health"], flags].concat())
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn health_asks_the_relay_of_this_host() {
    let world = World::new("health");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "0.0.0.0:0"]);
    // Bound at every address, it is reached at one.
    let at = ["--listen", &relay.address()];
    eventually("it is ready", || {
        let (code, text) = said(&health(&world, &at));
        (code == Some(0) && text.starts_with("outbox: ready: leading for")).then_some(())
    });
    let live = [&at[..], &["--live"]].concat();
    let answer = said(&health(&world, &live));
    assert_eq!(answer, (Some(0), "alive\n".into()));

    // A relay that may not relay lives, and is not to be restarted.
    world.doorbell(&["pause", "--reason", "the broker moves"]);
    let ready = [&at[..], &["--ready"]].concat();
    eventually("the pause is seen", || {
        (health(&world, &ready).status.code() == Some(1)).then_some(())
    });
    let words = ["outbox: not ready: ", "the broker moves"];
    refused(&health(&world, &ready), 1, &words);
    assert_eq!(health(&world, &live).status.code(), Some(0));

    relay.freeze();
    let words = ["has not answered for 5 s", "restart it"];
    refused(&health(&world, &live), 1, &words);
    relay.thaw();
    assert!(relay.stop().success());
}

#[test]
fn health_says_in_one_line_why_no_relay_can_be_asked() {
    let world = World::new("nohealth");
    // The variable of the tests, as a relay that has no port sees it.
    let off = health(&world, &[]);
    refused(&off, 1, &["the HTTP port is off", "--listen"]);
    let any = health(&world, &["--listen", "127.0.0.1:0"]);
    refused(&any, 1, &["lets the system choose", "--listen"]);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let at = ["--listen", &address];
    let answers = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "is no relay",
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        ("220 mail.example ESMTP\r\n", "no relay answers"),
    ];
    let strangers = std::thread::spawn(move || {
        for (answer, _) in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = BufReader::new(&stream).lines();
            request.find(|line| line.as_ref().is_ok_and(String::is_empty));
            stream.write_all(answer.as_bytes()).expect("a client");
        }
    });
    for (_, words) in answers {
        refused(&health(&world, &at), 1, &[words, &address, "[http] listen"]);
    }
    strangers.join().expect("all have answered");
    refused(&health(&world, &at), 1, &["no relay answers", &address]);
    // Not 2, which container engines give a meaning of their own.
    let wrong = health(&world, &["--listen", "nowhere"]);
    refused(&wrong, 1, &["--listen", "HOST:PORT"]);
}
