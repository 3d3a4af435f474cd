//! The page as its users meet it: in a real Chromium, from a real relay. Screenshots are left in
//! `target/screenshots`.

use thirtyfour::Key;

use crate::support::{
    Browser, Consumer, Proxy, Relay, Scheme, Scripts, World, create_topic, eventually, get,
};

const ANY: &[&str] = &["--listen", "127.0.0.1:0"];
/// A port without a listener.
const NOWHERE: &str = "127.0.0.1:1";
const TOKEN: &str = "a-token-of-the-tests";
const OVERFLOW: &str =
    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// A world with its topic, a leading relay behind a cable to PostgreSQL that can be pulled, and a
/// browser; `None` where there is none.
fn staged(test: &str, scripts: Scripts) -> Option<(World, Proxy, Relay, Browser)> {
    let browser = Browser::open(scripts)?;
    let world = World::new(test);
    create_topic(&world, &world.topic, 1, &[]);
    let proxy = Proxy::start("127.0.0.1:0", world.host_port());
    let url = world
        .database_url
        .replace(world.host_port(), &proxy.address().to_string());
    let relay = Relay::leading(&world, &[ANY, &["--database-url", &url]].concat());
    Some((world, proxy, relay, browser))
}

fn insert(world: &mut World, rows: usize) {
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 100, 'x' FROM generate_series(1, {rows}) n"
    ));
}

/// Checks that neither scheme has an accessibility fault, and takes a screenshot of each.
#[track_caller]
fn accessible(browser: &Browser, state: &str) {
    for scheme in Scheme::BOTH {
        browser.prefer(scheme);
        browser.picture(&format!("{state}-{scheme:?}").to_lowercase());
        if let Some(faults) = browser.faults() {
            assert!(faults.is_empty(), "{state}, {scheme:?}: {faults:#?}");
        }
    }
}

#[test]
fn numbers_change_while_rows_flow_and_the_page_is_not_loaded_again() {
    let Some((mut world, _proxy, relay, browser)) = staged("flows", Scripts::On) else {
        return;
    };
    browser.visit(&relay, "/");
    browser.await_words(&["All is sent", "this relay, for"]);
    browser.run("window.isTheSame = true");
    // The page may say it for a second only.
    browser.run(
        "window.titles = []; new MutationObserver(() => titles.push(document.title)).observe(document.querySelector('title'), {childList: true})",
    );
    insert(&mut world, 5_000);
    eventually("rows flow, also in the title", || {
        let titles = browser.run("return window.titles.join()");
        let titles = titles.as_str().expect("text");
        titles
            .contains("Rows flow · outbox · Doorbell")
            .then_some(())
    });
    world.await_empty();
    browser.await_words(&["All is sent"]);
    let text = |id: &str| {
        let text = browser.run(&format!(
            "return document.getElementById('{id}').textContent"
        ));
        text.as_str().expect("text").to_owned()
    };
    let highest = text("rate-peak");
    assert!(
        highest.starts_with("highest ") && highest.contains(" at "),
        "{highest}"
    );
    assert_eq!(browser.run("return window.isTheSame"), true);
    // The value under the pointer, and by keys; both stay while the charts change.
    browser.run(
        "const area = document.querySelector('[data-chart=rate]'), box = area.getBoundingClientRect(); \
         area.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2}))",
    );
    let read = text("rate-read");
    assert!(read.contains(":") && read.ends_with(" rows/s"), "{read}");
    browser.run("document.querySelector('[data-chart=latency]').focus()");
    browser.press(Key::Home);
    eventually("the value of the first second", || {
        let read = text("latency-read");
        (read.contains("wake ") && read.contains("delete ")).then_some(())
    });
    let last = "return document.getElementById('rate-plot').dataset.end";
    let before = browser.run(last);
    eventually("another second", || {
        (browser.run(last) != before).then_some(())
    });
    let focused = browser.run("return document.activeElement.dataset.chart");
    assert_eq!(
        (focused, text("latency-read").is_empty()),
        ("latency".into(), false)
    );
    accessible(&browser, "calm");
}

#[test]
fn an_outage_and_its_end_are_seen_and_so_is_a_relay_that_is_gone() {
    let Some((world, proxy, relay, browser)) = staged("outage", Scripts::On) else {
        return;
    };
    browser.visit(&relay, "/");
    browser.await_words(&["All is sent"]);
    proxy.lead_to(NOWHERE);
    browser.await_words(&["Not ready", "Problems", "unreachable"]);
    accessible(&browser, "trouble");
    proxy.lead_to(world.host_port());
    browser.await_words(&["All is sent"]);
    assert!(!browser.text().contains("Problems"));
    let log = browser.run("return document.getElementById('incidents').textContent");
    let log = log.as_str().expect("text");
    assert!(
        log.contains("outage") && log.contains("unreachable") && !log.contains("goes on"),
        "{log}"
    );
    relay.kill();
    browser.await_words(&["The relay does not respond: the values below are old."]);
    accessible(&browser, "gone");
}

