//! A Kafka with ACLs: what is not granted is denied.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::{Instance, Services};

const USER: &str = "relay";
const PASSWORD: &str = "relay-password";

/// One broker, shared by all tests that run at the same time. A client without a login may do
/// everything.
pub(crate) struct Guarded {
    instance: Instance,
    folder: TempDir,
}

/// The resource of an ACL, by Kafka's number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum On<'a> {
    Topic(&'a str),
    TransactionalId(&'a str),
}

/// The operation of an ACL, by Kafka's number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    Read = 3,
    Write = 4,
    Create = 5,
    Describe = 8,
    DescribeConfigs = 10,
}

static RUNNING: Mutex<Weak<Guarded>> = Mutex::new(Weak::new());

impl Guarded {
    /// Returns the running one, or a new one.
    pub(crate) fn shared() -> Arc<Self> {
        // A test that failed while it started leaves nothing behind.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let settings = SETTINGS
                .replace("%USER%", USER)
                .replace("%PASSWORD%", PASSWORD);
            let guarded = Arc::new(Self {
                instance: Instance::kafka_with("guarded", &settings),
                folder: tempfile::tempdir().expect("a folder"),
            });
            *running = Arc::downgrade(&guarded);
            guarded
        })
    }

    /// The services with this Kafka, for clients that may do everything.
    pub(crate) fn services(&self) -> Services {
        self.instance.services()
    }

    /// The address at which the user logs in.
    pub(crate) fn login(&self) -> String {
        format!("127.0.0.1:{}", self.instance.variable("KAFKA_PORT_LOGIN"))
    }

    /// A configuration file with which the user relays an outbox.
    pub(crate) fn config(&self, name: &str, outbox: &str) -> PathBuf {
        let path = self.folder.path().join(name).with_extension("toml");
        let text = format!(
            "[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"security.protocol\" = 'sasl_plaintext'\n\"sasl.mechanism\" = 'PLAIN'\n\
             \"sasl.username\" = '{USER}'\n\"sasl.password\" = '{PASSWORD}'\n[[outbox]]\nsweep = '1h'\n{outbox}",
            self.login()
        );
        std::fs::write(&path, text).expect("room for a file");
        path
    }

    /// Grants the user ACLs.
    pub(crate) fn grant(&self, on: On<'_>, acls: &[Right]) {
        const CREATE_ACLS: u16 = 30;
        self.change(CREATE_ACLS, on, acls);
    }

    /// Revokes them.
    pub(crate) fn revoke(&self, on: On<'_>, acls: &[Right]) {
        const DELETE_ACLS: u16 = 31;
        self.change(DELETE_ACLS, on, acls);
    }

    /// The client library of the tests has neither request. In this version both have the same
    /// contents.
    fn change(&self, request: u16, on: On<'_>, acls: &[Right]) {
        const VERSION: u16 = 1;
        const LITERAL: u8 = 3;
        const ALLOW: u8 = 3;
        let (kind, name) = match on {
            On::Topic(name) => (2, name),
            On::TransactionalId(name) => (5, name),
        };
        let mut body = Vec::new();
        body.extend(request.to_be_bytes());
        body.extend(VERSION.to_be_bytes());
        body.extend(1_u32.to_be_bytes());
        text(&mut body, "tests");
        body.extend(u32::try_from(acls.len()).expect("a few").to_be_bytes());
        for right in acls {
            body.push(kind);
            text(&mut body, name);
            body.push(LITERAL);
            text(&mut body, &format!("User:{USER}"));
            text(&mut body, "*");
            body.push(*right as u8);
            body.push(ALLOW);
        }
        let answer = self.ask(&body);
        // The request's number, a throttle, the count of results, and the first one's code.
        let (count, code) = (&answer[8..12], &answer[12..14]);
        assert_eq!(
            count,
            u32::try_from(acls.len()).expect("a few").to_be_bytes()
        );
        assert_eq!(code, [0, 0], "{on:?} {acls:?}: {answer:?}");
    }

    fn ask(&self, body: &[u8]) -> Vec<u8> {
        let brokers = self.services().kafka_brokers;
        let mut broker = TcpStream::connect(brokers).expect("a broker");
        let size = u32::try_from(body.len()).expect("a short request");
        broker.write_all(&size.to_be_bytes()).expect("sent");
        broker.write_all(body).expect("sent");
        let mut size = [0; 4];
        broker.read_exact(&mut size).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        broker.read_exact(&mut answer).expect("an answer");
        answer
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    body.extend(text.as_bytes());
}

const SETTINGS: &str = r#"
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},LOGIN://127.0.0.1:{port:login}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{port:login}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%USER%="%PASSWORD%";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
"#;
