//! The layers: flags over environment over file over defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::columns;
use super::faults::{Faults, Origin, meant};
use super::flags::{
    BROKERS_VARIABLE, CONFIG_VARIABLE, DATABASE_FILE_VARIABLE, DATABASE_VARIABLE, GlobalFlags,
    HTTP_TOKEN_FILE_VARIABLE, HTTP_TOKEN_VARIABLE, HttpFlags, LISTEN_VARIABLE,
    OTLP_TRACES_VARIABLE, OTLP_VARIABLE, OutboxFlags, Overrides, PASSWORD_FILE_VARIABLE,
    PASSWORD_VARIABLE, TOKEN_FILE_VARIABLE,
};
use super::secret::Secret;
use super::settings::Settings;
use super::{file, settle};

/// What a command cannot do without, besides the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it speaks to Kafka: `migrate`, `status` and `emit` do not.
    pub kafka: bool,
}

/// A value as it was written, with its place.
#[derive(Debug, Clone)]
pub(super) struct Given<T = String> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// What one layer, or several laid over each other, say: text that nobody has judged yet.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) database_url: Option<Given<Secret>>,
    /// For a URL without one.
    pub(super) database_password: Option<Given<Secret>>,
    pub(super) kafka_brokers: Option<Given>,
    pub(super) token_file: Option<Given>,
    pub(super) stop_timeout: Option<Given>,
    pub(super) listen: Option<Given>,
    pub(super) stuck_after: Option<Given>,
    pub(super) show_payloads: Option<Given>,
    pub(super) http_token: Option<Given<Secret>>,
    pub(super) leader_timeout: Option<Given>,
    pub(super) otlp_endpoint: Option<Given>,
    pub(super) otlp_traces_endpoint: Option<Given>,
    pub(super) properties: BTreeMap<String, Given<Secret>>,
    pub(super) outboxes: Vec<OutboxLayer>,
    /// A file that could not be read to the end: what is missing may only be hidden.
    pub(super) torn: bool,
}

/// What is said about one outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxLayer {
    /// Where the outbox itself is named, for those that say nothing else.
    pub(super) origin: Option<Origin>,
    pub(super) table: Option<Given>,
    pub(super) topic: Option<Given>,
    pub(super) sweep: Option<Given>,
    pub(super) poison: Option<Given>,
    pub(super) poison_topics: BTreeMap<String, Given>,
    pub(super) in_flight_rows: Option<Given>,
    pub(super) in_flight_bytes: Option<Given>,
    pub(super) max_rate: Option<Given>,
    pub(super) delivery: Option<Given>,
    pub(super) transactional_id: Option<Given>,
    pub(super) receipts: Option<Given>,
    pub(super) columns: BTreeMap<String, Given>,
}

impl Settings {
    /// Lays the flags over the environment over the file over the defaults, and checks the result.
    /// `env` looks a variable up; an empty one counts as not set.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        overrides: Overrides,
        env: &dyn Fn(&str) -> Option<String>,
        needs: Needs,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let layer = merged(overrides, env, &mut faults);
        let settings = settle::settle(layer, needs, &mut faults);
        faults.or(settings)
    }
}

/// The layers laid over each other.
pub(super) fn merged(
    overrides: Overrides,
    env: &dyn Fn(&str) -> Option<String>,
    faults: &mut Faults,
) -> Layer {
    let env = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let mut layer = match config_file(&overrides.global, &env) {
        Some(config) => read_file(&config, faults),
        None => Layer::default(),
    };
    layer.lay_environment(&env, faults);
    layer.lay_global_flags(overrides.global);
    layer.lay_http_flags(overrides.http);
    layer.lay_outbox_flags(overrides.outbox, faults);
    layer
}

fn config_file(
    flags: &GlobalFlags,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Given<PathBuf>> {
    let flag = flags.config.clone().map(|value| Given {
        value,
        origin: Origin::Flag("--config"),
    });
    flag.or_else(|| {
        let value = env(CONFIG_VARIABLE)?.into();
        Some(Given {
            value,
            origin: Origin::Environment(CONFIG_VARIABLE),
        })
    })
}

fn read_file(config: &Given<PathBuf>, faults: &mut Faults) -> Layer {
    let path: &Path = &config.value;
    let text = std::fs::read(path).map_err(|error| error.to_string());
    let text =
        text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into()));
    match text {
        Ok(text) => file::read(path, &text, faults),
        Err(reason) => {
            let text = format!(
                "cannot read the configuration file {}: {reason}",
                path.display()
            );
            faults.push(Some(config.origin.clone()), text);
            Layer {
                torn: true,
                ..Layer::default()
            }
        }
    }
}

/// Replaces what a lower layer said, if this one says anything.
fn lay<T>(over: &mut Option<Given<T>>, value: Option<T>, origin: Origin) {
    if let Some(value) = value {
        *over = Some(Given { value, origin });
    }
}

