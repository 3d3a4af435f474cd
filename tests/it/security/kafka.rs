//! TLS and logins at Kafka: each way to log in delivers a row, and each refusal is one line.

use std::process::Output;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cluster::{Cluster, OTHER_PASSWORD, PASSWORD, shown};
use crate::support::{Authority, Consumer, Relay, World, create_topic, refused};

/// An unsigned token, which the broker's own check for tests accepts.
pub(super) fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.expect("later than 1970").as_secs()).expect("a time");
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let claims = format!(
        r#"{{"sub":"relay","iat":{},"exp":{}}}"#,
        now.min(now + seconds) - 5,
        now + seconds
    );
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// The lines of a configuration for a listener, and those of one login.
pub(super) fn config(cluster: &Cluster, listener: &str, name: &str, login: &str) -> String {
    let protocol = match listener {
        "PLAIN" => "sasl_plaintext",
        "LOGIN" => "sasl_ssl",
        _ => "ssl",
    };
    let lines = format!(
        "{login}\n\"security.protocol\" = \"{protocol}\"\n\"broker.address.family\" = \"v4\"\n"
    );
    shown(&cluster.write(&format!("{name}.toml"), &lines))
}

/// The login of a user by password.
pub(super) fn login(cluster: &Cluster, mechanism: &str, user: &str, password: &str) -> String {
    let authority = shown(&cluster.authority.file);
    format!(
        "[kafka.properties]\n\"sasl.mechanism\" = \"{mechanism}\"\n\"sasl.username\" = \"{user}\"\n\
         \"sasl.password\" = \"{password}\"\n\"ssl.ca.location\" = \"{authority}\"\n"
    )
}

