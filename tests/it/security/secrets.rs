//! Secrets are planted in every place that takes one. Nothing that the program then prints, writes
//! or answers contains one of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use super::cluster::{Cluster, OTHER_PASSWORD};
use crate::support::{
    Consumer, Instance, Planted, Relay, Services, World, ask, create_topic, doorbell, eventually,
    get, post,
};

/// With every character that is written differently in a URL, in JSON and in HTML.
const DATABASE_PASSWORD: &str = "pl4nted/url+s3cret%&<\"x";
const DATABASE_PASSWORD_IN_URL: &str = "pl4nted%2Furl%2Bs3cret%25%26%3C%22x";
const HTTP_TOKEN: &str = "pl4nted-http-t0ken";
/// What is no secret, so that the test sees that it searched the right place.
const USER: &str = "m4rked_user";
const CLIENT: &str = "m4rked-client";
/// The most verbose log, including what the C library logs.
const ALL: &str = "trace,librdkafka=trace,rdkafka=trace,sqlx=trace";

/// A PostgreSQL that asks for a password, a Kafka that asks for a login, and the files that hold
/// both.
struct Stage {
    world: World,
    cluster: Arc<Cluster>,
    server: Instance,
    folder: tempfile::TempDir,
    planted: Planted,
    /// `host:port/database`.
    at: String,
}

impl Stage {
    fn new(name: &str) -> Self {
        let cluster = Cluster::shared();
        let server = Instance::start(name, &["postgres"]);
        let services = Services {
            kafka_brokers: cluster.services().kafka_brokers,
            ..server.services()
        };
        let mut world = World::on(name, services);
        let mut planted = Planted::default();
        planted.plant("the database's password", DATABASE_PASSWORD);
        planted.plant("the login's password", OTHER_PASSWORD);
        // Superuser, because it runs the commands of every role.
        world.sql(&format!(
            "CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{DATABASE_PASSWORD}'"
        ));
        let rules = "host all postgres all trust\nhost all all all scram-sha-256\n";
        let data = PathBuf::from(server.variable("POSTGRES_DATA"));
        std::fs::write(data.join("pg_hba.conf"), rules).expect("pg_hba.conf can be written");
        world.sql("SELECT pg_reload_conf()");
        let at = world.database_url.rsplit_once('@').expect("a host").1;
        let stage = Self {
            at: at.to_owned(),
            world,
            cluster,
            server,
            folder: tempfile::tempdir().expect("a folder"),
            planted,
        };
        let unknown = format!("postgres://{USER}:nothing@{}", stage.at);
        eventually("the server asks for passwords", || {
            let asked = stage
                .world
                .doorbell(&["status", "--database-url", &unknown]);
            (!asked.status.success()).then_some(())
        });
        stage
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("room for a file");
        path.display().to_string()
    }

    fn url(&self, password: &str) -> String {
        format!("postgres://{USER}:{password}@{}", self.at)
    }

    /// A file with secrets of all kinds, each in a file of its own or in its place.
    fn config(&mut self, name: &str, url: &str, login: &str) -> String {
        let own = &self.cluster.own;
        let key = std::fs::read_to_string(&own.key).expect("a key");
        let line = key.lines().nth(1).expect("a line of the key");
        self.planted.plant("a key", line);
        let certificate = std::fs::read_to_string(&own.certificate).expect("a certificate");
        let key_password = self
            .planted
            .plant("a key's password", "pl4nted-key-p4ssword");
        let store_password = self
            .planted
            .plant("a key store's", "pl4nted-st0re-p4ssword");
        let url = self.write(&format!("{name}.url"), &format!("{url}\n"));
        let login = self.write(&format!("{name}.login"), login);
        let authority = self.cluster.authority.file.display();
        let (at, topic) = (self.cluster.at("LOGIN"), &self.world.topic);
        let text = format!(
            "[database]\nurl = {{ file = '{url}' }}\n[kafka]\nbrokers = '{at}'\n[kafka.properties]\n\
             'security.protocol' = 'sasl_ssl'\n'sasl.mechanism' = 'SCRAM-SHA-512'\n'sasl.username' = 'scram512'\n\
             'sasl.password' = {{ file = '{login}' }}\n'ssl.ca.location' = '{authority}'\n'broker.address.family' = 'v4'\n\
             'client.id' = '{CLIENT}'\n'ssl.key.password' = '{key_password}'\n'ssl.keystore.password' = '{store_password}'\n\
             'ssl.certificate.pem' = '''\n{certificate}'''\n'ssl.key.pem' = '''\n{key}'''\n\
             'debug' = 'all'\n'log_level' = '7'\n[[outbox]]\ntopic = '{topic}'\n"
        );
        self.write(&format!("{name}.toml"), &text)
    }