#[test]
fn without_javascript_the_page_can_be_read_and_loads_itself_again() {
    let Some((mut world, _proxy, relay, browser)) = staged("noscript", Scripts::Off) else {
        return;
    };
    browser.visit(&relay, "/");
    browser.await_words(&[
        "All is sent",
        "Leader",
        "this relay, for",
        "asleep: the next insert wakes the relay",
    ]);
    world.doorbell(&["pause", "--reason", "the broker moves"]);
    browser.await_words(&["PAUSED: no row is sent", "the broker moves"]);
    browser.picture("noscript");
    world.doorbell(&["resume"]);
    insert(&mut world, 1);
    world.await_empty();
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_screen() {
    let Some((mut world, proxy, relay, browser)) = staged("phone", Scripts::On) else {
        return;
    };
    browser.screen(320, 640);
    browser.visit(&relay, "/");
    insert(&mut world, 1_000);
    browser.await_words(&["Rows flow"]);
    assert_eq!(browser.run(OVERFLOW), 0);
    browser.picture("phone");
    drop(proxy);
    browser.await_words(&["Problems"]);
    assert_eq!(browser.run(OVERFLOW), 0);
    browser.picture("phone-trouble");
}

#[test]
fn the_keyboard_reaches_everything_and_the_focus_is_seen() {
    let Some((_world, _proxy, relay, browser)) = staged("keyboard", Scripts::On) else {
        return;
    };
    browser.visit(&relay, "/");
    browser.await_words(&["All is sent"]);
    walked(&browser);
    // The target of the last link.
    browser.press(Key::Enter);
    browser.await_words(&["doorbell_build_info"]);
    assert_eq!(get(&relay, "/metrics").code, 200);
}

/// Presses Tab through everything that can be used, in the order of the markup.
#[track_caller]
fn walked(browser: &Browser) {
    let count = browser.run(
        "window.wanted = [...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary, [tabindex]')]; \
         return window.wanted.length",
    );
    let count = count.as_u64().expect("a number");
    assert!(count > 0);
    for at in 0..count {
        browser.press(Key::Tab);
        let focused = browser.run("return window.wanted.indexOf(document.activeElement)");
        let element = browser.run("return document.activeElement.outerHTML.slice(0, 200)");
        assert_eq!(focused, at, "{element}");
        let outline = browser.run(
            "const it = getComputedStyle(document.activeElement); return it.outlineStyle + ' ' + it.outlineWidth",
        );
        assert_eq!(outline, "solid 3px", "{element}");
    }
}

/// A leading relay with a configuration file for its port.
fn configured(world: &World, http: &str) -> Relay {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, config) = (folder.path().join("token"), folder.path().join("config"));
    std::fs::write(&token, TOKEN).expect("room for a token");
    let http = http.replace("TOKEN_FILE", token.to_str().expect("a path"));
    let text = format!(
        "[http]\n{http}\n[[outbox]]\nsweep = '1h'\ntopic = '{}'\n",
        world.topic
    );
    std::fs::write(&config, text).expect("room for settings");
    Relay::leading(
        world,
        &[ANY, &["--config", config.to_str().expect("a path")]].concat(),
    )
}

/// Inserts dead letters as the relay would leave them.
fn bury(world: &mut World, count: usize, code: &str, reason: &str) {
    world.sql(&format!(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, key, routed_to, reason, code, payload_size, key_size, headers_size, attempts, headers) \
         SELECT 'public.outbox', 1000 + (SELECT count(*) FROM doorbell.dead) + n, now(), (ARRAY['OrderCreated', 'OrderPaid', 'InvoiceSent'])[1 + n % 3], \
         '{{\"id\": ' || n || ', \"customer\": \"grace\", \"total\": \"129.90\"}}', 'customer-' || n, 'shop.orders', '{reason}', '{code}', 48 + length(n::text), 9 + length(n::text), 38, 1, \
         '{{\"tenant\": \"shop-eu\", \"trace\": \"7f3a\"}}' FROM generate_series(1, {count}) n"
    ));
}

const LETTERS: &str = "SELECT count(*) FROM doorbell.dead WHERE retried_at IS NULL";

