//! Real services, started by the project's own script.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Addresses of a PostgreSQL and a Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    /// Of the maintenance database.
    pub(crate) database_url: String,
    pub(crate) kafka_brokers: String,
}

impl Services {
    /// Those that all tests share: given by the environment, or started once.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Services> = OnceLock::new();
        SHARED.get_or_init(|| {
            let from_environment = || {
                Some(Services {
                    database_url: std::env::var("DATABASE_URL").ok()?,
                    kafka_brokers: std::env::var("KAFKA_BROKERS").ok()?,
                })
            };
            from_environment().unwrap_or_else(|| {
                let variables = script(&["start"]);
                Services {
                    database_url: variables["DATABASE_URL"].clone(),
                    kafka_brokers: variables["KAFKA_BROKERS"].clone(),
                }
            })
        })
    }
}

/// Services of one test alone, to be killed and restarted. Removed on drop.
pub(crate) struct Instance {
    name: String,
    what: Vec<&'static str>,
    variables: HashMap<String, String>,
}

impl Instance {
    /// Starts services (`postgres`, `standby`, `postgres15`, `pgbouncer`, `kafka`, `kafka3`) of
    /// their own.
    pub(crate) fn start(name: &str, what: &[&'static str]) -> Self {
        let mut instance = Self::named(name, what);
        instance.again();
        instance
    }

    /// Starts a Kafka of its own with more settings, in the form of `scripts/services --help`.
    pub(crate) fn kafka_with(name: &str, settings: &str) -> Self {
        let mut instance = Self::named(name, &["kafka"]);
        let mut file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
        file.write_all(settings.as_bytes())
            .expect("room for settings");
        let add = format!("kafka={}", file.path().display());
        let arguments = ["start", "--name", &instance.name, "--add", &add, "kafka"];
        instance.variables = script(&arguments);
        instance
    }

    fn named(name: &str, what: &[&'static str]) -> Self {
        Self {
            name: format!("test-{name}-{}", std::process::id()),
            what: what.to_vec(),
            variables: HashMap::new(),
        }
    }

    /// Starts what was killed or stopped, on the same ports.
    pub(crate) fn again(&mut self) {
        self.variables = self.call("start", &self.what.clone());
    }

    /// Starts one of them, and leaves the others as they are.
    pub(crate) fn bring_back(&mut self, what: &str) {
        let variables = self.call("start", &[what]);
        self.variables.extend(variables);
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self, what: &str) {
        self.call("kill", &[what]);
    }

    /// Stops them in order.
    pub(crate) fn stop(&self, what: &str) {
        self.call("stop", &[what]);
    }

    /// Promotes a standby (`standby`, or the `postgres` that became one).
    pub(crate) fn promote(&self, what: &str) {
        self.call("promote", &[what]);
    }

    /// Rebuilds a killed server as the standby of the other.
    pub(crate) fn rejoin(&mut self, what: &str) {
        let variables = self.call("rejoin", &[what]);
        self.variables.extend(variables);
    }

    /// Returns a variable of `scripts/services`: `POSTGRES_DATA`, for example.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    /// With the shared service in place of what this instance does not have.
    pub(crate) fn services(&self) -> Services {
        let own = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| self.variables.get(*name));
            found.cloned()
        };
        let shared = Services::shared;
        Services {
            database_url: own(["DATABASE_URL", "DATABASE_URL_15"])
                .unwrap_or_else(|| shared().database_url.clone()),
            kafka_brokers: own(["KAFKA_BROKERS", "KAFKA_BROKERS_3"])
                .unwrap_or_else(|| shared().kafka_brokers.clone()),
        }
    }

    /// Returns the server's address behind its pooler, without a database.
    pub(crate) fn pooler(&self) -> &str {
        let url = &self.variables["DATABASE_URL_POOLED"];
        url.rsplit_once('/').expect("a URL with a database").0
    }

    fn call(&self, verb: &str, what: &[&str]) -> HashMap<String, String> {
        let mut arguments = vec![verb, "--name", &self.name];
        arguments.extend(what);
        script(&arguments)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.call("remove", &[]);
    }
}

/// Fetches programs, and returns the script's variables, or why this machine cannot have them. A
/// test that is skipped for that prints the reason.
pub(crate) fn fetch(what: &str) -> Result<HashMap<String, String>, String> {
    let output = run_script(&["fetch", what]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(variables(output));
    }
    let excuses = ["there is no apt here", " is missing"];
    let excused = excuses.iter().any(|excuse| said.contains(excuse));
    assert!(excused, "scripts/services fetch {what}: {said}");
    Err(said)
}

/// Returns why this machine cannot have a service that comes from Debian's package alone.
pub(crate) fn not_here(what: &str) -> Option<String> {
    fetch(what).err()
}

fn run_script(arguments: &[&str]) -> Output {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
    Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("scripts/services can be run")
}

fn script(arguments: &[&str]) -> HashMap<String, String> {
    let output = run_script(arguments);
    assert!(
        output.status.success(),
        "scripts/services {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    variables(output)
}

fn variables(output: Output) -> HashMap<String, String> {
    let text = String::from_utf8(output.stdout).expect("variables are text");
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