    /// The binary with only these arguments: no address of the tests' services.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = doorbell(&self.world, arguments);
        command
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BROKERS");
        command
    }

    /// Runs a command and searches its output. It must end as `well` says.
    #[track_caller]
    fn say(&mut self, mut command: Command, well: bool) -> String {
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let said = said(&output);
        let place = format!("{:?}", command.get_args().collect::<Vec<_>>());
        self.planted.look(&place, &said);
        assert_eq!(output.status.success(), well, "{place}: {said}");
        said
    }

    /// The list of processes, as every user of the machine sees it: a process and those it started.
    fn look_at_processes(&mut self, of: u32) -> usize {
        let mut seen = 0;
        for entry in std::fs::read_dir("/proc").expect("a list of processes") {
            let folder = entry.expect("a process").path();
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            let parent = format!("PPid:\t{of}\n");
            let is_it = folder.ends_with(of.to_string()) || read("status").contains(&parent);
            if is_it {
                self.planted.look("the list of processes", &read("cmdline"));
                self.planted.look("the list of processes", &read("comm"));
                seen += 1;
            }
        }
        seen
    }
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_is_looked_for_is_found_in_every_form() {
    let mut planted = Planted::default();
    planted.plant("it", DATABASE_PASSWORD);
    let json = serde_json::json!({ "url": DATABASE_PASSWORD }).to_string();
    let base64 = |before: &str| {
        let text = format!("{before}{DATABASE_PASSWORD} after");
        STANDARD.encode(text)
    };
    for text in [
        format!("at {DATABASE_PASSWORD}, "),
        format!("postgres://u:{DATABASE_PASSWORD_IN_URL}@h"),
        format!("{DATABASE_PASSWORD:?}"),
        json,
        base64(""),
        base64("a"),
        base64("ab"),
        "<p>pl4nted/url+s3cret%&amp;&lt;\"x".to_owned(),
    ] {
        assert!(planted.found_in(&text).is_some(), "{text}");
    }
    assert!(planted.found_in("pl4nted/url+s3cret%&<").is_none());
}

