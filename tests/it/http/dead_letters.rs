//! Dead letters on the page: what is shown, and to whom. `dead_letter_actions` has what may be done
//! there, and by whom.

use crate::support::{Relay, World, create_topic, eventually, get};

const ANY: &[&str] = &["--listen", "127.0.0.1:0"];

/// Starts a relay that leads, with these lines under `[http]`.
pub(crate) fn relay(world: &World, http: &str) -> Relay {
    let config = tempfile::NamedTempFile::new().expect("a folder for temporary files");
    let topic = &world.topic;
    let text = format!("[http]\n{http}\n[[outbox]]\nsweep = '1h'\ntopic = '{topic}'\n");
    std::fs::write(config.path(), text).expect("room for a small file");
    let path = config.path().to_str().expect("a path");
    Relay::leading(world, &[ANY, &["--config", path]].concat())
}

/// Inserts dead letters as the relay would leave them.
pub(crate) fn bury(world: &mut World, count: usize, code: &str) {
    world.sql(&format!(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, key, routed_to, reason, code, payload_size, key_size, headers_size, \
         attempts) SELECT 'public.outbox', 1000 + n, now(), 'buried', 'p' || n, 'k' || n, 'orders', 'it is bad', '{code}', 2, 2, 0, 1 \
         FROM generate_series(1, {count}) n"
    ));
}

#[test]
fn a_row_that_kafka_cannot_take_is_seen_with_its_reason_and_its_payload_only_where_that_is_allowed()
{
    const SCRIPT: &str = "<script>alert(1)</script>";
    let mut world = World::new("seen");
    create_topic(&world, &world.topic, 1, &[]);
    let hidden = relay(&world, "");
    assert!(
        get(&hidden, "/dead")
            .body
            .contains("<strong>0</strong> dead letters.")
    );
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, headers) VALUES \
         ('a{SCRIPT}', 'b{SCRIPT}\"''&', 'secret{SCRIPT}', '[]'), ('t', NULL, NULL, '[]'), ('t', 'k', repeat('x', 5000), '[]')"
    ));
    world.await_empty();
    let page = get(&hidden, "/dead");
    assert_eq!(page.code, 200);
    for words in [
        "<strong>3</strong> dead letters.",
        "a&#60;script&#62;alert(1)",
        "b&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;",
        "not a JSON object",
        "<a href=\"/dead?reason=InvalidHeaders\">InvalidHeaders</a>",
        &format!("<td class=\"topic\">{}</td>", world.topic),
        "<a href=\"/dead/1\">1</a>",
    ] {
        assert!(page.body.contains(words), "{words} in {}", page.body);
    }
    for absent in ["secret", "<script", "style=", "onclick", "http://"] {
        assert!(!page.body.contains(absent), "{absent} in {}", page.body);
    }
    let letter = get(&hidden, "/dead/1?reason=Invalid").body;
    for words in [
        "payload 31, key 29, headers 2",
        "Payloads are hidden",
        "a&#60;script&#62;alert(1)",
        "<pre id=\"headers\">[]</pre>",
        "rejected: InvalidHeaders",
        "<a id=\"back\" href=\"/dead?reason=Invalid\">",
    ] {
        assert!(letter.contains(words), "{words} in {letter}");
    }
    assert!(
        !letter.contains("secret") && !letter.contains("<script"),
        "{letter}"
    );
    for (path, code, words) in [
        ("/dead/4", 404, "there is no dead letter 4"),
        ("/dead/x", 400, "must be a whole number"),
        ("/dead/9223372036854775808", 400, "must be a whole number"),
        ("/dead?outbox=x", 404, "no outbox"),
        ("/dead?retried=-1", 400, "must be a count"),
    ] {
        let answer = get(&hidden, path);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.body.contains(words), "{answer:?}");
    }
    for guard in [
        "content-security-policy: default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "referrer-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(page.head.contains(guard), "{guard} in {}", page.head);
    }
    assert!(
        get(&hidden, "/")
            .body
            .contains("This relay has moved 3 rows to the dead letters since it started.")
    );
    assert!(hidden.stop().success());

    let shown = relay(&world, "show_payloads = true");
    let cut = format!("<pre id=\"payload\">{}…</pre>", "x".repeat(4_000));
    for (path, words) in [
        ("/dead/1", "secret&#60;script&#62;alert(1)"),
        ("/dead/2", "none: a tombstone"),
        ("/dead/3", &cut),
    ] {
        let page = get(&shown, path).body;
        assert!(page.contains(words), "{words} in {page}");
        assert!(!page.contains("<script"), "{page}");
    }
    assert!(shown.stop().success());
}

