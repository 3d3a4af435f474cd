//! The page: as it is read without JavaScript, and what is streamed to it afterwards.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::support::{Consumer, PATIENCE, Proxy, Relay, World, create_topic, eventually, get};

const ANY: &[&str] = &["--listen", "127.0.0.1:0"];

/// The stream of an open page.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(relay: &Relay) -> Self {
        let mut stream = TcpStream::connect(relay.address()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
            .write_all(b"GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("a question");
        Self(BufReader::new(stream))
    }

    /// Returns the next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("a line in time");
        (read > 0).then_some(line)
    }

    /// Reads on until a line has the text.
    #[track_caller]
    fn until(&mut self, text: &str) {
        // Some hundred lines a second, for a minute or two.
        let found = (0..20_000)
            .map_while(|_| self.line())
            .any(|line| line.contains(text));
        assert!(found, "never: {text}");
    }
}

#[track_caller]
fn await_page(relay: &Relay, words: &[&str]) {
    eventually(&format!("the page says {words:?}"), || {
        let page = get(relay, "/").body;
        words.iter().all(|word| page.contains(word)).then_some(())
    });
}

#[test]
fn rows_that_flow_and_an_outage_are_seen_on_the_page_and_in_its_stream() {
    let mut world = World::new("page");
    create_topic(&world, &world.topic, 1, &[]);
    let proxy = Proxy::start("127.0.0.1:0", world.host_port());
    let url = world
        .database_url
        .replace(world.host_port(), &proxy.address().to_string());
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    world.await_asleep();
    await_page(
        &relay,
        &[
            "All is sent",
            "this relay, for",
            "asleep: the next insert wakes the relay",
        ],
    );
    let page = get(&relay, "/");
    assert_eq!(page.code, 200);
    for guard in [
        "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(page.head.contains(guard), "{guard} in {}", page.head);
    }
    // Nothing that the content security policy refuses.
    for refused in [
        "<style", "style=", "<script>", "onclick", "http://", "https://",
    ] {
        assert!(!page.body.contains(refused), "{refused} in {}", page.body);
    }
    assert!(
        page.body.contains("No row has been sent in this time."),
        "nothing is empty"
    );
    assert!(
        get(&relay, "/page.css")
            .body
            .contains("prefers-color-scheme: dark")
    );
    assert!(get(&relay, "/page.js").body.contains("EventSource"));

    let mut events = Events::open(&relay);
    events.until("content-type: text/event-stream");
    events.until("All is sent");
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 300)");
    events.until("Rows flow");
    Consumer::new(&world, &world.topic).await_records(300);
    world.await_empty();
    events.until("All is sent");
    await_page(&relay, &[" ms</li>", "highest "]);
    let page = get(&relay, "/").body;
    assert_eq!(page.matches("role=\"img\"").count(), 4, "{page}");
    let host = rustix::system::uname();
    let database = world.database_url.rsplit_once('/').expect("a URL").1;
    for top in [
        env!("CARGO_PKG_VERSION"),
        &host.nodename().to_string_lossy(),
        database,
    ] {
        assert!(page.contains(&format!("{top}</dd>")), "{top} in {page}");
    }

    drop(proxy);
    events.until("Not ready");
    events.until("unreachable");
    await_page(
        &relay,
        &[
            "class=\"verdict bad\"",
            "and none is lost.",
            "It began at 20",
            "Problems",
            "unreachable",
            "<a href=\"/runbook#doorbellnobodyleads\">",
            "<span class=\"badge outage\">outage</span>",
            "<strong>goes on</strong>",
        ],
    );
    assert!(
        get(&relay, "/runbook")
            .body
            .contains("<h2 id=\"doorbellnobodyleads\">")
    );
}

#[test]
fn a_pause_is_shown_loudly() {
    let world = World::new("pagepause");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, ANY);
    let mut events = Events::open(&relay);
    world.doorbell(&[
        "pause",
        "--by",
        "ann",
        "--reason",
        "<b>the broker</b> moves",
    ]);
    events.until("PAUSED: no row is sent");
    await_page(
        &relay,
        &[
            "class=\"verdict paused\"",
            "paused by ann: &#60;b&#62;the broker",
            "It began at 20",
            "<code>doorbell resume",
        ],
    );
    assert!(!get(&relay, "/").body.contains("<b>"));
    world.doorbell(&["resume"]);
    events.until("All is sent");
    let page = get(&relay, "/").body;
    let (_, log) = page
        .split_once("id=\"incidents\"")
        .expect("a log of incidents");
    for words in [
        "this relay leads",
        "resumed",
        "paused by ann: &#60;b&#62;the broker",
        ">pause</span>",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    relay.await_log("over after ");
}

