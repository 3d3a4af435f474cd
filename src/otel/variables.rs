//! Checks the OpenTelemetry variables that the SDK would ignore silently. The SDK reads the others.

use std::time::Duration;

use super::endpoint::variable;

/// Bound on a request to the collector, unless OTEL_EXPORTER_OTLP_TIMEOUT is set: the default of
/// the specification.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const SAMPLERS: &str = "always_on, always_off, traceidratio, \
    parentbased_always_on, parentbased_always_off, parentbased_traceidratio";

/// Refuses values that would have another effect than the user asked for.
pub(super) fn check() -> Result<(), String> {
    if let Some(exporter) = variable("OTEL_TRACES_EXPORTER").filter(|it| it != "otlp") {
        return Err(format!(
            "OTEL_TRACES_EXPORTER: unknown exporter {exporter:?}; known are otlp, none"
        ));
    }
    if let Some((name, protocol)) = of_exporter("PROTOCOL").filter(|(_, it)| it != "http/protobuf")
    {
        return Err(format!(
            "{name}: protocol {protocol:?} is not supported; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to http/protobuf, and the endpoint to the port of the collector for it, usually 4318"
        ));
    }
    if let Some((name, compression)) = of_exporter("COMPRESSION").filter(|(_, it)| it != "none") {
        return Err(format!(
            "{name}: compression {compression:?} is not supported; set OTEL_EXPORTER_OTLP_TRACES_COMPRESSION to none"
        ));
    }
    let Some(sampler) = variable("OTEL_TRACES_SAMPLER") else {
        return Ok(());
    };
    if !SAMPLERS.split(", ").any(|known| known == sampler) {
        return Err(format!(
            "OTEL_TRACES_SAMPLER: unknown sampler {sampler:?}; known are {SAMPLERS}"
        ));
    }
    let ratio = variable("OTEL_TRACES_SAMPLER_ARG").and_then(|it| it.parse::<f64>().ok());
    if sampler.ends_with("traceidratio") && !ratio.is_some_and(|it| (0.0..=1.0).contains(&it)) {
        return Err(format!(
            "OTEL_TRACES_SAMPLER_ARG: the sampler {sampler} needs a number from 0 to 1"
        ));
    }
    Ok(())
}

pub(super) fn request_timeout() -> Duration {
    let given = of_exporter("TIMEOUT").and_then(|(_, value)| value.parse().ok());
    given.map_or(REQUEST_TIMEOUT, Duration::from_millis)
}

/// The variable for traces alone, or else the one for every signal, with its value.
fn of_exporter(setting: &str) -> Option<(String, String)> {
    let names = ["TRACES_", ""].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}{setting}"));
    names.into_iter().find_map(|name| {
        let value = variable(&name)?;
        Some((name, value))
    })
}