#[test]
fn nothing_that_leaves_a_relay_that_works_has_a_secret_in_it() {
    let mut stage = Stage::new("secrets");
    create_topic(&stage.world, &stage.world.topic, 1, &[]);
    let url = stage.url(DATABASE_PASSWORD_IN_URL);
    let config = stage.config("right", &url, OTHER_PASSWORD);
    let config = ["--config", &config];
    let mut consumer = Consumer::new(&stage.world, &stage.world.topic);
    let token_file = stage.write("http.token", HTTP_TOKEN);
    stage.planted.plant("the token", HTTP_TOKEN);
    let wrong_token = "pl4nted-wr0ng-http-t0ken";
    stage.planted.plant("a wrong token", wrong_token);
    let mut rows = 0;
    for format in ["text", "json"] {
        let flags = [
            "run",
            "--listen",
            "127.0.0.1:0",
            "--log",
            ALL,
            "--log-format",
            format,
        ];
        let mut command = stage.command(&[&flags[..], &config].concat());
        match format {
            "text" => command.env("DOORBELL_HTTP_TOKEN", HTTP_TOKEN),
            _ => command.env("DOORBELL_HTTP_TOKEN_FILE", &token_file),
        };
        let relay = Relay::of(&mut command);
        relay.await_log("leading");
        stage.world.sql(
            "INSERT INTO outbox (type, payload) VALUES ('t', 'x'); INSERT INTO outbox (type, headers) VALUES ('bad', '[]')",
        );
        rows += 1;
        consumer.await_records(rows);
        stage.world.await_empty();
        for path in [
            "/",
            "/metrics",
            "/healthz",
            "/readyz",
            "/status.json",
            "/nothing",
            "/dead",
            "/dead/1",
            "/pause",
            "/login",
            "/page.js",
        ] {
            let answer = get(&relay, path);
            stage
                .planted
                .look(path, &format!("{}\n{}", answer.head, answer.body));
        }
        let own = "Sec-Fetch-Site: same-origin\r\n";
        let sent = |credentials: &str| {
            let lines = format!("{own}Authorization: {credentials}\r\n");
            let changed = post(&relay, "/dead/retry", &lines, "reason=nothing&confirm=yes");
            [changed, ask(&relay, "/dead", &lines)]
        };
        let basic = |token: &str| format!("Basic {}", STANDARD.encode(format!("u:{token}")));
        let bearer = |token: &str| format!("Bearer {token}");
        assert_eq!(sent(&basic(HTTP_TOKEN))[0].code, 303, "it is the token");
        for token in [HTTP_TOKEN, wrong_token] {
            for answer in [sent(&basic(token)), sent(&bearer(token))]
                .into_iter()
                .flatten()
            {
                stage.planted.look(
                    "what a token leads to",
                    &format!("{}\n{}", answer.head, answer.body),
                );
            }
        }
        let sessions = format!("SELECT a::text FROM pg_stat_activity a WHERE usename = '{USER}'");
        let sessions = stage.world.texts(&sessions);
        // The session of the page of dead letters may not have ended yet.
        assert!(sessions.len() >= 4, "{sessions:?}");
        stage.planted.look("pg_stat_activity", &sessions.join("\n"));
        assert_eq!(stage.look_at_processes(relay.pid()), 1);
        let log = relay.log();
        assert!(relay.stop().success());
        let log = log.join("\n");
        stage.planted.look("the log", &log);
        // It was the whole log, with what the C library says of its configuration.
        for words in [CLIENT, "TRACE", "CONF"] {
            assert!(log.contains(words), "{words} in the log");
        }
    }
    let topic = stage.world.topic.clone();
    for words in [
        &["migrate"][..],
        &["migrate", "--dry-run"],
        &["check"],
        &["check", "--json"],
        &["emit", "--type", "t", "x"],
        &["status"],
        &["status", "--json"],
        &["pause", "--reason", "why"],
        &["resume"],
        &["dead", "list"],
        &["dead", "show", "1"],
        &["dead", "list", "--json"],
        &["receipts", "accept"],
        &["drain", "--log", ALL],
        &["drain", "--json"],
        &["verify", "--topic", &topic],
        &["verify", "--topic", &topic, "--json"],
    ] {
        let command = stage.command(&[words, &config].concat());
        stage.say(command, true);
    }
    for words in [&["config"][..], &["config", "--json"]] {
        let command = stage.command(&[words, &config].concat());
        let said = stage.say(command, true);
        assert!(
            said.contains(CLIENT) && said.contains("right.url"),
            "{said}"
        );
    }
    stage.what_comes_from_the_environment();
    stage.what_the_binary_tells_of_itself();
    stage.what_a_benchmark_shows(&config);
    // What the servers received and logged: statements, names, refusals.
    let log = Path::new(stage.server.variable("POSTGRES_DATA")).join("../log");
    let log = std::fs::read_to_string(log).expect("the server's log");
    stage.planted.look("the log of PostgreSQL", &log);
    assert!(
        stage.planted.looked() > 100_000,
        "{}",
        stage.planted.looked()
    );
}

