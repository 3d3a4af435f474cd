//! A Kafka that requires authentication, one for all tests that run at the same time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use crate::support::{Authority, Identity, Instance, Services};

/// The passwords of the users, planted as secrets too.
pub(crate) const PASSWORD: &str = "pl4nted-s4sl-p4ssword";
pub(crate) const OTHER_PASSWORD: &str = "pl4nted-other-p4ssword";

/// One broker with a listener for each way to log in.
pub(crate) struct Cluster {
    instance: Instance,
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) own: Identity,
}

static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// Returns the running one, or a new one.
    pub(crate) fn shared() -> Arc<Self> {
        // A test that failed while it started leaves nothing behind.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *running = Arc::downgrade(&cluster);
            cluster
        })
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority");
        let server = authority.issue("server", &["localhost"]);
        let expired = authority.issue_expired("expired", &["localhost"]);
        let settings = SETTINGS
            .replace("%PASSWORD%", PASSWORD)
            .replace("%OTHER%", OTHER_PASSWORD)
            .replace("%AUTHORITY%", &shown(&authority.file))
            .replace("%EXPIRED%", &shown(&expired.both))
            .replace("%SERVER%", &shown(&server.both));
        Self {
            instance: Instance::kafka_with("secure", &settings),
            own: authority.issue("relay", &[]),
            folder,
            authority,
        }
    }

    /// The services with this Kafka, by its listener without authentication.
    pub(crate) fn services(&self) -> Services {
        self.instance.services()
    }

    /// Returns the address of a listener: `PLAIN`, `LOGIN`, `MUTUAL` or `EXPIRED`.
    pub(crate) fn at(&self, listener: &str) -> String {
        format!(
            "localhost:{}",
            self.instance.variable(&format!("KAFKA_PORT_{listener}"))
        )
    }

    /// A file in the cluster's folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("room for a file");
        path
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The listeners: `PLAIN` asks for a login, `LOGIN` does so over TLS, `MUTUAL` asks for a
/// certificate, and `EXPIRED` presents one that has expired.
const SETTINGS: &str = r#"
# user: SCRAM-SHA-256=[name=scram256,password=%PASSWORD%]
# user: SCRAM-SHA-512=[name=scram512,password=%OTHER%]
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},PLAIN://127.0.0.1:{port:plain},LOGIN://127.0.0.1:{port:login},MUTUAL://127.0.0.1:{port:mutual},EXPIRED://127.0.0.1:{port:expired}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PLAIN://localhost:{port:plain},LOGIN://localhost:{port:login},MUTUAL://localhost:{port:mutual},EXPIRED://localhost:{port:expired}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PLAIN:SASL_PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL
ssl.keystore.type=PEM
ssl.keystore.location=%SERVER%
ssl.truststore.type=PEM
ssl.truststore.location=%AUTHORITY%
listener.name.mutual.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=%EXPIRED%
listener.name.login.oauthbearer.connections.max.reauth.ms=3600000
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.plain.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="%PASSWORD%";
listener.name.plain.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.plain.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.plain.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="%PASSWORD%";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
"#;