#[test]
fn each_login_and_each_certificate_delivers_a_row() {
    let cluster = Cluster::shared();
    let mut world = World::on("logins", cluster.services());
    create_topic(&world, &world.topic, 1, &[]);
    let topic = world.topic.clone();
    let mut consumer = Consumer::new(&world, &topic);
    let authority = shown(&cluster.authority.file);
    let token_file = shown(&cluster.write("token", &token(3_600)));
    let password_file = shown(&cluster.write("password", &format!("{PASSWORD}\n")));
    let own = &cluster.own;
    let with_token = format!(
        "[kafka]\ntoken_file = \"{token_file}\"\n[kafka.properties]\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n\
         \"ssl.ca.location\" = \"{authority}\""
    );
    let from_file = login(&cluster, "SCRAM-SHA-256", "scram256", "")
        .replace("\"\"", &format!("{{ file = \"{password_file}\" }}"));
    let by_certificate = format!(
        "[kafka.properties]\n\"ssl.ca.location\" = \"{authority}\"\n\"ssl.certificate.location\" = \"{}\"\n\"ssl.key.location\" = \"{}\"",
        shown(&own.certificate),
        shown(&own.key)
    );
    let ways = [
        (
            "plain",
            "PLAIN",
            login(&cluster, "PLAIN", "plain", PASSWORD),
        ),
        (
            "tls-plain",
            "LOGIN",
            login(&cluster, "PLAIN", "plain", PASSWORD),
        ),
        ("scram-256", "LOGIN", from_file),
        (
            "scram-512",
            "LOGIN",
            login(&cluster, "SCRAM-SHA-512", "scram512", OTHER_PASSWORD),
        ),
        ("oauthbearer", "LOGIN", with_token),
        ("certificate", "MUTUAL", by_certificate),
    ];
    for (count, (way, listener, lines)) in ways.iter().enumerate() {
        let config = config(&cluster, listener, way, lines);
        let at = cluster.at(listener);
        let flags = [
            "--config",
            &config,
            "--kafka-brokers",
            &at,
            "--topic",
            &topic,
        ];
        let relay = Relay::leading(&world, &flags);
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('t', '{way}')"
        ));
        assert_eq!(consumer.await_records(count + 1)[count].text(), *way);
        world.await_empty();
        // The administration client connected as well: without the topic's limit, the message would
        // have said so.
        assert_eq!(relay.count_log("the broker did not say"), 0, "{way}");
        assert!(relay.stop().success());
        if *way == "oauthbearer" {
            let verify = ["verify", "--topic", &topic];
            let output = world.doorbell(&[&verify[..], &flags[..4]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
}

#[test]
fn what_kafka_refuses_and_what_is_refused_of_it_is_said_in_one_line() {
    let cluster = Cluster::shared();
    let world = World::on("refusals", cluster.services());
    let authority = shown(&cluster.authority.file);
    let run = |name: &str, listener: &str, lines: &str, at: &str| -> Output {
        let config = config(&cluster, listener, name, lines);
        world.doorbell(&[
            "run",
            "--start-timeout",
            "20s",
            "--config",
            &config,
            "--kafka-brokers",
            at,
        ])
    };
    let trusting = |file: &str| format!("[kafka.properties]\n\"ssl.ca.location\" = \"{file}\"");
    let own = format!(
        "{}\n\"ssl.certificate.location\" = \"{}\"\n\"ssl.key.location\" = \"{}\"",
        trusting(&authority),
        shown(&cluster.own.certificate),
        shown(&cluster.own.key)
    );
    let (login_at, mutual_at) = (cluster.at("LOGIN"), cluster.at("MUTUAL"));
    for (mechanism, user) in [("PLAIN", "plain"), ("SCRAM-SHA-256", "scram256")] {
        let output = run(
            "wrong",
            "LOGIN",
            &login(&cluster, mechanism, user, "wrong-one"),
            &login_at,
        );
        refused(
            &output,
            1,
            &[&login_at, "refuses the login", "check sasl.mechanism"],
        );
        assert!(!String::from_utf8_lossy(&output.stderr).contains("wrong-one"));
    }
    let output = run(
        "name",
        "MUTUAL",
        &own,
        &mutual_at.replace("localhost", "127.0.0.1"),
    );
    refused(
        &output,
        1,
        &[
            "TLS with Kafka at 127.0.0.1",
            "another host",
            "connect by a name",
        ],
    );
    let output = run(
        "expired",
        "EXPIRED",
        &trusting(&authority),
        &cluster.at("EXPIRED"),
    );
    refused(&output, 1, &["TLS with Kafka", "has expired", "renew it"]);
    let stranger = Authority::new(cluster.folder.path(), "stranger");
    let output = run(
        "stranger",
        "MUTUAL",
        &trusting(&shown(&stranger.file)),
        &mutual_at,
    );
    refused(
        &output,
        1,
        &["TLS with Kafka", "not trusted here", "ssl.ca.location"],
    );
    let output = run("nobody", "MUTUAL", &trusting(&authority), &mutual_at);
    refused(&output, 1, &["TLS with Kafka", "certificate"]);

    let expired = shown(&cluster.write("expired.token", &token(-60)));
    let lines = format!(
        "[kafka]\ntoken_file = \"{expired}\"\n{}\n\"sasl.mechanism\" = \"OAUTHBEARER\"",
        trusting(&authority)
    );
    refused(
        &run("token", "LOGIN", &lines, &login_at),
        1,
        &["no token for Kafka", "expired", "renew it"],
    );

    let output = {
        let lines = login(&cluster, "PLAIN", "plain", "wrong-one");
        let config = config(&cluster, "LOGIN", "verify", &lines);
        world.doorbell(&[
            "verify",
            "--topic",
            "any",
            "--config",
            &config,
            "--kafka-brokers",
            &login_at,
        ])
    };
    refused(&output, 2, &["refuses the login"]);
}

#[test]
fn a_token_is_read_anew_before_it_expires() {
    let cluster = Cluster::shared();
    let mut world = World::on("renewal", cluster.services());
    create_topic(&world, &world.topic, 1, &[]);
    let file = cluster.write("renewed.token", &token(20));
    let lines = format!(
        "[kafka]\ntoken_file = \"{}\"\n[kafka.properties]\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"ssl.ca.location\" = \"{}\"",
        shown(&file),
        shown(&cluster.authority.file)
    );
    let config = config(&cluster, "LOGIN", "renewal", &lines);
    let at = cluster.at("LOGIN");
    let flags = [
        "--config",
        &config,
        "--kafka-brokers",
        &at,
        "--topic",
        &world.topic,
    ];
    let relay = Relay::leading(&world, &flags);
    std::fs::write(&file, token(3_600)).expect("room for a token");
    relay.await_log("good for 59m");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
    assert_eq!(
        Consumer::new(&world, &world.topic).await_records(1)[0].text(),
        "x"
    );
    world.await_empty();
    assert!(relay.stop().success());
}
