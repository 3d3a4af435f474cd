//! Dead letters are retried and dropped on the page by whoever gave the token, and by nobody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{bury, relay};
use crate::support::{
    Answer, Consumer, PATIENCE, Relay, World, ask, ask_at, create_topic, doorbell, get, post,
    refused,
};

const TOKEN: &str = "0f1e2d3c-letters";
const COUNT: &str = "SELECT count(*) FROM doorbell.dead WHERE retried_at IS NULL";

/// A relay with the token, and the file that holds it.
fn guarded(world: &World) -> Relay {
    let file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
    std::fs::write(file.path(), format!("{TOKEN}\n")).expect("room for a small file");
    relay(world, &format!("token_file = '{}'", file.path().display()))
}

/// A browser that has given the token.
struct Visitor<'a> {
    relay: &'a Relay,
    /// A line of the head.
    cookie: String,
    /// What its forms bring along.
    form: String,
}

impl<'a> Visitor<'a> {
    #[track_caller]
    fn enter(relay: &'a Relay) -> Self {
        let entered = post(relay, "/login", "", &format!("token={TOKEN}"));
        assert_eq!(entered.code, 303, "{entered:?}");
        let head = &entered.head;
        let set = head.split("set-cookie: ").nth(1).expect("a cookie");
        let set = set.lines().next().expect("a line");
        let (cookie, attributes) = set.split_once("; ").expect("attributes");
        assert_eq!(
            attributes,
            "path=/; httponly; samesite=strict; max-age=28800"
        );
        assert!(!cookie.contains(TOKEN), "{cookie}");
        let cookie = format!("Cookie: other=1; {cookie}\r\n");
        let page = ask(relay, "/dead", &cookie).body;
        let form = page.split("name=\"form\" value=\"").nth(1).expect("a form");
        let form = form.split('"').next().expect("an end").to_owned();
        assert_eq!(form.len(), 64, "{form}");
        Self {
            relay,
            cookie,
            form,
        }
    }

    #[track_caller]
    fn post(&self, path: &str, fields: &str) -> Answer {
        let form = format!("form={}&{fields}", self.form);
        // As browsers do.
        let origin = format!("{}Origin: http://{}\r\n", self.cookie, self.relay.address());
        post(self.relay, path, &origin, &form)
    }

    /// Clicks, and reads what came of it.
    #[track_caller]
    fn done(&self, path: &str, fields: &str) -> String {
        let answer = self.post(path, fields);
        assert_eq!(answer.code, 303, "{answer:?}");
        assert!(answer.head.contains("location: /dead\r\n"), "{answer:?}");
        let words = said(&self.list()).expect("what was done is said");
        assert_eq!(said(&self.list()), None, "it is said once");
        words
    }

    fn list(&self) -> String {
        ask(self.relay, "/dead", &self.cookie).body
    }
}

fn said(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("<p id=\"said\"")?;
    let (_, words) = rest.split_once('>')?;
    Some(words.split("</p>").next()?.to_owned())
}

