//! The page as people meet it: in a real Chromium, before a real relay. Pictures of it are left in `target/screenshots`.

use thirtyfour::Key;

use crate::support::{
    Browser, Consumer, Proxy, Relay, Scheme, Scripts, World, create_topic, eventually, get,
};

const ANY: &[&str] = &["--listen", "127.0.0.1:0"];
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
const TOKEN: &str = "a-token-of-the-tests";
const OVERFLOW: &str =
    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// A world with its topic, a leading relay behind a cable to PostgreSQL that can be pulled, and a browser; `None` where there is none.
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

/// No fault of accessibility in either scheme; a picture of each.
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
    insert(&mut world, 5_000);
    browser.await_words(&["Rows flow"]);
    eventually("another title", || {
        let title = browser.run("return document.title");
        (title == "Rows flow · Doorbell").then_some(())
    });
    world.await_empty();
    browser.await_words(&["All is sent"]);
    let highest = browser.run("return document.querySelector('figcaption span').textContent");
    let highest = highest.as_str().expect("text");
    assert!(
        highest.starts_with("highest ") && highest != "highest 0",
        "{highest}"
    );
    assert_eq!(browser.run("return window.isTheSame"), true);
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
    browser.await_words(&["Not ready", "What is wrong", "cannot be reached"]);
    accessible(&browser, "trouble");
    proxy.lead_to(world.host_port());
    browser.await_words(&["All is sent"]);
    assert!(!browser.text().contains("What is wrong"));
    relay.kill();
    browser.await_words(&["The relay does not answer: what is below is old."]);
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
        "Who leads",
        "this relay, for",
        "asleep: the next writer rings",
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
    browser.await_words(&["What is wrong"]);
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
    // What the last link leads to.
    browser.press(Key::Enter);
    browser.await_words(&["doorbell_build_info"]);
    assert_eq!(get(&relay, "/metrics").code, 200);
}

/// Goes through all that can be used with the key Tab, in the order in which it is written.
#[track_caller]
fn walked(browser: &Browser) {
    let wanted = browser.run(
        "return [...document.querySelectorAll('a, button, input:not([type=hidden]), [tabindex]')].map((it) => it.outerHTML)",
    );
    let wanted = wanted.as_array().expect("a list").clone();
    assert!(!wanted.is_empty());
    for element in wanted {
        browser.press(Key::Tab);
        let focused = browser.run("return document.activeElement.outerHTML");
        assert_eq!(focused, element);
        let outline = browser.run(
            "const it = getComputedStyle(document.activeElement); return it.outlineStyle + ' ' + it.outlineWidth",
        );
        assert_eq!(outline, "solid 3px", "{element}");
    }
}

/// A leading relay with a file of settings for its port.
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

#[test]
fn a_dead_letter_is_retried_by_a_click_and_one_is_dropped_after_a_question() {
    let Some(browser) = Browser::open(Scripts::On) else {
        return;
    };
    let mut world = World::new("clicks");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, key, routed_to, reason, code, payload_size, key_size, headers_size, attempts) \
         SELECT 'public.outbox', 1000 + n, now(), 'OrderCreated', '{\"id\": 7}', 'k' || n, 'orders', 'Kafka does not know the topic', 'UnknownTopic', 9, 2, 0, 1 \
         FROM generate_series(1, 2) n",
    );
    let relay = configured(&world, "token_file = 'TOKEN_FILE'\nshow_payloads = true");
    browser.visit(&relay, "/");
    browser.click("a[href='/dead']");
    browser.await_words(&["2 dead letters.", "UnknownTopic", "Token of this relay"]);
    accessible(&browser, "dead-closed");
    browser.fill("#token", TOKEN);
    browser.click("#enter button");
    browser.await_words(&["You may retry and drop."]);
    accessible(&browser, "dead-open");
    walked(&browser);

    browser.click("#dead tbody tr:first-child button.retry");
    browser.await_words(&["1 dead letter."]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let arrived = consumer.await_records(1);
    assert_eq!(
        arrived[0].payload.as_deref(),
        Some(b"{\"id\": 7}".as_slice())
    );

    browser.click("#dead tbody tr:first-child button.drop");
    browser.await_words(&["Keep"]);
    accessible(&browser, "dead-question");
    browser.click("#keep");
    browser.await_words(&["1 dead letter."]);
    browser.click("#dead tbody tr:first-child button.drop");
    browser.click("#drop");
    browser.await_words(&["0 dead letters."]);
    accessible(&browser, "dead-none");
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead WHERE retried_at IS NULL"),
        0
    );
    world.await_empty();
    assert_eq!(
        consumer.await_records(1).len(),
        1,
        "what was dropped is not sent"
    );
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
    browser.await_words(&["1 dead letter.", "InvalidHeaders", "This page only shows."]);
    let forms = browser.run("return document.querySelectorAll('form[method=post]').length");
    assert_eq!(forms, 0);
    assert_eq!(browser.run(OVERFLOW), 0);
    accessible(&browser, "phone-dead");

    browser.click("a[href='/relays']");
    browser.await_words(&["nobody would take over", "Ask again"]);
    assert_eq!(browser.run(OVERFLOW), 0);
    accessible(&browser, "phone-relays");
}

#[test]
#[ignore = "it takes a minute and a half and checks nothing: it makes the picture of README.md"]
fn the_picture_of_the_readme() {
    let browser = Browser::open(Scripts::On).expect("Chromium");
    let mut world = World::new("picture");
    let topic = "shop.orders";
    create_topic(&world, topic, 6, &[]);
    let relay = Relay::leading(&world, &[ANY, &["--topic", topic]].concat());
    browser.screen(1120, 700);
    browser.visit(&relay, "/");
    // A shop at work: more in the middle, and moments without anybody.
    for second in 0..90 {
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
    browser.picture("page");
}
