//! `doorbell config`.

use std::io::Write;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::terminal::print_json;
use crate::config::{ConfigErrors, Effective, Overrides, check_properties};
use crate::kafka;

/// Prints the effective values and their origins.
pub(crate) fn config(overrides: Overrides, json: bool) -> Outcome {
    let env = |name: &str| std::env::var(name).ok();
    let usage = |errors: ConfigErrors| Failure::Usage(errors.to_string());
    let effective = Effective::load(overrides.clone(), &env, &kafka::takes).map_err(usage)?;
    check_properties(overrides, &env, &kafka::property_fault).map_err(usage)?;
    if !json {
        write!(std::io::stdout(), "{effective}")?;
        return Ok(());
    }
    let mut all = Vec::new();
    for section in &effective.sections {
        for value in &section.values {
            let path = section.path(value);
            all.push(
                serde_json::json!({ "key": path, "value": value.value, "from": value.from() }),
            );
        }
    }
    Ok(print_json(&all)?)
}
