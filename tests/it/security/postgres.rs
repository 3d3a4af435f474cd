//! TLS to PostgreSQL.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::support::{
    Authority, Consumer, Identity, Instance, Relay, World, create_topic, eventually, not_here,
    refused,
};

/// A PostgreSQL with TLS that requires nothing of `postgres` and a certificate of `relay`.
struct Server {
    instance: Instance,
    world: World,
    /// `host:port/database`, by the name in the certificate and by another one.
    at: String,
    elsewhere: String,
}

impl Server {
    fn start(authority: &Authority) -> Self {
        let instance = Instance::start("tls", &["postgres15"]);
        let world = World::on("tls", instance.services());
        let (_, at) = world.database_url.split_once('@').expect("user@host");
        let mut server = Self {
            elsewhere: at.to_owned(),
            at: at.replace("127.0.0.1", "localhost"),
            instance,
            world,
        };
        let data = PathBuf::from(server.instance.variable("POSTGRES_DATA_15"));
        server.install(&authority.file, "root.crt");
        server.present(&authority.issue("server", &["localhost"]));
        let hba = "host all postgres all trust\nhostssl all relay all cert\nhostssl all named all scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf can be written");
        server.world.sql(
            "CREATE ROLE relay SUPERUSER LOGIN; CREATE ROLE named SUPERUSER LOGIN PASSWORD 'right'",
        );
        server
            .world
            .sql("ALTER SYSTEM SET ssl_ca_file = 'root.crt'");
        server.world.sql("ALTER SYSTEM SET ssl = on");
        server.reload();
        server
    }

    /// Puts a file into the server's data directory, where the server may read it.
    fn install(&self, file: &Path, name: &str) {
        let data = PathBuf::from(self.instance.variable("POSTGRES_DATA_15"));
        let target = data.join(name);
        std::fs::copy(file, &target).expect("a file of the server");
        let owner = std::fs::metadata(&data).expect("the server's data");
        chown(&target, Some(owner.uid()), Some(owner.gid())).expect("a file of the server");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&target, private).expect("a file of the server");
    }

    fn present(&self, identity: &Identity) {
        self.install(&identity.certificate, "server.crt");
        self.install(&identity.key, "server.key");
    }

    /// Makes the server reload its settings and files, and waits until it has.
    fn reload(&mut self) {
        let loaded = "SELECT (extract(epoch FROM pg_conf_load_time()) * 1000000)::bigint::text";
        let at = |server: &Self| -> i64 {
            // A new session is a child of the server as it is now.
            let mut session = server.world.connect();
            let text = server.world.text_on(&mut session, loaded);
            text.parse().expect("a number")
        };
        let before = at(self);
        self.world.sql("SELECT pg_reload_conf()");
        eventually("the server has read its settings", || {
            (at(self) > before).then_some(())
        });
    }

    fn run(&self, user: &str, at: &str, parameters: &str) -> std::process::Output {
        let url = format!("postgres://{user}@{at}?{parameters}");
        self.world.doorbell(&["run", "--database-url", &url])
    }
}

