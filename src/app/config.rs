//! `doorbell config`.

use std::io::Write;

use super::failure::{Failure, Outcome};
use crate::config::{InForce, Overrides, Shown};
use crate::kafka;

/// Says what is in force and where it came from.
pub(super) fn config(overrides: Overrides, json: bool) -> Outcome {
    let env = |name: &str| std::env::var(name).ok();
    let in_force = InForce::load(overrides, &env, &kafka::takes)
        .map_err(|faults| Failure::Usage(faults.to_string()))?;
    let mut out = std::io::stdout().lock();
    if !json {
        write!(out, "{in_force}")?;
        return Ok(());
    }
    let mut all = Vec::new();
    for section in &in_force.sections {
        for value in &section.values {
            let shown = match &value.value {
                Some(Shown::Text(text)) => text.as_str().into(),
                Some(Shown::Number(number)) => (*number).into(),
                Some(Shown::Choice(value)) => (*value).into(),
                Some(Shown::File(path)) => serde_json::json!({ "file": path }),
                None => serde_json::Value::Null,
            };
            let path = section.path(value);
            all.push(serde_json::json!({ "key": path, "value": shown, "from": value.from() }));
        }
    }
    writeln!(out, "{}", serde_json::Value::from(all))?;
    Ok(())
}
