//! The ways to settings: the sources laid over each other, flags over environment over file.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::errors::{ConfigErrors, Origin, meant};
use super::file;
use super::flags::{Flag, Overrides};
use super::key::Section;
use super::keys::{self, KEYS};
use super::layer::{Layer, OutboxLayer, Values};
use super::settings::Settings;
use super::types::{Secret, TableName};
use super::validate::{Needs, validate};

/// Looks an environment variable up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Lays the flags over the environment over the file over the defaults, and validates the
    /// result. `variables` looks a variable up; an empty one counts as not set.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        overrides: Overrides,
        variables: Variables<'_>,
        needs: Needs,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let layer = merged(overrides, variables, &mut errors);
        let settings = validate(&layer, needs, &mut errors);
        errors.or(settings)
    }

    /// Reads the text of a configuration file, for a program that embeds the relay. Variables win
    /// over the text, as with `doorbell run`; `&|_| None` leaves them out.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let text = r#"
    ///     database.url = "postgres://relay@localhost/shop"
    ///     kafka.brokers = "localhost:9092"
    ///     [[outbox]]
    ///     sweep = "30s"
    /// "#;
    /// let settings = doorbell::Settings::from_toml(text, &|_| None)?;
    /// assert_eq!(settings.outboxes[0].sweep, Duration::from_secs(30));
    /// # Ok::<(), doorbell::ConfigErrors>(())
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_toml(text: &str, variables: Variables<'_>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let layer = file::read(Path::new("<text>"), text, &mut errors);
        let layer = over(layer, Overrides::default(), variables, &mut errors);
        let settings = validate(&layer, Needs { kafka: true }, &mut errors);
        errors.or(settings)
    }
}

/// Lays the flags over the environment over the file that one of the two names.
pub(super) fn merged(
    overrides: Overrides,
    variables: Variables<'_>,
    errors: &mut ConfigErrors,
) -> Layer {
    let config = keys::find(Section::OUTSIDE, "config");
    let variable = config.and_then(|key| Some((key.variable?, set(variables, key.variable?)?)));
    let file = match (&overrides.config, variable) {
        (Some(path), _) => file::open(path, Origin::Flag("--config"), errors),
        (None, Some((name, path))) => file::open(path.as_ref(), Origin::Environment(name), errors),
        (None, None) => Layer::default(),
    };
    over(file, overrides, variables, errors)
}

/// Lays the flags over the environment over `layer`, which a file gave.
fn over(
    mut layer: Layer,
    overrides: Overrides,
    variables: Variables<'_>,
    errors: &mut ConfigErrors,
) -> Layer {
    lay_variables(&mut layer.values, variables, errors);
    if layer.outboxes.is_empty() {
        layer.outboxes.push(OutboxLayer::default());
    }
    // The other flags are for the outbox that this one chooses.
    let mut given = overrides.given;
    given.sort_by_key(|(flag, _)| flag.name != "--table");
    for (flag, value) in given {
        if flag.name == "--table" && layer.outboxes.len() > 1 {
            choose(&mut layer.outboxes, value.expose_secret(), errors);
            continue;
        }
        let count = layer.outboxes.len();
        let origin = Origin::Flag(flag.name);
        match layer.outboxes.as_mut_slice() {
            outboxes if flag.is_repeatable() => {
                let values = match outboxes {
                    _ if !flag.key.section.is_of_outbox() => &mut layer.values,
                    [outbox] => &mut outbox.values,
                    _ => {
                        errors.push(Some(origin), ambiguous(count));
                        continue;
                    }
                };
                if let Err(error) = lay_pair(values, flag, &value) {
                    errors.push(Some(origin), error);
                }
            }
            _ if !flag.key.section.is_of_outbox() => {
                lay(&mut layer.values, flag, value);
            }
            [outbox] => lay(&mut outbox.values, flag, value),
            _ => errors.push(Some(origin), ambiguous(count)),
        }
    }
    layer
}

fn ambiguous(count: usize) -> String {
    format!(
        "the file has {count} [[outbox]], and a flag cannot say which it means: set it there, or choose one with --table"
    )
}

