//! Dead letters are retried and dropped on the page with the token, and not without it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::dead_letters::{bury, relay};
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

/// The line of the head with which a browser sends a token, or whatever it was given.
fn basic(user: &str, token: &str) -> String {
    format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{user}:{token}"))
    )
}

/// A browser whose user has signed in.
struct Visitor<'a> {
    relay: &'a Relay,
}

impl Visitor<'_> {
    /// Sends a form of the relay's own page, as browsers do.
    #[track_caller]
    fn post(&self, path: &str, form: &str) -> Answer {
        let origin = format!("Origin: http://{}\r\n", self.relay.address());
        let lines = basic("anyone", TOKEN) + origin.as_str();
        post(self.relay, path, &lines, form)
    }

    /// Clicks, and reads what the page then says.
    #[track_caller]
    fn done(&self, path: &str, form: &str) -> String {
        let answer = self.post(path, form);
        if answer.code != 303 {
            assert_eq!(answer.code, 409, "{answer:?}");
            return said(&answer.body).expect("the reason");
        }
        let (_, to) = answer.head.split_once("location: ").expect("a location");
        let to = to.lines().next().expect("a line");
        said(&get(self.relay, to).body).expect("the outcome")
    }
}

fn said(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("class=\"outcome ")?;
    let (_, words) = rest.split_once('>')?;
    Some(words.split("</p>").next()?.to_owned())
}

#[test]
fn with_the_token_a_user_retries_and_drops_by_a_click() {
    let mut world = World::new("click");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = guarded(&world);
    world.sql("INSERT INTO outbox (type, key, payload, headers) VALUES ('t', 'k', 'first', '[]'), ('t', 'k', 'second', '[]')");
    world.await_number(COUNT, 2);
    bury(&mut world, 3, "Other");
    // The cause is removed.
    world.sql("UPDATE doorbell.dead SET headers = NULL WHERE row_id < 3");
    let visitor = Visitor { relay: &relay };
    let list = get(&relay, "/dead").body;
    assert!(list.contains("aria-label=\"Select 1\""), "{list}");
    assert!(list.contains("href=\"/login\">Log in</a>"), "{list}");
    let (login, known) = (get(&relay, "/login"), basic("ann", TOKEN));
    assert_eq!(login.code, 401);
    assert!(login.head.contains("www-authenticate: basic"), "{login:?}");
    assert_eq!(ask(&relay, "/login", &known).code, 303);
    let greeted = ask(&relay, "/dead", &known).body;
    assert!(greeted.contains("logged in as ann"), "{greeted}");
    assert_eq!(said(&list), None);

    // A browser asks its user when it is asked itself, and sends the form again.
    let own = format!("Origin: http://{}\r\n", relay.address());
    let asked = post(&relay, "/dead/retry", &own, "id=1");
    assert_eq!(asked.code, 401, "{asked:?}");
    assert!(
        asked
            .head
            .contains("www-authenticate: basic realm=\"doorbell\"\r\n"),
        "{asked:?}"
    );
    assert_eq!(world.number(COUNT), 5);
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
        visitor.done("/dead/retry", "reason=invalidheaders&confirm=yes"),
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
    let gone = visitor.done("/dead/drop", "id=3&confirm=yes");
    assert!(gone.starts_with("there is no dead letter 3"), "{gone}");
    let found = get(&relay, "/dead?reason=Other").body;
    assert!(found.contains("id=\"drop-all\""), "{found}");
    let question = visitor.post("/dead/drop", "reason=Other").body;
    assert!(
        question.contains("<strong>2 dead letters with “Other”</strong>"),
        "{question}"
    );
    assert!(
        question.contains("name=\"until\" value=\"5\""),
        "{question}"
    );
    // What has arrived since the question is left alone, and the filter stays.
    bury(&mut world, 1, "Other");
    let asked = "reason=Other&until=5&confirm=yes&filter=reason%3DOther%26topic%3Dorders";
    let answer = visitor.post("/dead/drop", asked);
    assert!(
        answer
            .head
            .contains("location: /dead?reason=other&topic=orders&dropped=2\r\n"),
        "{answer:?}"
    );
    assert_eq!(
        visitor.done("/dead/drop", asked),
        "0 dead letters dropped: none matches any more"
    );
    assert_eq!(world.number(COUNT), 1);
    let question = visitor.post("/dead/retry", "id=6&id=6").body;
    assert!(question.contains("back into the outbox"), "{question}");
    let gone = visitor.post("/dead/retry", "reason=nothing");
    assert_eq!(gone.code, 409, "{gone:?}");
    assert_eq!(world.number(COUNT), 1);
    assert_eq!(
        visitor.done("/dead/drop", "type=buried&confirm=yes"),
        "1 dead letter dropped for ever"
    );
    relay.await_log("dead letters were dropped over HTTP");
    assert_eq!(relay.count_log(TOKEN), 0);
    assert_eq!(
        relay.count_log(&STANDARD.encode(format!("anyone:{TOKEN}"))),
        0
    );
    assert!(relay.stop().success());
}