#[test]
fn whoever_gave_the_token_retries_and_drops_with_a_click() {
    let mut world = World::new("click");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = guarded(&world);
    let stranger = get(&relay, "/dead").body;
    assert!(stranger.contains("type=\"password\""), "{stranger}");
    world.sql("INSERT INTO outbox (type, key, payload, headers) VALUES ('t', 'k', 'first', '[]'), ('t', 'k', 'second', '[]')");
    world.await_number(COUNT, 2);
    bury(&mut world, 3, "Other");
    // The cause is removed.
    world.sql("UPDATE doorbell.dead SET headers = NULL WHERE row_id < 3");
    let visitor = Visitor::enter(&relay);
    let list = visitor.list();
    assert!(list.contains("aria-label=\"Retry 1\""), "{list}");
    assert!(!list.contains("type=\"password\""), "{list}");

    assert_eq!(
        visitor.done("/dead/retry", "id=1"),
        "1 dead letter retried: back in the outbox"
    );
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.await_records(1)[0].text(), "first");
    let gone = "there is no dead letter 1; see `doorbell dead list`; nothing was changed";
    assert_eq!(visitor.done("/dead/retry", "id=1"), gone);
    assert_eq!(visitor.done("/dead/retry", "id=2&id=1"), gone);
    assert_eq!(world.number(COUNT), 4);
    assert_eq!(
        visitor.done("/dead/retry", "reason=invalidheaders"),
        "1 dead letter retried: back in the outbox"
    );
    assert_eq!(consumer.await_records(2)[1].text(), "second");

    // Nothing is dropped without a second click.
    let question = visitor.post("/dead/drop", "id=3");
    assert_eq!(question.code, 200);
    for words in [
        "the dead letter 3",
        "name=\"confirm\" value=\"yes\"",
        "name=\"id\" value=\"3\"",
    ] {
        assert!(
            question.body.contains(words),
            "{words} in {}",
            question.body
        );
    }
    assert_eq!(world.number(COUNT), 3);
    assert_eq!(
        visitor.done("/dead/drop", "id=3&confirm=yes"),
        "1 dead letter dropped for ever"
    );
    assert!(
        visitor
            .done("/dead/drop", "id=3")
            .starts_with("there is no dead letter 3")
    );
    let found = ask(&relay, "/dead?reason=Other", &visitor.cookie).body;
    assert!(found.contains("id=\"drop-all\""), "{found}");
    let question = visitor.post("/dead/drop", "reason=Other").body;
    assert!(
        question.contains("<strong>2 dead letters</strong> with “Other”"),
        "{question}"
    );
    assert_eq!(
        visitor.done("/dead/drop", "reason=Other&confirm=yes"),
        "2 dead letters dropped for ever"
    );
    assert_eq!(world.number(COUNT), 0);

    assert_eq!(visitor.post("/logout", "").code, 303);
    assert_eq!(visitor.post("/dead/retry", "id=1").code, 401);
    relay.await_log("dead letters were dropped over HTTP");
    assert_eq!(relay.count_log(TOKEN), 0);
    assert!(relay.stop().success());
}

#[test]
fn what_nobody_meant_is_refused_and_changes_nothing() {
    let mut world = World::new("meant");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 2, "Bad");
    let earlier = guarded(&world);
    let old = Visitor::enter(&earlier).cookie;
    assert!(earlier.stop().success());

    let relay = guarded(&world);
    let visitor = Visitor::enter(&relay);
    let other = Visitor::enter(&relay);
    let retry = |lines: &str, form: &str| post(&relay, "/dead/retry", lines, form);
    let own = format!("form={}&id=1", visitor.form);
    let with = |line: &str| format!("{}{line}\r\n", visitor.cookie);
    for (answer, code, words) in [
        (retry("", &own), 401, "the token was not given"),
        // The sessions of a relay end with it.
        (
            retry(
                &old.replace(&name_of(&old), &name_of(&visitor.cookie)),
                &own,
            ),
            401,
            "too long ago",
        ),
        (retry(&visitor.cookie, "id=1"), 403, "not of your session"),
        (
            retry(&visitor.cookie, &format!("form={}&id=1", "0".repeat(64))),
            403,
            "not of your session",
        ),
        (
            retry(&visitor.cookie, &format!("form={}&id=1", other.form)),
            403,
            "not of your session",
        ),
        (
            retry(&with("Origin: http://evil.example"), &own),
            403,
            "from another site",
        ),
        (retry(&with("Origin: null"), &own), 403, "from another site"),
        (
            retry(&with("Sec-Fetch-Site: cross-site"), &own),
            403,
            "from another site",
        ),
        (
            post(
                &relay,
                "/login",
                "Sec-Fetch-Site: same-site\r\n",
                &format!("token={TOKEN}"),
            ),
            403,
            "from another site",
        ),
        (
            post(&relay, "/logout", &visitor.cookie, ""),
            403,
            "not of your session",
        ),
        (visitor.post("/dead/retry", ""), 400, "say which"),
        (
            visitor.post("/dead/retry", "id=x"),
            400,
            "`id` must be a whole number",
        ),
        (
            visitor.post("/dead/drop", "reason=&confirm=yes"),
            400,
            "say which",
        ),
        (
            visitor.post("/dead/drop", "reason=%00&confirm=yes"),
            400,
            "`reason` must be",
        ),
        (
            visitor.post("/dead/drop", "reason=Bad&id=1&confirm=yes"),
            400,
            "say which",
        ),
    ] {
        assert_eq!(answer.code, code, "{words}: {answer:?}");
        assert!(answer.body.contains(words), "{words}: {answer:?}");
    }
    for path in [
        "/dead/retry",
        "/dead/drop?id=1&confirm=yes",
        "/login",
        "/logout",
    ] {
        assert_eq!(ask(&relay, path, &visitor.cookie).code, 405, "{path}");
    }
    // A site whose name was made to stand for this machine.
    let address = relay.address();
    for path in ["/", "/dead", "/metrics", "/status.json"] {
        let question =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = ask_at(&address, question.as_bytes()).expect("an answer");
        assert_eq!(answer.code, 421, "{path}: {answer:?}");
        assert!(answer.body.contains("is not its name"), "{answer:?}");
    }

    for _ in 0..10 {
        let answer = post(&relay, "/login", "", "token=0f1e2d3c-letterz");
        assert_eq!(answer.code, 401, "{answer:?}");
        assert!(answer.body.contains("that is not the token"), "{answer:?}");
    }
    let right = post(&relay, "/login", "", &format!("token={TOKEN}"));
    assert_eq!(right.code, 429, "{right:?}");
    assert!(right.head.contains("retry-after: 60"), "{right:?}");
    let program = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(retry(&program, "id=1").code, 429);
    assert_eq!(world.number(COUNT), 2);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    // Whoever is in stays in.
    assert!(
        visitor
            .done("/dead/retry", "id=1")
            .starts_with("1 dead letter retried")
    );
    assert!(relay.stop().success());
}