/// Asks `fault` about each property of librdkafka that is given. Returns what is wrong with them,
/// each with its place.
///
/// # Errors
/// Everything that is wrong, at once.
pub(crate) fn check_properties(
    overrides: Overrides,
    variables: Variables<'_>,
    fault: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<(), ConfigErrors> {
    let layer = merged(overrides, variables, &mut ConfigErrors::default());
    let mut errors = ConfigErrors::default();
    for key in KEYS.iter().filter(|key| key.section == Section::PROPERTIES) {
        for (name, given) in layer.values.of(key) {
            let text = given.value.read().ok();
            if let Some(fault) = text.and_then(|text| fault(name, text.expose_secret())) {
                errors.push(Some(given.origin.clone()), fault);
            }
        }
    }
    errors.or(())
}

/// Leaves the outbox whose table `--table` names. A name without a schema is found in any schema,
/// and messages of the relay have the schema where the configuration may lack it.
fn choose(outboxes: &mut Vec<OutboxLayer>, wanted: &str, errors: &mut ConfigErrors) {
    let names: Vec<String> = outboxes.iter().map(table).collect();
    let parsed: Vec<_> = names.iter().map(|it| TableName::parse(it).ok()).collect();
    let found = TableName::parse(wanted).ok().and_then(|wanted| {
        let exact = |it: &Option<TableName>| it.as_ref() == Some(&wanted);
        let exact = parsed.iter().position(exact);
        exact.or_else(|| {
            parsed
                .iter()
                .position(|it| it.as_ref().is_some_and(|it| it.may_be(&wanted)))
        })
    });
    match found {
        Some(at) => *outboxes = vec![outboxes.swap_remove(at)],
        None => errors.push(
            Some(Origin::Flag("--table")),
            format!(
                "{wanted:?} is not a configured outbox; choose one of {}",
                names.join(", ")
            ),
        ),
    }
}

/// The table of an outbox, as it is written.
fn table(outbox: &OutboxLayer) -> String {
    let given = outbox.values.get(Section::OUTBOX, "table");
    let text = given.and_then(|given| given.value.read().ok());
    let text = text.map(|text| text.expose_secret().to_owned());
    text.unwrap_or_else(|| TableName::default().to_string())
}

/// An empty variable counts as not set.
fn set(variables: Variables<'_>, name: &str) -> Option<String> {
    variables(name).filter(|value| !value.trim().is_empty())
}

fn lay_variables(values: &mut Values, variables: Variables<'_>, errors: &mut ConfigErrors) {
    for key in KEYS {
        let of = |name: Option<&'static str>| name.and_then(|it| Some((it, set(variables, it)?)));
        let (itself, file) = (of(key.variable), of(key.file_variable));
        if let (Some((itself, _)), Some((file, _))) = (&itself, &file) {
            let text = format!("{itself} is set as well: keep one");
            errors.push(Some(Origin::Environment(file)), text);
        }
        let itself = itself.map(|(name, text)| (name, Secret::Text(text.into())));
        let file = file.map(|(name, path)| (name, Secret::File(path.into())));
        for (name, value) in itself.into_iter().chain(file) {
            values.lay(key, key.name, value, Origin::Environment(name));
        }
    }
}

fn lay(values: &mut Values, flag: Flag, value: SecretString) {
    let origin = Origin::Flag(flag.name);
    values.lay(flag.key, flag.key.name, Secret::Text(value), origin);
}

/// `KEY=NAME`, as `--column` and `-X` have it.
fn lay_pair(values: &mut Values, flag: Flag, text: &SecretString) -> Result<(), String> {
    let form = match flag.key.section {
        Section::COLUMNS => "must be KEY=NAME, such as key=order_id",
        _ => "must be KEY=VALUE, such as compression.type=zstd",
    };
    let pair = text.expose_secret().split_once('=');
    let (key, name) = pair.filter(|(key, _)| !key.is_empty()).ok_or(form)?;
    if !flag.key.has(key) {
        let hint = meant(key, flag.key.names());
        return Err(format!("has an unknown key before the `=`; {hint}"));
    }
    let origin = Origin::Flag(flag.name);
    if values
        .get(flag.key.section, key)
        .is_some_and(|given| given.origin == origin)
    {
        return Err(format!("gives `{key}` twice: keep one"));
    }
    values.lay(flag.key, key, Secret::Text(name.into()), origin);
    Ok(())
}
