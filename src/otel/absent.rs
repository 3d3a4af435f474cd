//! Stands in for the exporter in builds without the feature `otel`.

use super::endpoint::endpoint;
use crate::config::Telemetry;
use crate::relay::Relay;

pub(crate) struct NoTraces;

impl NoTraces {
    /// Succeeds where no collector is configured.
    ///
    /// # Errors
    /// A collector is configured.
    pub(crate) fn start(telemetry: &Telemetry) -> Result<Self, String> {
        match endpoint(telemetry) {
            None => Ok(Self),
            Some(endpoint) => Err(format!(
                "this build of Doorbell cannot send spans to {endpoint}: it lacks the feature `otel`; build it with that feature, or unset the endpoint of the collector (OTEL_EXPORTER_OTLP_ENDPOINT, or [telemetry] in the configuration file)"
            )),
        }
    }

    pub(crate) fn follow(&self, relay: Relay) -> Relay {
        relay
    }

    pub(crate) fn end(self) {}
}