/// The name of the cookie in a line of the head has the port.
fn name_of(cookie: &str) -> String {
    let (_, rest) = cookie.split_once("doorbell_").expect("our cookie");
    let (port, _) = rest.split_once('=').expect("a value");
    format!("doorbell_{port}=")
}

#[test]
fn programs_bring_the_token_along() {
    let mut world = World::new("program");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 4, "Bad");
    let relay = guarded(&world);
    let ask = |path: &str, token: &str, form: &str| {
        let answer = post(&relay, path, &format!("Authorization: {token}\r\n"), form);
        (answer.code, answer.body.trim_end().to_owned())
    };
    let bearer = format!("Bearer {TOKEN}");
    let answered = |code: u16, words: &str| (code, words.to_owned());
    assert_eq!(
        ask("/dead/retry", &bearer, "id=1&id=2"),
        answered(200, "2 dead letters retried: back in the outbox")
    );
    assert_eq!(
        ask("/dead/retry", &bearer, "id=1"),
        answered(
            409,
            "there is no dead letter 1; see `doorbell dead list`; nothing was changed"
        )
    );
    assert_eq!(
        ask("/dead/drop", &bearer, "reason=bad"),
        answered(
            400,
            "2 dead letters would be dropped for ever: add confirm=yes"
        )
    );
    for wrong in [
        format!("Bearer {}", &TOKEN[1..]),
        "Bearer".into(),
        TOKEN.into(),
        format!("Basic {TOKEN}"),
    ] {
        assert_eq!(
            ask("/dead/retry", &wrong, "id=3"),
            answered(401, "that is not the token")
        );
    }
    assert_eq!(world.number(COUNT), 2);
    assert_eq!(
        ask("/dead/drop", &bearer, "reason=bad&confirm=yes"),
        answered(200, "2 dead letters dropped for ever")
    );
    assert_eq!(world.number(COUNT), 0);
    assert!(relay.stop().success());
}