#[test]
fn dead_letters_are_retried_and_dropped_by_clicks_one_and_several() {
    let Some(browser) = Browser::open(Scripts::On) else {
        return;
    };
    let mut world = World::new("clicks");
    create_topic(&world, &world.topic, 1, &[]);
    bury(
        &mut world,
        4,
        "UnknownTopic",
        "Kafka does not know the topic",
    );
    let relay = configured(&world, "token_file = 'TOKEN_FILE'\nshow_payloads = true");
    browser.visit(&relay, "/");
    browser.click("a[href='/dead']");
    browser.await_words(&["4 dead letters.", "UnknownTopic", "Log in"]);
    accessible(&browser, "dead-open");
    walked(&browser);
    browser.visit(&relay, "/dead?after=x");
    browser.await_words(&["Request failed"]);
    accessible(&browser, "dead-failed");
    // The browser sends the token once it was asked for it.
    browser.visit_as(&relay, "/login", "ann", TOKEN);
    browser.visit(&relay, "/dead");
    browser.await_words(&["logged in as ann"]);
    browser.click("#dead tbody tr:first-child th a");
    browser.await_words(&[
        "Dead letter 1",
        "\"id\": 1",
        "tenant",
        "created by a writer",
    ]);
    accessible(&browser, "letter");
    browser.click("#retry");
    browser.await_words(&["1 dead letter retried", "3 dead letters."]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let sent = consumer.await_records(1)[0].text().to_owned();
    assert!(sent.contains("\"id\": 1"), "{sent}");

    browser.visit(&relay, "/dead?topic=shop.orders");
    browser.click("#letter-2 input");
    browser.click("#letter-3 input");
    browser.click("#drop");
    browser.await_words(&["Drop for ever?", "2 dead letters: 2, 3"]);
    accessible(&browser, "dead-question");
    browser.click("#keep");
    browser.await_words(&["3 dead letters for the topic"]);
    browser.click("#select");
    browser.await_words(&["Select none"]);
    browser.click("#retry");
    browser.await_words(&["Retry?", "3 dead letters: 2, 3, 4"]);
    browser.click("#yes");
    browser.await_words(&[
        "3 dead letters retried",
        "0 dead letters for the topic “shop.orders”",
    ]);
    accessible(&browser, "dead-none");
    consumer.await_records(4);
    assert_eq!(world.number(LETTERS), 0);

    browser.click("a[href='/pause']");
    accessible(&browser, "pause");
    browser.run("document.querySelector('[name=reason]').value = 'the broker moves'");
    browser.click("button.pause");
    browser.await_words(&["outbox is paused", "Paused by ann", "the broker moves"]);
    browser.visit(&relay, "/");
    browser.await_words(&["PAUSED: no row is sent", "Resume …"]);
    accessible(&browser, "paused");
    browser.click("#resume");
    browser.click("button.resume");
    browser.await_words(&["outbox is resumed"]);
    browser.click("a[href='/runbook']");
    browser.await_words(&["DoorbellPaused"]);
    accessible(&browser, "runbook");
}

#[test]
fn without_a_token_dead_letters_are_only_shown_also_on_a_phone() {
    let Some(browser) = Browser::open(Scripts::On) else {
        return;
    };
    let mut world = World::new("shown");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = configured(&world, "");
    world.sql("INSERT INTO outbox (type, key, payload, headers) VALUES ('OrderCreated', repeat('k', 500), 'x', '[]')");
    world.await_empty();
    browser.screen(320, 640);
    browser.visit(&relay, "/dead");
    browser.await_words(&["1 dead letter.", "InvalidHeaders", "Changes are off."]);
    let height = browser.run("return document.querySelector('#dead tbody tr').offsetHeight");
    assert!(height.as_u64() < Some(60), "one line a letter: {height}");
    let forms = browser.run("return document.querySelectorAll('form[method=post]').length");
    assert_eq!(forms, 0);
    assert_eq!(browser.run(OVERFLOW), 0);
    accessible(&browser, "phone-dead");

    browser.click("a[href='/relays']");
    browser.await_words(&["no relay would take over", "Reload"]);
    assert_eq!(browser.run(OVERFLOW), 0);
    accessible(&browser, "phone-relays");
    for path in ["/dead/1", "/pause", "/runbook"] {
        browser.visit(&relay, path);
        assert_eq!(browser.run(OVERFLOW), 0, "{path}");
    }
}

/// The pictures of docs/operation.md, which `scripts/screenshots` takes.
#[test]
#[ignore = "it takes two minutes, for the pictures of the book"]
fn the_pictures_of_the_book() {
    const TOPIC: &str = "shop.orders.v2";
    let browser = Browser::open(Scripts::On).expect("Chromium");
    let mut world = World::new("shop");
    create_topic(&world, TOPIC, 6, &[]);
    let proxy = Proxy::start("127.0.0.1:0", world.host_port());
    let url = world
        .database_url
        .replace(world.host_port(), &proxy.address().to_string());
    let (folder, topic) = (tempfile::tempdir().expect("a folder"), world.topic.clone());
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("room");
    let http = format!(
        "[http]\ntoken_file = '{}'\nshow_payloads = true\n",
        token.display()
    );
    let config = |name: &str, outboxes: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{http}{outboxes}")).expect("room");
        path.to_str().expect("a path").to_owned()
    };
    let one = config("one", &format!("[[outbox]]\ntopic = '{TOPIC}'\n"));
    let relay = Relay::leading(
        &world,
        &[ANY, &["--config", &one, "--database-url", &url]].concat(),
    );
    browser.screen(1120, 700);
    browser.visit_as(&relay, "/login", "ann", TOKEN);
    browser.visit(&relay, "/");
    browser.await_words(&["All is sent"]);
    browser.picture("console-started");
    // A shop at work: more orders in the middle, and moments without any.
    for second in 0..75 {
        let rows = match second % 30 {
            0..4 => 0,
            burst => burst * (30 - burst) * 8,
        };
        insert(&mut world, rows);
        // The pace of the shop.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    insert(&mut world, 40_000);
    browser.await_words(&["Rows flow"]);
    browser.picture("console-flow");
    proxy.lead_to(NOWHERE);
    browser.await_words(&["Not ready", "unreachable"]);
    insert(&mut world, 1_200);
    browser.picture("console-outage");
    proxy.lead_to(world.host_port());
    browser.await_words(&["All is sent"]);
    let why = "brokers are moved to the new racks";
    world.doorbell(&["pause", "--config", &one, "--by", "ann", "--reason", why]);
    insert(&mut world, 830);
    browser.await_words(&["PAUSED"]);
    browser.picture("console-paused");
    world.doorbell(&["resume", "--config", &one]);

    bury(
        &mut world,
        26,
        "UnknownTopic",
        "Kafka does not know the topic, and may not create it",
    );
    bury(
        &mut world,
        9,
        "MessageSizeTooLarge",
        "the record is larger than the topic allows (max.message.bytes)",
    );
    browser.visit(&relay, "/dead?reason=UnknownTopic");
    for row in [2, 3, 5] {
        browser.click(&format!("#dead tbody tr:nth-child({row}) input"));
    }
    browser.picture("console-dead-letters");
    browser.click("#dead tbody tr:first-child th a");
    browser.picture("console-dead-letter");
    browser.screen(390, 844);
    browser.prefer(Scheme::Dark);
    browser.visit(&relay, "/");
    browser.await_words(&["All is sent"]);
    browser.picture("console-phone");
    assert!(relay.stop().success());

    let outbox =
        |name: &str| format!("[[outbox]]\ntable = '{name}'\ntopic = '{topic}'\nsweep = '1s'\n");
    let three = config(
        "three",
        &["outbox", "invoices", "mails"].map(outbox).concat(),
    );
    world.migrate(&["--config", &three]);
    create_topic(&world, &topic, 1, &[]);
    browser.screen(1120, 700);
    browser.prefer(Scheme::Light);
    world.doorbell(&[
        "pause",
        "--config",
        &three,
        "--table",
        "mails",
        "--by",
        "bob",
        "--reason",
        "the mail provider is down",
    ]);
    world.sql("ALTER TABLE invoices DISABLE TRIGGER doorbell_ring; INSERT INTO mails (type, payload) SELECT 't', 'x' FROM generate_series(1, 340)");
    world.sql("INSERT INTO invoices (type, payload) VALUES ('t', 'x')");
    let relay = Relay::leading(&world, &[ANY, &["--config", &three]].concat());
    browser.visit(&relay, "/");
    browser.await_words(&[
        "1 of 3 outboxes paused (mails), 1 to look at (invoices)",
        "35 dead letters wait for an operator",
        "Works, with a warning",
        "340",
    ]);
    insert(&mut world, 30_000);
    browser.await_words(&["Rows flow"]);
    browser.picture("console-several");
    accessible(&browser, "several");
    browser.screen(320, 640);
    for path in [
        "/",
        "/dead",
        "/dead/1",
        "/pause",
        "/runbook",
        "/outbox?outbox=mails",
    ] {
        browser.visit(&relay, path);
        assert_eq!(browser.run(OVERFLOW), 0, "{path}");
    }
    assert!(relay.stop().success());
}