impl Layer {
    fn lay_environment(&mut self, env: &dyn Fn(&str) -> Option<String>, faults: &mut Faults) {
        for (itself, its_file, over) in [
            (
                DATABASE_VARIABLE,
                DATABASE_FILE_VARIABLE,
                &mut self.database_url,
            ),
            (
                PASSWORD_VARIABLE,
                PASSWORD_FILE_VARIABLE,
                &mut self.database_password,
            ),
            (
                HTTP_TOKEN_VARIABLE,
                HTTP_TOKEN_FILE_VARIABLE,
                &mut self.http_token,
            ),
        ] {
            let text = env(itself).map(|text| Secret::Text(text.into()));
            let file = env(its_file).map(|path| Secret::File(path.into()));
            if text.is_some() && file.is_some() {
                let origin = Some(Origin::Environment(its_file));
                faults.push(origin, format!("{itself} is set as well: keep one"));
            }
            lay(over, text, Origin::Environment(itself));
            lay(over, file, Origin::Environment(its_file));
        }
        lay(
            &mut self.token_file,
            env(TOKEN_FILE_VARIABLE),
            Origin::Environment(TOKEN_FILE_VARIABLE),
        );
        lay(
            &mut self.kafka_brokers,
            env(BROKERS_VARIABLE),
            Origin::Environment(BROKERS_VARIABLE),
        );
        lay(
            &mut self.listen,
            env(LISTEN_VARIABLE),
            Origin::Environment(LISTEN_VARIABLE),
        );
        lay(
            &mut self.otlp_endpoint,
            env(OTLP_VARIABLE),
            Origin::Environment(OTLP_VARIABLE),
        );
        lay(
            &mut self.otlp_traces_endpoint,
            env(OTLP_TRACES_VARIABLE),
            Origin::Environment(OTLP_TRACES_VARIABLE),
        );
    }

    fn lay_global_flags(&mut self, flags: GlobalFlags) {
        lay(
            &mut self.database_url,
            flags.database_url.map(Secret::Text),
            Origin::Flag("--database-url"),
        );
        lay(
            &mut self.kafka_brokers,
            flags.kafka_brokers,
            Origin::Flag("--kafka-brokers"),
        );
        lay(
            &mut self.stop_timeout,
            flags.stop_timeout,
            Origin::Flag("--stop-timeout"),
        );
        lay(
            &mut self.leader_timeout,
            flags.leader_timeout,
            Origin::Flag("--leader-timeout"),
        );
    }

    fn lay_http_flags(&mut self, flags: HttpFlags) {
        lay(&mut self.listen, flags.listen, Origin::Flag("--listen"));
        lay(
            &mut self.stuck_after,
            flags.stuck_after,
            Origin::Flag("--stuck-after"),
        );
    }

    /// Flags speak of the only outbox; where the file has several, it cannot be told of which.
    fn lay_outbox_flags(&mut self, flags: OutboxFlags, faults: &mut Faults) {
        let columns = column_flags(&flags.column, faults);
        if self.outboxes.is_empty() {
            self.outboxes.push(OutboxLayer::default());
        }
        if let [outbox] = self.outboxes.as_mut_slice() {
            lay(&mut outbox.table, flags.table, Origin::Flag("--table"));
            lay(&mut outbox.topic, flags.topic, Origin::Flag("--topic"));
            lay(&mut outbox.sweep, flags.sweep, Origin::Flag("--sweep"));
            lay(&mut outbox.poison, flags.poison, Origin::Flag("--poison"));
            lay(
                &mut outbox.in_flight_rows,
                flags.in_flight_rows,
                Origin::Flag("--in-flight-rows"),
            );
            lay(
                &mut outbox.in_flight_bytes,
                flags.in_flight_bytes,
                Origin::Flag("--in-flight-bytes"),
            );
            lay(
                &mut outbox.max_rate,
                flags.max_rate,
                Origin::Flag("--max-rate"),
            );
            lay(
                &mut outbox.delivery,
                flags.delivery,
                Origin::Flag("--delivery"),
            );
            lay(
                &mut outbox.transactional_id,
                flags.transactional_id,
                Origin::Flag("--transactional-id"),
            );
            lay(
                &mut outbox.receipts,
                flags.receipts,
                Origin::Flag("--receipts"),
            );
            outbox.columns.extend(columns);
            return;
        }
        let count = self.outboxes.len();
        for (flag, given) in [
            ("--table", flags.table.is_some()),
            ("--topic", flags.topic.is_some()),
            ("--sweep", flags.sweep.is_some()),
            ("--column", !flags.column.is_empty()),
            ("--poison", flags.poison.is_some()),
            ("--in-flight-rows", flags.in_flight_rows.is_some()),
            ("--in-flight-bytes", flags.in_flight_bytes.is_some()),
            ("--max-rate", flags.max_rate.is_some()),
            ("--delivery", flags.delivery.is_some()),
            ("--transactional-id", flags.transactional_id.is_some()),
            ("--receipts", flags.receipts.is_some()),
        ] {
            if given {
                let text = format!(
                    "the file has {count} [[outbox]], and a flag cannot say which it means: set it there"
                );
                faults.push(Some(Origin::Flag(flag)), text);
            }
        }
    }
}

fn column_flags(texts: &[String], faults: &mut Faults) -> BTreeMap<String, Given> {
    let origin = Origin::Flag("--column");
    let mut columns = BTreeMap::new();
    for text in texts {
        let fault = match text.split_once('=') {
            None => "must be KEY=NAME, such as key=order_id".into(),
            Some((key, _)) if !columns::KEYS.contains(&key) => {
                format!(
                    "has an unknown key before the `=`; {}",
                    meant(key, columns::KEYS)
                )
            }
            Some((key, name)) => {
                let given = Given {
                    value: name.to_owned(),
                    origin: origin.clone(),
                };
                match columns.insert(key.to_owned(), given) {
                    None => continue,
                    Some(_) => format!("maps `{key}` twice: keep one"),
                }
            }
        };
        faults.push(Some(origin.clone()), fault);
    }
    columns
}
