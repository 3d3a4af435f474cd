//! Sends spans to a collector, from a thread of its own.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{debug, info, warn};

use super::endpoint::endpoint;
use super::spans::Spans;
use super::variables;
use crate::config::Telemetry;
use crate::relay::Relay;
use crate::sync::lock;
use crate::tls;

/// Bound on the time in which the last spans are sent when the program ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The export of spans; without a collector it does nothing.
pub(crate) struct Traces(Option<(SdkTracerProvider, String)>);

impl Traces {
    /// Prepares the export. No connection is opened before the first span. It must be called before
    /// there is an async runtime, because the HTTP client has one of its own.
    ///
    /// # Errors
    /// The configuration or a variable of OpenTelemetry asks for something that is not supported.
    pub(crate) fn start(telemetry: &Telemetry) -> Result<Self, String> {
        let Some(endpoint) = endpoint(telemetry) else {
            return Ok(Self(None));
        };
        variables::check()?;
        let exporter = exporter(endpoint)
            .map_err(|error| format!("cannot send spans to {endpoint}: {error}"))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        info!("sending spans to {endpoint}");
        Ok(Self(Some((provider, endpoint.to_owned()))))
    }

    /// Has the batches of the relay become spans.
    pub(crate) fn follow(&self, relay: Relay) -> Relay {
        let Some((provider, _)) = &self.0 else {
            return relay;
        };
        let scope = InstrumentationScope::builder("doorbell")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = Box::new(provider.tracer_with_scope(scope));
        let tracer = Arc::new(BoxedTracer::new(tracer));
        relay.observe_each(|outbox| Arc::new(Spans::new(Arc::clone(&tracer), outbox)))
    }

    /// Sends the remaining spans, for a bounded time.
    pub(crate) fn end(self) {
        if let Some((provider, endpoint)) = self.0
            && let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT)
        {
            debug!(%error, "cannot send the last spans to {endpoint}");
        }
    }
}

fn exporter(endpoint: &str) -> Result<Reporting, Box<dyn std::error::Error>> {
    let client = reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls::client()?)
        .timeout(variables::request_timeout())
        .build()?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(endpoint)
        .build()?;
    Ok(Reporting {
        inner: exporter,
        endpoint: endpoint.to_owned(),
        lost: Mutex::default(),
    })
}

/// The resource that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES describe, by default the
/// service `doorbell`.
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

/// An exporter that logs once when the collector takes no spans, and once when it takes them again.
/// The relay goes on either way, and the spans that are not taken are lost.
struct Reporting {
    inner: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    /// Spans lost since the collector last took some; `None` while it takes them.
    lost: Mutex<Option<usize>>,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The Debug of the inner exporter would print its headers.
        f.debug_struct("Reporting")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Reporting {
    /// Why the export failed. The exporter does not name a certificate that is not trusted, so TLS
    /// is tried once more.
    fn reason(&self, error: &OTelSdkError) -> String {
        let url = reqwest::Url::parse(&self.endpoint).ok();
        let secure = url.filter(|url| url.scheme() == "https");
        let distrust = secure.and_then(|url| {
            let (host, port) = (url.host_str()?, url.port_or_known_default()?);
            tls::ask(host, port, None, "SSL_CERT_FILE")
        });
        distrust.map_or_else(
            || error.to_string(),
            |it| format!("{}; {}", it.problem, it.remedy),
        )
    }

    fn report(&self, spans: usize, result: &OTelSdkResult) {
        let mut lost = lock(&self.lost);
        match (result, *lost) {
            (Ok(()), Some(spans)) => {
                info!(
                    spans,
                    "the collector takes spans again; earlier ones are lost"
                );
                *lost = None;
            }
            (Ok(()), None) => {}
            (Err(error), None) => {
                warn!(
                    error = self.reason(error),
                    "cannot send spans to {}: they are lost, and the relay goes on; the collector must accept OTLP over HTTP, usually on port 4318",
                    self.endpoint
                );
                *lost = Some(spans);
            }
            (Err(_), Some(before)) => *lost = Some(before + spans),
        }
    }
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.report(spans, &result);
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