impl Stage {
    /// The same secrets by every variable that takes one.
    fn what_comes_from_the_environment(&mut self) {
        let (bare, whole) = (
            format!("postgres://{USER}@{}", self.at),
            self.url(DATABASE_PASSWORD_IN_URL),
        );
        let parameter = format!(
            "{bare}?password={DATABASE_PASSWORD_IN_URL}&options=-c%20app.key%3D{}",
            self.planted.plant("an option", "pl4nted-0ption")
        );
        let [bare_file, whole_file, password_file] = [
            ("bare", bare.as_str()),
            ("whole", &whole),
            ("password", DATABASE_PASSWORD),
        ]
        .map(|(name, text)| self.write(name, text));
        // The driver reads it by itself, and only if other users may not.
        let password_file_of_libpq =
            self.write("pgpass", &format!("*:*:*:{USER}:{DATABASE_PASSWORD}"));
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&password_file_of_libpq, private).expect("a file of ours");
        for variables in [
            &[("DATABASE_URL", whole.as_str())][..],
            &[("DATABASE_URL", &parameter)],
            &[("DATABASE_URL_FILE", &whole_file)],
            &[("DATABASE_URL", &bare), ("PGPASSWORD", DATABASE_PASSWORD)],
            &[
                ("DATABASE_URL", &bare),
                ("PGPASSFILE", &password_file_of_libpq),
            ],
            &[
                ("DATABASE_URL_FILE", &bare_file),
                ("PGPASSWORD_FILE", &password_file),
            ],
        ] {
            for words in [
                &["status"][..],
                &["config"],
                &["config", "--json"],
                &["--help"],
                &["run", "--help"],
            ] {
                let mut command = self.command(words);
                command.envs(variables.iter().copied());
                let said = self.say(command, true);
                // A value that is no secret is printed in the searched place.
                let shown = words[0] != "config"
                    || said.contains(USER)
                    || said.contains(self.folder.path().to_str().expect("a path"));
                assert!(shown, "{variables:?}: {said}");
            }
        }
        // Giving it twice is an error, and no reason to print either.
        let mut command = self.command(&["status"]);
        command
            .env("DATABASE_URL", &whole)
            .env("DATABASE_URL_FILE", &whole_file);
        self.say(command, false);
    }

    fn what_the_binary_tells_of_itself(&mut self) {
        let folder = self.folder.path().join("man");
        let pages = folder.to_str().expect("a path").to_owned();
        let whole = self.url(DATABASE_PASSWORD_IN_URL);
        for words in [
            &["man"][..],
            &["man", &pages],
            &["completions", "bash"],
            &["completions", "zsh"],
            &["completions", "fish"],
            &["--version"],
            &["bench", "--help"],
            &["dead", "--help"],
        ] {
            let mut command = self.command(words);
            command
                .env("DATABASE_URL", &whole)
                .env("PGPASSWORD", DATABASE_PASSWORD);
            self.say(command, true);
        }
        let mut written = 0;
        for page in std::fs::read_dir(folder).expect("man pages") {
            let text = std::fs::read_to_string(page.expect("a page").path()).expect("text");
            self.planted.look("a man page", &text);
            written += 1;
        }
        assert!(written > 10, "{written}");
    }

    /// It starts a relay, and hands it everything that it has itself.
    fn what_a_benchmark_shows(&mut self, config: &[&str]) {
        let words = [&["bench", "idle", "--idle", "1h"], config].concat();
        let mut command = self.command(&words);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = child.spawn().expect("the binary runs");
        let leads = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell % leader %'";
        self.world.await_number(leads, 1);
        assert_eq!(
            self.look_at_processes(child.id()),
            2,
            "the relay is a process of its own"
        );
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        self.planted.look("the benchmark", &said(&output));
    }
}

