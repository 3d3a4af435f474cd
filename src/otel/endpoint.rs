//! The collector that the user asked for.

use crate::config::Telemetry;

/// The address to which spans are sent; `None` unless one is configured and traces are on.
pub(super) fn endpoint(telemetry: &Telemetry) -> Option<&str> {
    telemetry.traces.as_deref().filter(|_| !is_switched_off())
}

/// The value of an environment variable, unless it is empty.
pub(super) fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn is_switched_off() -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none")
}
