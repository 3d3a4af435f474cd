//! Traces, exported by OpenTelemetry. Apart from `endpoint` and `absent`, this room exists only in
//! builds with the feature `otel`.
//!
//! | file | what |
//! |---|---|
//! | `spans` | observer of an outbox that turns its batches into spans |
//! | `batch` | a sampled batch until its rows are deleted |
//! | `trace_context` | the trace that a row carries in its headers |
//! | `exporter` | sends spans to a collector |
//! | `variables` | checks the OpenTelemetry variables that the SDK would ignore silently |
//! | `endpoint` | the collector that the user asked for |
//! | `absent` | stands in for the exporter in builds without the feature |

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod batch;
mod endpoint;
#[cfg(feature = "otel")]
mod exporter;
#[cfg(feature = "otel")]
mod spans;
#[cfg(feature = "otel")]
mod trace_context;
#[cfg(feature = "otel")]
mod variables;

#[cfg(not(feature = "otel"))]
pub(crate) use absent::NoTraces as Traces;
#[cfg(feature = "otel")]
pub(crate) use exporter::Traces;