#[test]
fn the_list_comes_in_pages_and_can_be_searched_by_reason() {
    let mut world = World::new("pages50");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = relay(&world, "");
    bury(&mut world, 120, "Common");
    bury(&mut world, 2, "Rare & <odd>");
    let (mut path, mut ids) = ("/dead".to_owned(), Vec::new());
    loop {
        let page = get(&relay, &path).body;
        let rows = page.split("data-id=\"").skip(1);
        ids.extend(rows.map(|rest| {
            let id = rest.split('"').next().expect("an end");
            id.parse::<i64>().expect("a number")
        }));
        match page.split("rel=\"next\" href=\"").nth(1) {
            Some(rest) => path = rest.split('"').next().expect("an end").to_owned(),
            None => break,
        }
    }
    assert_eq!(ids, (1..=122).collect::<Vec<_>>());
    assert_eq!(path, "/dead?after=100");

    let rare = get(&relay, "/dead?reason=rare+%26").body;
    assert!(
        rare.contains("<strong>2</strong> dead letters with “rare &#38;”."),
        "{rare}"
    );
    assert_eq!(rare.matches("data-id=").count(), 2);
    assert!(
        rare.contains("href=\"/dead?reason=Rare+%26+%3Codd%3E\""),
        "{rare}"
    );
    let second = get(&relay, "/dead?reason=COMMON&after=50").body;
    assert!(
        second.contains("href=\"/dead?reason=COMMON&#38;after=100\""),
        "{second}"
    );
    let both = get(&relay, "/dead?topic=orders&type=buried&reason=rare").body;
    for words in [
        "<strong>2</strong> dead letters with “rare” for the topic “orders” of the type “buried”.",
        "<option value=\"orders\" selected>orders (122)</option>",
        "href=\"/dead/121?reason=rare&#38;topic=orders&#38;type=buried\"",
    ] {
        assert!(both.contains(words), "{words} in {both}");
    }
    let none = get(&relay, "/dead?topic=nowhere").body;
    assert!(
        none.contains("<strong>0</strong> dead letters for the topic “nowhere”."),
        "{none}"
    );
    for bad in ["after=x", "reason=%00", "topic=a%0Ab", "type=x&until=y"] {
        let answer = get(&relay, &format!("/dead?{bad}"));
        assert_eq!(answer.code, 400, "{answer:?}");
        assert!(answer.body.contains("must be"), "{answer:?}");
    }
    // The session of the requests ends soon after the last one.
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % page %'",
        0,
    );
    assert!(relay.stop().success());
}

#[test]
fn a_role_that_may_not_see_them_is_told_what_grants_it() {
    let mut world = World::new("unseen");
    create_topic(&world, &world.topic, 1, &[]);
    // A capital letter needs quotes.
    let number = std::process::id();
    let role = format!("\"Seer_{number}\"");
    let (writer, operator) = (
        format!("seers_writer_{number}"),
        format!("seers_operator_{number}"),
    );
    let file = include_str!("../../../sql/roles.sql");
    world.sql(
        &file
            .replace("doorbell_writer", &writer)
            .replace("doorbell_operator", &operator)
            .replace("doorbell_relay", &role),
    );
    world.sql(&format!("ALTER ROLE {role} LOGIN"));
    bury(&mut world, 1, "Bad");
    let url = world
        .database_url
        .replace("//postgres@", &format!("//{}@", role.replace('"', "")));
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    let grants = || {
        let page = get(&relay, "/dead").body;
        let grants = page.split_once("<pre id=\"grants\">").map(|(_, rest)| {
            let text = rest.split("</pre>").next().expect("an end");
            text.replace("&#34;", "\"")
        });
        (grants, page)
    };
    let (missing, page) = grants();
    let missing = missing.expect("grants");
    assert!(
        page.contains("may not read, retry or drop dead letters"),
        "{page}"
    );
    assert!(!page.contains("<table"), "{page}");
    let expected = [
        "SELECT ON doorbell.dead",
        "UPDATE ON doorbell.dead",
        "INSERT ON public.outbox",
        "DELETE ON doorbell.dead",
    ];
    let expected = expected.map(|right| format!("GRANT {right} TO {role};"));
    assert_eq!(missing.lines().collect::<Vec<_>>(), expected);
    // It may exist.
    assert_eq!(get(&relay, "/dead/1").code, 409);
    world.sql(&expected[0]);
    let (missing, page) = grants();
    assert_eq!(missing.expect("grants").lines().count(), 3);
    assert!(page.contains("may not retry or drop"), "{page}");
    assert!(page.contains("id=\"letter-1\""), "{page}");
    world.sql(&expected[1..].concat());
    assert_eq!(grants().0, None);
    assert!(relay.stop().success());
    world.sql(&format!(
        "DROP OWNED BY {role}, {writer}, {operator}; DROP ROLE {role}, {writer}, {operator}"
    ));
}

#[test]
fn without_postgresql_the_page_says_so() {
    let world = World::new("unasked");
    create_topic(&world, &world.topic, 1, &[]);
    let proxy = crate::support::Proxy::start("127.0.0.1:0", world.host_port());
    let url = world
        .database_url
        .replace(world.host_port(), &proxy.address().to_string());
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    assert_eq!(get(&relay, "/dead").code, 200);
    drop(proxy);
    let answer = eventually("the page says so", || {
        let answer = get(&relay, "/dead");
        (answer.code == 503).then_some(answer)
    });
    assert!(answer.body.contains("unreachable"), "{answer:?}");
}