#[test]
fn each_of_several_outboxes_has_a_line_and_a_page() {
    let mut world = World::new("pageseveral");
    create_topic(&world, &world.topic, 1, &[]);
    let topic = &world.topic;
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[outbox]]\ntopic = '{topic}'\nsweep = '1s'\n[[outbox]]\ntable = '\"Bills & co\"'\ntopic = '{topic}'\n"
    );
    std::fs::write(config.path(), text).expect("room");
    let path = config.path().to_str().expect("a path");
    world.migrate(&["--config", path]);
    let relay = Relay::leading(&world, &[ANY, &["--config", path]].concat());
    await_page(&relay, &["All 2 outboxes are well", "this relay"]);
    let page = get(&relay, "/").body;
    for line in [
        "<a href=\"/outbox?outbox=outbox\">",
        "<a href=\"/outbox?outbox=%22Bills+%26+co%22\">&#34;Bills &#38; co&#34;</a>",
        "/dead?outbox=%22Bills+%26+co%22",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    let mut events = Events::open(&relay);
    world.doorbell(&[
        "pause",
        "--config",
        path,
        "--table",
        "\"Bills & co\"",
        "--by",
        "ann",
        "--reason",
        "moves",
    ]);
    events.until("1 of 2 outboxes paused (&#34;Bills &#38; co&#34;)");
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('t', 'x', '[]')");
    events.until("; dead letters in 1 (outbox)");
    events.until("<strong>outbox</strong>: 1 dead letter waits for an operator");
    let letters = get(&relay, "/dead?outbox=&topic=").body;
    for part in [
        "<select name=\"outbox\">",
        "<td title=\"public.outbox\">",
        "Rejected",
    ] {
        assert!(letters.contains(part), "{part} in {letters}");
    }
    let letters = get(&relay, "/dead?outbox=outbox").body;
    assert!(
        letters.contains("<option value=\"outbox\" selected>"),
        "{letters}"
    );
    let one = get(&relay, "/outbox?outbox=%22Bills+%26+co%22").body;
    assert!(
        one.contains("PAUSED: no row is sent")
            && one.contains("data-events=\"/page/events?outbox=%22Bills+%26+co%22\""),
        "{one}"
    );
    assert!(
        get(&relay, "/outbox?outbox=outbox")
            .body
            .contains("All is sent")
    );
    let unknown = get(&relay, "/outbox?outbox=x");
    assert_eq!(unknown.code, 404);
    assert!(
        unknown
            .body
            .contains("no outbox of that name; it has outbox, &#34;Bills &#38; co&#34;"),
        "{unknown:?}"
    );
    assert_eq!(get(&relay, "/page/events?outbox=x").code, 404);
}

#[test]
fn the_leader_and_the_standbys_are_named_when_somebody_asks() {
    let world = World::new("pagerelays");
    create_topic(&world, &world.topic, 1, &[]);
    let first = Relay::leading(&world, ANY);
    let second = Relay::spawn(&world, ANY);
    second.await_log("standby");
    let name = |relay: &Relay| format!("leader {} (", relay.pid());
    let cells = |relay: &Relay| {
        let page = get(relay, "/relays").body;
        let cell = |class: &str| {
            let (_, rest) = page.split_once(&format!("<td class=\"{class}\">"))?;
            Some(rest.split("</td>").next()?.to_owned())
        };
        (
            cell("leader").expect("a cell"),
            cell("standbys").expect("a cell"),
        )
    };
    for asked in [&first, &second] {
        let (leader, standbys) = eventually("the standby waits", || {
            let (leader, standbys) = cells(asked);
            standbys.contains("<li>").then_some((leader, standbys))
        });
        assert!(leader.contains(&name(&first)), "{leader}");
        assert!(leader.contains("server process "), "{leader}");
        assert!(standbys.contains(&name(&second)), "{standbys}");
        assert_eq!(standbys.matches("<li>").count(), 1, "{standbys}");
    }
    assert!(get(&first, "/").body.contains("href=\"/relays\""));
    first.kill();
    second.await_log("leading");
    let (leader, standbys) = cells(&second);
    assert!(leader.contains(&name(&second)), "{leader}");
    assert!(standbys.contains("no relay would take over"), "{standbys}");
    assert!(second.stop().success());
}

#[test]
fn open_pages_are_bounded_and_end_with_the_relay() {
    let world = World::new("pages");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, ANY);
    let mut open: Vec<_> = (0..16).map(|_| Events::open(&relay)).collect();
    for events in &mut open {
        events.until("All is sent");
    }
    let refused = get(&relay, "/page/events");
    assert_eq!(
        (refused.code, refused.body.as_str()),
        (503, "too many pages are open: close one\n")
    );
    drop(open.pop());
    eventually("there is room for one more", || {
        let mut events = Events::open(&relay);
        events.line().filter(|line| line.contains(" 200 "))
    });
    assert_eq!(get(&relay, "/readyz").code, 200);
    assert!(relay.stop().success());
    for events in &mut open {
        while events.line().is_some() {}
    }
}