#[test]
fn without_a_token_the_page_only_shows() {
    let mut world = World::new("readonly");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 1, "Bad");
    let relay = relay(&world, "");
    let page = get(&relay, "/dead").body;
    assert!(page.contains("<p id=\"read-only\">"), "{page}");
    assert!(!page.contains("<button class=\"retry\""), "{page}");
    for (path, lines) in [
        ("/dead/retry", ""),
        ("/dead/drop", "Authorization: Bearer \r\n"),
        ("/dead/drop", "Cookie: doorbell_1=\r\n"),
        ("/login", ""),
        ("/logout", ""),
    ] {
        let answer = post(&relay, path, lines, "id=1&confirm=yes&token=&form=");
        assert_eq!(answer.code, 403, "{path}: {answer:?}");
        assert!(
            answer.body.contains("set `token_file` in [http]"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(world.number(COUNT), 1);
    assert!(relay.stop().success());
}

#[test]
fn a_token_that_cannot_serve_is_said_before_anything_is_opened() {
    let world = World::new("badtoken");
    for (variable, value, words) in [
        (
            "DOORBELL_HTTP_TOKEN",
            "short",
            "must have 16 to 1024 characters",
        ),
        (
            "DOORBELL_HTTP_TOKEN_FILE",
            "/nowhere/token",
            "cannot be read from /nowhere/token",
        ),
    ] {
        // There is no such database: it was not looked for.
        let mut command = doorbell(
            &world,
            &["run", "--database-url", "postgres://u@127.0.0.1:1/x"],
        );
        let output = command
            .env(variable, value)
            .output()
            .expect("the binary runs");
        refused(
            &output,
            2,
            &[variable, "the token for the HTTP port", words],
        );
    }
}

/// How a form that is sent as it comes ends, and when.
fn sent(address: &str, head: &str, body: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let begun = Instant::now();
    let head = format!("POST /login HTTP/1.1\r\nHost: {address}\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(body).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    (
        String::from_utf8_lossy(&answer).into_owned(),
        begun.elapsed(),
    )
}

#[test]
fn forms_that_are_huge_or_slow_are_refused_and_a_slow_database_keeps_few_waiting() {
    let mut world = World::new("bounds");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 1, "Bad");
    let relay = guarded(&world);
    let address = relay.address();
    let large = "x".repeat(17 << 10);
    let chunk = format!("{:x}\r\n{large}\r\n", large.len());
    for (head, body) in [
        ("Content-Length: 1000000000", large.as_str()),
        ("Transfer-Encoding: chunked", &chunk),
    ] {
        let (answer, _) = sent(&address, head, body.as_bytes());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
            "{answer}"
        );
    }
    assert_eq!(post(&relay, "/login", "", &large).code, 413);
    let (answer, took) = sent(&address, "Content-Length: 10", b"token");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(took < Duration::from_secs(60), "{took:?}");

    // Whoever looks at the list waits for another session's lock: two may, and no more.
    let mut user = world.connect();
    world.sql_on(
        &mut user,
        "BEGIN; LOCK TABLE doorbell.dead IN ACCESS EXCLUSIVE MODE",
    );
    let looks: Vec<_> = (0..2)
        .map(|_| {
            let question =
                format!("GET /dead HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            let address = address.clone();
            std::thread::spawn(move || ask_at(&address, question.as_bytes()).expect("an answer"))
        })
        .collect();
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % page %' \
         AND wait_event_type = 'Lock'",
        2,
    );
    let third = get(&relay, "/dead");
    assert_eq!(third.code, 503, "{third:?}");
    assert!(third.body.contains("being asked for others"), "{third:?}");
    assert_eq!(get(&relay, "/").code, 200);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    Consumer::new(&world, &world.topic).await_records(1);
    world.sql_on(&mut user, "COMMIT");
    for look in looks {
        let answer = look.join().expect("it was answered");
        // The lock was held for longer than a page waits, on a machine that is busy.
        assert!(
            answer.code == 200 || answer.body.contains("statement timeout"),
            "{answer:?}"
        );
    }
    assert_eq!(get(&relay, "/dead").code, 200);
    for level in ["WARN", "ERROR"] {
        assert_eq!(relay.count_log(level), 0, "{:#?}", relay.log());
    }
    assert!(relay.stop().success());
}