#[test]
fn nothing_that_is_refused_or_cannot_be_reached_is_told_with_a_secret_in_it() {
    let mut stage = Stage::new("refusedsecrets");
    create_topic(&stage.world, &stage.world.topic, 1, &[]);
    let right = stage.url(DATABASE_PASSWORD_IN_URL);
    let wrong = stage.planted.plant("a wrong password", "pl4nted-wr0ng");
    let refused_url = stage.url(wrong);
    let away = format!("postgres://{USER}:{wrong}@127.0.0.1:1/x");
    let nowhere = format!("postgres://{USER}:{wrong}@no-such-host.invalid/x");
    let refused_login = stage.config("login", &right, wrong);
    let refused_url = stage.config("url", &refused_url, OTHER_PASSWORD);
    let away = stage.config("away", &away, OTHER_PASSWORD);
    let nowhere = stage.config("nowhere", &nowhere, OTHER_PASSWORD);
    // The relay waits for an unreachable server; a refusal ends the start by itself.
    for (config, patience, words) in [
        (&refused_login, "60s", "refuses the login"),
        (&refused_url, "60s", "password authentication failed"),
        (&away, "1s", "unreachable"),
        (&nowhere, "60s", "no-such-host.invalid"),
    ] {
        let run = [
            "run",
            "--start-timeout",
            patience,
            "--log",
            ALL,
            "--config",
            config,
        ];
        let command = stage.command(&run);
        let said = stage.say(command, false);
        assert!(said.contains(words), "{words} in {said}");
        for words in [
            &["check"][..],
            &["check", "--json"],
            &["verify", "--topic", "any"],
        ] {
            let command = stage.command(&[words, &["--config", config]].concat());
            stage.say(command, false);
        }
        // These commands connect to the database alone.
        for words in [
            &["status"][..],
            &["migrate"],
            &["dead", "list"],
            &["pause"],
            &["resume"],
        ] {
            let command = stage.command(&[words, &["--config", config]].concat());
            stage.say(command, config == &refused_login);
        }
    }

    // What cannot even be parsed. Every user of the machine sees the command line itself; the
    // message about it must not repeat it.
    for url in [
        format!("mysql://u:{wrong}@h/x"),
        format!("u:{wrong}@h/x"),
        format!("postgres://u:{wrong}@h:port/x"),
        format!("postgres://u:{wrong}/x@h/x"),
        format!("postgres://u:{wrong}@/x"),
        format!("postgres://u:{wrong}%zz@h/x"),
        format!("postgres://u:{wrong} @h/x"),
        format!("postgres://u:p@h/x?sslpassword={wrong}"),
        format!("postgres://u:p@h/x?passwort={wrong}"),
        format!("postgres://u:{wrong}@h/x?sslkey=/nowhere&sslcert=/nowhere"),
        format!("host=h password={wrong}"),
    ] {
        let file = stage.write("broken.url", &url);
        for words in [&["config"][..], &["status"], &["check"]] {
            for (variable, value) in [("DATABASE_URL", &url), ("DATABASE_URL_FILE", &file)] {
                let mut command = stage.command(words);
                command
                    .env(variable, value)
                    .env("KAFKA_BROKERS", "127.0.0.1:1");
                // `config` does not read files.
                let output = said(
                    &command
                        .stdin(Stdio::null())
                        .output()
                        .expect("the binary runs"),
                );
                stage
                    .planted
                    .look(&format!("{words:?} with {variable}"), &output);
            }
        }
        for words in [
            &["run", "--database-url", &url][..],
            &["run", &url],
            &[&url],
            &["run", "--sweep", &url],
            &["config", "--kafka-brokers", &url],
        ] {
            let command = stage.command(words);
            stage.say(command, false);
        }
    }
    stage.what_a_file_gets_wrong(wrong);
}

