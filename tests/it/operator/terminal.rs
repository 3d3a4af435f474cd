//! What the commands look like from a pipe, with colours, and at a terminal.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::support::{Relay, World, create_topic, doorbell, refused};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs it with environment variables.
fn with(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = doorbell(world, arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "DOORBELL_LOG"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().expect("it runs")
}

#[test]
fn colours_are_for_terminals_or_who_forces_them_and_never_with_no_color() {
    let world = World::new("colour");
    let plain = text(&with(&world, &["status"], &[]));
    assert!(!plain.contains('\x1b'), "{plain}");
    let forced = text(&with(&world, &["status"], &[("CLICOLOR_FORCE", "1")]));
    assert!(forced.contains("\x1b[31m") && forced.contains("none: no relay"));
    let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert_eq!(text(&with(&world, &["status"], &both)), plain);
    let error = with(&world, &["status", "--table", "absent"], &both[..1]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("\x1b[31m"));
    let error = with(&world, &["status", "--table", "absent"], &both);
    assert!(!String::from_utf8_lossy(&error.stderr).contains('\x1b'));
}

#[test]
fn status_that_watches_says_a_line_a_turn_and_ends_when_nobody_reads() {
    let mut world = World::new("watch");
    create_topic(&world, &world.topic, 1, &[]);
    let watch = |flags: &[&str]| {
        let arguments = [&["status", "--watch", "100ms"], flags].concat();
        let mut child = doorbell(&world, &arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        (child, out.lines().map(|line| line.expect("a line")))
    };
    let (mut child, mut lines) = watch(&[]);
    let (mut json_child, mut objects) = watch(&["--json"]);
    let first = lines.next().expect("a turn");
    assert!(
        first.contains("public.outbox backlog=0 ") && first.contains("leader=\"none\""),
        "{first}"
    );
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    // Each turn is a line; the wait ends with the one that has the row.
    lines
        .find(|line| line.contains("backlog=1 "))
        .expect("a turn");
    let seen = objects.find(|line| {
        let status: Value = serde_json::from_str(line).expect("JSON");
        status[0]["backlog"] == 1
    });
    seen.expect("a turn");
    // A lost session does not end it.
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% status %'");
    let relay = Relay::leading(&world, &[]);
    lines
        .find(|line| line.contains("backlog=0 ") && line.contains("leader=\"doorbell"))
        .expect("a turn");
    drop((lines, objects));
    assert!(child.wait().expect("an end").success());
    assert!(json_child.wait().expect("an end").success());
    assert!(relay.stop().success());
    refused(
        &world.doorbell(&["status", "--watch", "1ms"]),
        2,
        &["100ms"],
    );
}

#[test]
fn an_unknown_log_level_is_refused_before_anything_is_opened() {
    let world = World::new("loglevel");
    let away = ["--database-url", "postgres://u@127.0.0.1:1/x"];
    let run = |flags: &[&str], variables: &[(&str, &str)]| {
        let start = ["run", "--start-timeout", "1s"];
        with(&world, &[&start, &away[..], flags].concat(), variables)
    };
    refused(
        &run(&["--log", "inof"], &[]),
        2,
        &["--log: \"inof\" is no log level: use off"],
    );
    refused(
        &run(&[], &[("RUST_LOG", "info,sqlx=loud")]),
        2,
        &["RUST_LOG: \"sqlx=loud\""],
    );
    refused(
        &run(&[], &[("DOORBELL_LOG", "7")]),
        2,
        &["DOORBELL_LOG: \"7\""],
    );
    refused(
        &run(&["--log-format", "xml"], &[]),
        2,
        &["--log-format", "xml", "use text or json"],
    );
    // A flag overrides the environment, and both override what remains of it.
    let variables = [
        ("DOORBELL_LOG", "warn"),
        ("RUST_LOG", "nonsense"),
        ("DOORBELL_LOG_FORMAT", "json"),
    ];
    refused(&run(&[], &variables), 1, &["unreachable"]);
    let run = run(&["--log", "off", "--log-format", "text"], &variables);
    refused(&run, 1, &["unreachable"]);
}

#[test]
fn the_log_may_be_one_json_object_a_line() {
    let world = World::new("logjson");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--log-format", "json"]);
    relay.await_log("\"message\":\"leading\"");
    for line in relay.log() {
        let object: Value = serde_json::from_str(&line).expect("JSON");
        assert!(object["level"].is_string(), "{line}");
    }
    assert!(relay.stop().success());
}

#[test]
fn completions_and_man_pages_come_from_the_same_definitions() {
    let world = World::new("manual");
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&world.doorbell(&["completions", shell]));
        for word in ["migrate", "in-flight-rows", "pause"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    let script = text(&world.doorbell(&["completions", "bash"]));
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(format!(
        "{script}\nCOMP_WORDS=(doorbell resu); COMP_CWORD=1; _doorbell doorbell resu doorbell; echo \"${{COMPREPLY[*]}}\""
    ));
    assert_eq!(text(&bash.output().expect("bash")), "resume\n");

    let page = text(&world.doorbell(&["man"]));
    assert!(page.contains(".TH doorbell 1") && page.contains("Relay rows until a signal"));
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let path = pages.to_str().expect("a path");
    assert!(world.doorbell(&["man", path]).status.success());
    for page in ["doorbell.1", "doorbell-run.1", "doorbell-dead-retry.1"] {
        let page = std::fs::read_to_string(pages.join(page)).expect(page);
        assert!(page.contains(".SH OPTIONS"), "{page}");
    }
    std::fs::write(folder.path().join("file"), "").expect("a file");
    let inside = folder.path().join("file").join("man1");
    let output = world.doorbell(&["man", inside.to_str().expect("a path")]);
    refused(&output, 1, &["failed to make the folder"]);
}

#[test]
fn who_reads_no_further_is_no_failure() {
    let world = World::new("pipe");
    for arguments in [
        &["completions", "zsh"][..],
        &["man"],
        &["migrate", "--dry-run"],
        &["status", "--json"],
        &["--help"],
    ] {
        let mut child = doorbell(&world, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        drop(child.stdout.take());
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("text");
        assert!(child.wait().expect("an end").success(), "{arguments:?}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
}

#[test]
fn config_says_what_is_in_force_and_can_be_read_back() {
    let world = World::new("config");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("doorbell.toml");
    let path = file.to_str().expect("a path");
    std::fs::write(&file, "[[outbox]]\nsweep = \"5s\"\n").expect("a file");
    let arguments = ["config", "--config", path, "--topic", "there"];
    let shown = text(&world.doorbell(&arguments));
    for (key, origin) in [
        ("url = \"postgres://", "# environment DATABASE_URL"),
        ("sweep = \"5s\"", &format!("# {path}:2")),
        ("topic = \"there\"", "# --topic"),
        ("poison = \"park\"", "# default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(key));
        assert!(
            line.is_some_and(|it| it.ends_with(origin)),
            "{key}: {shown}"
        );
    }
    let json = text(&world.doorbell(&[&arguments[..], &["--json"]].concat()));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let sweep = json
        .as_array()
        .and_then(|all| all.iter().find(|it| it["key"] == "outbox[0].sweep"));
    assert_eq!(sweep.expect("a sweep")["value"], "5s");
    let again = folder.path().join("again.toml");
    std::fs::write(&again, shown.as_bytes()).expect("a file");
    let again = text(&world.doorbell(&["config", "--config", again.to_str().expect("a path")]));
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split("  #").next().map(|it| it.trim_end().to_owned());
        text.lines().filter_map(value).collect()
    };
    assert_eq!(values(&again), values(&shown));
    refused(
        &world.doorbell(&["config", "--sweep", "soon"]),
        2,
        &["--sweep"],
    );
}

/// Runs it at a terminal of its own until its output has these words. Closing the terminal then
/// ends it, if it has not ended.
#[track_caller]
fn at_a_terminal(world: &World, arguments: &[&str], until: &str) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let side = || File::options().read(true).write(true).open(path);
    let mut command = doorbell(world, arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    let mut child = command
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(side().expect("its other side"))
        .stderr(side().expect("its other side"))
        .spawn()
        .expect("it runs");
    drop(command);
    let mut master = File::from(master);
    let (mut text, mut page) = (String::new(), [0; 4_096]);
    // A read fails when the other side is closed.
    while !text.contains(until) {
        match master.read(&mut page) {
            Ok(read) if read > 0 => text += &String::from_utf8_lossy(&page[..read]),
            _ => break,
        }
    }
    child.kill().ok();
    child.wait().expect("an end");
    assert!(text.contains(until), "{until} in {text}");
    text
}

#[test]
fn at_a_terminal_control_characters_of_payloads_and_names_are_escaped() {
    let mut world = World::new("escapes");
    let payload = "'a' || chr(27) || ']52;c;YQ==' || chr(7) || chr(27) || '[2Jb'";
    world.sql(&format!(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, reason, code, payload_size, key_size, headers_size, attempts) \
         VALUES ('public.outbox', 1, now(), 'x', {payload}, 'r', 'c', 1, 0, 0, 1)"
    ));
    let screen = at_a_terminal(&world, &["dead", "show", "1"], "[2Jb");
    assert!(
        !screen.contains('\x1b') && !screen.contains('\x07'),
        "{screen}"
    );
    let shown = text(&world.doorbell(&["dead", "show", "1"]));
    assert!(shown.contains("\x1b[2Jb"), "not to a file: {shown}");
    let screen = at_a_terminal(&world, &["status", "--table", "no\x1b]2;x"], "doorbell:");
    assert!(!screen.contains("\x1b]"), "{screen}");
}

#[test]
fn at_a_terminal_status_draws_over_itself_and_drain_and_replay_have_a_bar() {
    let mut world = World::new("tty");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 40)");
    // Each turn begins in the top left corner; the second has its time, as the first did.
    let watch = ["status", "--watch", "100ms"];
    let screen = at_a_terminal(&world, &watch, "\x1b[J\x1b[H");
    assert!(screen.contains("backlog  40 rows"), "{screen}");
    assert!(screen.contains("\x1b[31m"), "colour: {screen}");
    assert!(screen.contains("Ctrl-C ends"), "{screen}");
    let topic = world.topic.clone();
    let drain = ["drain", "--topic", &topic, "--max-rate", "20"];
    let screen = at_a_terminal(&world, &drain, "drained, 40 rows sent");
    assert!(screen.contains(" of 40 rows, "), "{screen}");
    assert!(!screen.contains("of about"), "no lines: {screen}");
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    let to = format!("{topic}.replay");
    create_topic(&world, &to, 1, &[]);
    let replay = ["replay", "--from", &topic, "--to", &to, "--rate", "20"];
    let screen = at_a_terminal(&world, &replay, "replayed 40 records");
    assert!(screen.contains(" of 40 records, "), "{screen}");
    assert!(screen.contains("replaying"), "the log: {screen}");
}