#[test]
fn unintended_requests_are_refused_and_change_nothing() {
    let mut world = World::new("meant");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 2, "Bad");
    let relay = guarded(&world);
    let visitor = Visitor { relay: &relay };
    let retry = |lines: &str| post(&relay, "/dead/retry", lines, "id=1");
    let own = format!("Origin: http://{}\r\n", relay.address());
    let signed_in = |line: &str| format!("{}{line}\r\n", basic("anyone", TOKEN));
    for (answer, code, words) in [
        (retry(""), 401, "a token is required"),
        (retry(&own), 401, "a token is required"),
        // A browser sends along what its user once gave, whatever page a form is on.
        (
            retry(&signed_in("Origin: http://evil.example")),
            403,
            "from another site",
        ),
        (retry(&signed_in("Origin: null")), 403, "from another site"),
        (
            retry(&signed_in("Sec-Fetch-Site: cross-site")),
            403,
            "from another site",
        ),
        (
            retry(&signed_in("Sec-Fetch-Site: same-site")),
            403,
            "from another site",
        ),
        (
            retry(&format!(
                "{}Sec-Fetch-Site: cross-site\r\n",
                signed_in(own.trim_end())
            )),
            403,
            "from another site",
        ),
        // Nor does a form of another site have the browser ask its user.
        (
            retry("Sec-Fetch-Site: cross-site\r\n"),
            403,
            "from another site",
        ),
        (
            retry(&basic("anyone", TOKEN)),
            403,
            "neither Sec-Fetch-Site nor Origin",
        ),
        (
            visitor.post("/dead/retry", ""),
            400,
            "no dead letter is selected",
        ),
        (
            visitor.post("/dead/retry", "id=x"),
            400,
            "`id` must be a whole number",
        ),
        (
            visitor.post("/dead/drop", "reason=&confirm=yes"),
            400,
            "no dead letter is selected",
        ),
        (
            visitor.post("/dead/drop", "reason=%00&confirm=yes"),
            400,
            "`reason` must be",
        ),
        (
            visitor.post("/dead/drop", "reason=Bad&id=1&confirm=yes"),
            400,
            "no dead letter is selected",
        ),
    ] {
        assert_eq!(answer.code, code, "{words}: {answer:?}");
        assert!(answer.body.contains(words), "{words}: {answer:?}");
    }
    for path in ["/dead/retry", "/dead/drop?id=1&confirm=yes"] {
        let answer = ask(&relay, path, &signed_in(own.trim_end()));
        assert_eq!(answer.code, 405, "{path}");
    }
    // A site whose name was made to stand for this machine.
    let address = relay.address();
    for path in ["/", "/dead", "/metrics", "/status.json"] {
        let question =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = ask_at(&address, question.as_bytes()).expect("an answer");
        assert_eq!(answer.code, 421, "{path}: {answer:?}");
        assert!(
            answer.body.contains("is not a name of this port"),
            "{answer:?}"
        );
    }

    for token in ["0f1e2d3c-letterz", "", TOKEN].iter().cycle().take(12) {
        // The token as the user name is not the password.
        let (user, password) = if *token == TOKEN {
            (TOKEN, "")
        } else {
            ("u", *token)
        };
        let answer = retry(&(basic(user, password) + own.as_str()));
        if answer.code == 429 {
            break;
        }
        assert_eq!(answer.code, 401, "{answer:?}");
        assert!(answer.body.contains("wrong token"), "{answer:?}");
    }
    let right = visitor.post("/dead/retry", "id=1");
    assert_eq!(right.code, 429, "{right:?}");
    assert!(right.head.contains("retry-after: 60"), "{right:?}");
    let program = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(retry(&program).code, 429);
    assert_eq!(get(&relay, "/dead").code, 200);
    assert_eq!(world.number(COUNT), 2);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    assert!(relay.stop().success());
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
        format!("Digest {TOKEN}"),
    ] {
        assert_eq!(
            ask("/dead/retry", &wrong, "id=3"),
            answered(
                401,
                "wrong token: send the one that is configured in [http]"
            )
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
    assert!(
        !page.contains("method=\"post\"") && page.contains("read-only"),
        "{page}"
    );
    for (path, lines) in [
        ("/dead/retry", ""),
        ("/dead/drop", "Authorization: Bearer \r\n"),
        ("/dead/drop", &basic("", "")),
        ("/dead/drop", &basic("anyone", TOKEN)),
    ] {
        let answer = post(&relay, path, lines, "id=1&confirm=yes");
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

#[test]
fn a_user_with_the_token_pauses_and_resumes_and_others_do_not() {
    let mut world = World::new("pausing");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = guarded(&world);
    let visitor = Visitor { relay: &relay };
    let paused = "SELECT count(*) FROM doorbell.outbox WHERE paused_at IS NOT NULL";
    let own = format!("Origin: http://{}\r\n", relay.address());
    for (answer, code, words) in [
        (
            post(&relay, "/pause", &own, "outbox=outbox&reason=x"),
            401,
            "a token is required",
        ),
        (
            post(
                &relay,
                "/pause",
                &(basic("ann", TOKEN) + "Origin: http://evil.example\r\n"),
                "outbox=outbox&reason=x",
            ),
            403,
            "another site",
        ),
        (
            visitor.post("/pause", "outbox=outbox&reason=+"),
            400,
            "give a `reason`",
        ),
        (
            visitor.post("/pause", "outbox=outbox&reason=a%0Ab"),
            400,
            "must be a text of one line",
        ),
        (
            visitor.post("/pause", "outbox=x&reason=x"),
            404,
            "it has outbox",
        ),
        (visitor.post("/pause", "reason=x"), 400, "name the outbox"),
    ] {
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.body.contains(words), "{words}: {answer:?}");
    }
    assert_eq!(world.number(paused), 0);
    assert!(get(&relay, "/pause").body.contains("not paused"));
    let pause = "outbox=outbox&reason=the+broker+moves";
    assert_eq!(
        visitor.done("/pause", pause),
        "outbox is paused: no row is sent until it is resumed"
    );
    relay.await_log("paused: no row is fetched");
    assert_eq!(
        visitor.done("/pause", pause),
        "outbox was already paused; it has the new reason"
    );
    let page = get(&relay, "/pause").body;
    assert!(
        page.contains("Paused by <strong>anyone</strong>") && page.contains("the broker moves"),
        "{page}"
    );
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'held')");
    assert_eq!(
        visitor.done("/resume", "outbox=outbox"),
        "outbox is resumed"
    );
    assert_eq!(
        Consumer::new(&world, &world.topic).await_records(1)[0].text(),
        "held"
    );
    assert_eq!(
        visitor.done("/resume", "outbox=outbox"),
        "outbox was not paused: nothing was changed"
    );
    let program = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = post(&relay, "/pause", &program, "outbox=outbox&reason=x&by=ci");
    assert_eq!(
        answer.body,
        "public.outbox is paused: no row is sent until it is resumed\n"
    );
    assert!(relay.stop().success());
}

/// How a form that is sent as it comes ends, and when.
fn sent(address: &str, head: &str, body: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let begun = Instant::now();
    let head = format!(
        "POST /dead/retry HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n{head}\r\n\r\n"
    );
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
    let program = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(post(&relay, "/dead/retry", &program, &large).code, 413);
    let (answer, took) = sent(&address, "Content-Length: 10", b"token");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(took < Duration::from_secs(60), "{took:?}");

    // Requests for the list wait for another session's lock: two may, one of them for the session
    // of the other, and no more.
    let mut user = world.connect();
    world.sql_on(
        &mut user,
        "BEGIN; LOCK TABLE doorbell.dead IN ACCESS EXCLUSIVE MODE",
    );
    let (answered, answers) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let question =
            format!("GET /dead HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let (address, answered) = (address.clone(), answered.clone());
        std::thread::spawn(move || {
            let answer = ask_at(&address, question.as_bytes()).expect("an answer");
            answered.send(answer).expect("it is awaited");
        });
    }
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % page %' \
         AND wait_event_type = 'Lock'",
        1,
    );
    let third = answers.recv().expect("an answer");
    assert_eq!(third.code, 503, "{third:?}");
    assert!(third.body.contains("busy with other requests"), "{third:?}");
    assert_eq!(get(&relay, "/").code, 200);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    Consumer::new(&world, &world.topic).await_records(1);
    world.sql_on(&mut user, "COMMIT");
    for answer in answers.iter().take(2) {
        // The lock was held for longer than a page waits, on a machine that is busy.
        let is_late = answer.code == 504 || answer.body.contains("statement timeout");
        assert!(answer.code == 200 || is_late, "{answer:?}");
    }
    assert_eq!(get(&relay, "/dead").code, 200);
    for level in ["WARN", "ERROR"] {
        assert_eq!(relay.count_log(level), 0, "{:#?}", relay.log());
    }
    assert!(relay.stop().success());
}