impl Stage {
    /// Invalid files, with secrets in and next to what is wrong.
    fn what_a_file_gets_wrong(&mut self, secret: &str) {
        for (lines, words) in [
            (format!("'sasl.pasword' = '{secret}'"), "sasl.pasword"),
            (
                format!("'sasl.password' = '{secret}'\n'no.such.thing' = 'x'"),
                "no.such.thing",
            ),
            (
                format!(
                    "'security.protocol' = 'sasl_ssl'\n'sasl.mechanism' = 'OAUTHBEARER'\n'sasl.oauthbearer.method' = 'oidc'\n'sasl.oauthbearer.client.secret' = '{secret}'"
                ),
                "not supported in this build",
            ),
            (
                format!("'sasl.oauthbearer.config' = '{secret}'\n'acks' = '1'"),
                "acks",
            ),
            (
                format!("'security.protocol' = 'ssl'\n'ssl.key.pem' = '{secret}'"),
                "ssl.key.pem",
            ),
            (
                format!("'security.protocol' = 'ssl'\n'ssl.certificate.pem' = '{secret}'"),
                "ssl.certificate.pem",
            ),
            (format!("'linger.ms' = '{secret}'"), "linger.ms"),
            (
                format!("'sasl.password' = ['{secret}']"),
                "`sasl.password` must be",
            ),
            (
                format!("'sasl.password' = {{ file = '/nowhere', text = '{secret}' }}"),
                "sasl.password",
            ),
            (format!("'sasl.password' = '{secret}"), "not TOML"),
            (format!("'sasl.password' = {secret}"), "not TOML"),
            (
                format!("[database]\nurl = 'postgres://u:{secret}@h/x'\npassword = '{secret}'"),
                "password",
            ),
        ] {
            let url = self.url(DATABASE_PASSWORD_IN_URL);
            let text = format!("[kafka]\nbrokers = '127.0.0.1:1'\n[kafka.properties]\n{lines}\n");
            let config = self.write("broken.toml", &text);
            for command in [
                &["run", "--start-timeout", "1s"][..],
                &["check"],
                &["config"],
            ] {
                let mut command = self.command(&[command, &["--config", &config]].concat());
                command.env("DATABASE_URL", &url);
                let output = command
                    .stdin(Stdio::null())
                    .output()
                    .expect("the binary runs");
                let said = said(&output);
                self.planted.look(&text, &said);
                let is_config = command.get_args().next() == Some("config".as_ref());
                assert!(
                    is_config || !output.status.success() && said.contains(words),
                    "{words} in {said}"
                );
            }
        }
        // A token that is no token, has expired, or is missing.
        let claims =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"pl4nted","exp":1}"#);
        let token = format!("pl4ntedhead.{claims}.pl4ntedsignature");
        self.planted.plant("a token's claims", &claims);
        self.planted
            .plant("a token's signature", "pl4ntedsignature");
        let authority = self.cluster.authority.file.display().to_string();
        let at = self.cluster.at("LOGIN");
        for token in [&token, "pl4ntedsignature"] {
            let file = self.write("token", token);
            let url = self.url(DATABASE_PASSWORD_IN_URL);
            let config = self.write(
                "token.toml",
                &format!(
                    "[kafka.properties]\n'security.protocol' = 'sasl_ssl'\n'sasl.mechanism' = 'OAUTHBEARER'\n\
                     'ssl.ca.location' = '{authority}'\n'debug' = 'all'\n'log_level' = '7'\n"
                ),
            );
            for words in [
                &["run", "--start-timeout", "1s", "--log", ALL][..],
                &["check"],
            ] {
                let mut command =
                    self.command(&[words, &["--config", &config, "--kafka-brokers", &at]].concat());
                command
                    .env("DATABASE_URL", &url)
                    .env("KAFKA_TOKEN_FILE", &file);
                let said = self.say(command, false);
                assert!(said.contains("token"), "{said}");
            }
        }
    }
}
