//! The JSON of a connector, as Kafka Connect takes and shows it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// The end of the class of the transform.
const ROUTER: &str = "transforms.outbox.EventRouter";

/// A connector that routes an outbox.
#[derive(Debug)]
pub(in super::super) struct Connector {
    keys: BTreeMap<String, String>,
    /// Name of the transform that is the router.
    router: String,
}

impl Connector {
    /// Reads a file. The error is one line.
    pub(in super::super) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        Self::parse(&text).map_err(|fault| format!("{shown} {fault}"))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let whole: Value =
            serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let config = whole.get("config").filter(|it| it.is_object());
        let object = config.unwrap_or(&whole).as_object();
        let object = object
            .ok_or("is no connector: write an object with its keys, or with `name` and `config`")?;
        let mut keys = BTreeMap::new();
        for (key, value) in object {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!("is no connector: the value of {key:?} is no text"));
                }
            };
            keys.insert(key.clone(), text);
        }
        let class = keys
            .get("connector.class")
            .ok_or("is no connector: it has no `connector.class`")?;
        if !class.ends_with("PostgresConnector") {
            return Err(format!(
                "is a connector of the class {class}: only Debezium's PostgresConnector reads a table of PostgreSQL"
            ));
        }
        let names = list(keys.get("transforms").map_or("", String::as_str));
        let is_router = |name: &&str| {
            let class = keys.get(&format!("transforms.{name}.type"));
            class.is_some_and(|it| it.ends_with(ROUTER))
        };
        let router = names.into_iter().find(is_router).ok_or(
            "routes no outbox: none of its transforms is io.debezium.transforms.outbox.EventRouter",
        )?;
        let router = router.to_owned();
        Ok(Self { keys, router })
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    pub(super) fn router_key(&self, name: &str) -> String {
        format!("transforms.{}.{name}", self.router)
    }

    /// All keys with their values.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.keys.iter();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Transforms besides the router.
    pub(super) fn other_transforms(&self) -> impl Iterator<Item = &str> {
        let names = list(self.get("transforms").unwrap_or_default());
        names.into_iter().filter(|name| *name != self.router)
    }
}

/// The parts of a list with commas.
pub(super) fn list(text: &str) -> Vec<&str> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).collect()
}