#[test]
fn postgres_is_verified_and_verifies_us_and_what_is_wrong_is_said_in_one_line() {
    // The packaged build that the other tests run on has no TLS; Debian's server has.
    if let Some(reason) = not_here("postgres15") {
        eprintln!("left out: {reason}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let stranger = Authority::new(folder.path(), "stranger");
    let mut server = Server::start(&authority);
    create_topic(&server.world, &server.world.topic, 1, &[]);
    let own = authority.issue("relay", &[]);
    let shown = |path: &Path| path.display().to_string();
    let root = shown(&authority.file);
    let full = format!("sslmode=verify-full&sslrootcert={root}");
    let client = format!(
        "{full}&sslcert={}&sslkey={}",
        shown(&own.certificate),
        shown(&own.key)
    );
    let at = server.at.clone();

    // Verified on both sides, a row travels; each session of the relay is encrypted.
    let url = format!("postgres://relay@{at}?{client}");
    let relay = Relay::leading(&server.world, &["--database-url", &url]);
    server
        .world
        .sql("INSERT INTO outbox (type, payload) VALUES ('t', 'over TLS')");
    let mut consumer = Consumer::new(&server.world, &server.world.topic);
    assert_eq!(consumer.await_records(1)[0].text(), "over TLS");
    server.world.await_empty();
    let sessions = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'relay'";
    assert_eq!(server.world.number(sessions), 4);
    assert_eq!(
        server
            .world
            .number(&format!("{sessions} AND ssl AND client_dn = '/CN=relay'")),
        4
    );

    // A running relay waits for a certificate that it can trust again.
    server.present(&authority.issue_expired("expired", &["localhost"]));
    server.reload();
    refused(
        &server.run("relay", &at, &client),
        1,
        &["has expired", "renew it"],
    );
    server
        .world
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'");
    relay.await_log("has expired");
    server.present(&authority.issue("server", &["localhost"]));
    server.reload();
    relay.await_log_times("leading", 2);
    assert!(relay.stop().success());

    // The client's identity.
    refused(
        &server.run("relay", &at, &full),
        1,
        &["certificate", "check"],
    );
    let other = stranger.issue("impostor", &[]);
    let bad = format!(
        "{full}&sslcert={}&sslkey={}",
        shown(&other.certificate),
        shown(&other.key)
    );
    refused(
        &server.run("relay", &at, &bad),
        1,
        &["TLS with PostgreSQL", "UnknownCA", "certificate"],
    );
    refused(
        &server.run("named:wrong", &at, &full),
        1,
        &[
            "password authentication failed",
            "check the user, the password",
        ],
    );
    refused(
        &server.run("named:right", &at, "sslmode=disable"),
        1,
        &["no pg_hba.conf entry", "no encryption"],
    );

    // The server's identity.
    refused(
        &server.run("relay", &server.elsewhere, &client),
        1,
        &["another host", "localhost", "connect by a name"],
    );
    let unknown = shown(&stranger.file);
    for mode in ["verify-full", "verify-ca", "require"] {
        refused(
            &server.run(
                "named:right",
                &at,
                &format!("sslmode={mode}&sslrootcert={unknown}"),
            ),
            1,
            &["authority that is not trusted here", "sslrootcert"],
        );
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_before_anything_is_opened() {
    let world = World::new("certificates");
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let (own, other) = (authority.issue("own", &[]), authority.issue("other", &[]));
    let shown = |path: &Path| path.display().to_string();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("room for a file");
        shown(&path)
    };
    let damaged = write(
        "damaged.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let text = write("text.pem", "no certificate\n");
    let (certificate, key) = (shown(&own.certificate), shown(&own.key));
    // The port has no listener: whatever is opened would be reported as unreachable.
    for (parameters, words) in [
        (
            "sslrootcert=/nowhere.pem".to_owned(),
            ["/nowhere.pem", "No such file"],
        ),
        (format!("sslrootcert={damaged}"), ["damaged.pem", "damaged"]),
        (
            format!("sslrootcert={text}"),
            ["text.pem", "no certificate in PEM"],
        ),
        (format!("sslcert={certificate}"), ["sslkey", "give both"]),
        (
            format!("sslcert={certificate}&sslkey={certificate}"),
            ["own.crt", "no private key"],
        ),
        (
            format!("sslcert={certificate}&sslkey={}", shown(&other.key)),
            ["other.key", "does not belong to"],
        ),
        (
            format!("sslcert={damaged}&sslkey={key}"),
            ["damaged.pem", "cannot be used"],
        ),
    ] {
        let url = format!("postgres://u:hush@127.0.0.1:1/x?{parameters}");
        let output = world.doorbell(&["run", "--database-url", &url]);
        refused(&output, 2, &words);
    }

    let encrypted = write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n",
    );
    for (key, file, word) in [
        ("ssl.ca.location", "/nowhere.pem", "No such file"),
        ("ssl.ca.location", &damaged, "damaged"),
        ("ssl.certificate.location", &text, "no certificate in PEM"),
        ("ssl.key.location", "/nowhere.pem", "No such file"),
        ("ssl.key.location", &encrypted, "[kafka.properties]"),
    ] {
        let lines = format!(
            "[kafka.properties]\n\"security.protocol\" = \"ssl\"\n\"{key}\" = \"{file}\"\n"
        );
        let config = write("doorbell.toml", &lines);
        let url = "postgres://u@127.0.0.1:1/x";
        let output = world.doorbell(&["run", "--database-url", url, "--config", &config]);
        refused(&output, 2, &[key, word]);
    }
}
