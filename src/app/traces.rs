//! Where the relay's spans go: to a collector, from a thread of its own, or nowhere.
//!
//! What the variables of OpenTelemetry say is read by its SDK. Those that it would pass over in silence are looked at here.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{debug, info, warn};

use super::failure::Failure;
use crate::config::Telemetry;
use crate::tls;

/// How long a collector may take for a request, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise: what the specification has.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The last spans may take so long at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Traces at work, or none.
pub(super) struct Traces(Option<(SdkTracerProvider, String)>);

/// Makes ready to send spans. Nothing is opened before the first of them. To be called before there is a runtime: the client has one of its own.
///
/// # Errors
/// What OpenTelemetry's variables ask for cannot be had.
pub(super) fn begin(telemetry: &Telemetry) -> Result<Traces, Failure> {
    let Some(endpoint) = telemetry.traces.clone().filter(|_| !is_switched_off()) else {
        return Ok(Traces(None));
    };
    check_variables().map_err(Failure::Usage)?;
    let unusable = |error: &dyn fmt::Display| {
        Failure::Usage(format!("no spans can be sent to {endpoint}: {error}"))
    };
    let client = reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls::client().map_err(|error| unusable(&error))?)
        .timeout(request_timeout())
        .build()
        .map_err(|error| unusable(&error))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(&endpoint)
        .build()
        .map_err(|error| unusable(&error))?;
    let exporter = Told {
        inner: exporter,
        endpoint: endpoint.clone(),
        lost: Mutex::default(),
    };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build();
    info!("spans go to {endpoint}");
    Ok(Traces(Some((provider, endpoint))))
}

impl Traces {
    /// What spans are made with.
    pub(super) fn tracer(&self) -> Option<BoxedTracer> {
        let (provider, _) = self.0.as_ref()?;
        let scope = InstrumentationScope::builder("doorbell")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = provider.tracer_with_scope(scope);
        Some(BoxedTracer::new(Box::new(tracer)))
    }

    /// Sends what is left, for a bounded time.
    pub(super) fn end(self) {
        if let Some((provider, endpoint)) = self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
        {
            debug!(%error, "the last spans did not get to {endpoint}");
        }
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// What is set for traces alone, or else for all that is exported.
fn of_exporter(what: &str) -> Option<(String, String)> {
    let names = ["TRACES_", ""].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}{what}"));
    names.into_iter().find_map(|name| {
        let value = variable(&name)?;
        Some((name, value))
    })
}

fn is_switched_off() -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none")
}

/// Refuses what would otherwise be something else than was asked for.
fn check_variables() -> Result<(), String> {
    if let Some(exporter) = variable("OTEL_TRACES_EXPORTER").filter(|it| it != "otlp") {
        return Err(format!(
            "OTEL_TRACES_EXPORTER: {exporter:?} is unknown here; known are otlp, none"
        ));
    }
    if let Some((name, protocol)) = of_exporter("PROTOCOL").filter(|(_, it)| it != "http/protobuf")
    {
        return Err(format!(
            "{name}: {protocol:?} is not spoken here; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to http/protobuf, and the endpoint to the collector's port for it, usually 4318"
        ));
    }
    if let Some((name, compression)) = of_exporter("COMPRESSION").filter(|(_, it)| it != "none") {
        return Err(format!(
            "{name}: {compression:?} is not to be had here; set OTEL_EXPORTER_OTLP_TRACES_COMPRESSION to none"
        ));
    }
    let Some(sampler) = variable("OTEL_TRACES_SAMPLER") else {
        return Ok(());
    };
    if !SAMPLERS.contains(&sampler.as_str()) {
        return Err(format!(
            "OTEL_TRACES_SAMPLER: {sampler:?} is unknown here; known are {}",
            SAMPLERS.join(", ")
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

fn request_timeout() -> Duration {
    let given = of_exporter("TIMEOUT").and_then(|(_, value)| value.parse().ok());
    given.map_or(REQUEST_TIMEOUT, Duration::from_millis)
}

/// Who tells, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have it.
fn resource() -> Resource {
    let name = Key::new("service.name");
    let given = Resource::builder().build();
    let is_unknown = |value: &opentelemetry::Value| value.as_str().starts_with("unknown_service");
    let builder = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match given.get(&name).is_none_or(|value| is_unknown(&value)) {
        true => builder.with_service_name("doorbell").build(),
        false => builder.build(),
    }
}

/// Hands spans over, and says once when it cannot. The relay goes on either way: what is not taken is lost.
struct Told {
    inner: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    /// Spans that were lost since the collector last took some; `None` while it does.
    lost: Mutex<Option<usize>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The exporter's own would show its headers.
        f.debug_struct("Told")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Told {
    /// Why spans cannot be handed over. Where it is for want of trust the exporter does not say so.
    fn reason(&self, error: &OTelSdkError) -> String {
        let url = reqwest::Url::parse(&self.endpoint).ok();
        let secure = url.filter(|url| url.scheme() == "https");
        let distrust = secure.and_then(|url| {
            tls::ask(
                url.host_str()?,
                url.port_or_known_default()?,
                None,
                "SSL_CERT_FILE",
            )
        });
        distrust.map_or_else(
            || error.to_string(),
            |it| format!("{}; {}", it.problem, it.remedy),
        )
    }

    fn tell(&self, spans: usize, result: &OTelSdkResult) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match (result, *lost) {
            (Ok(()), Some(spans)) => {
                info!(
                    spans,
                    "the collector takes spans again: those from before are lost"
                );
                *lost = None;
            }
            (Ok(()), None) => {}
            (Err(error), None) => {
                warn!(
                    error = self.reason(error),
                    "spans cannot be handed to {}: they are lost, and the relay goes on; the collector must take OTLP over HTTP, usually at port 4318",
                    self.endpoint
                );
                *lost = Some(spans);
            }
            (Err(_), Some(before)) => *lost = Some(before + spans),
        }
    }
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.tell(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
