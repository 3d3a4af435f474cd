//! A sampled batch until its rows are deleted, and its span `send`.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use super::trace_context;
use crate::event::Event;
use crate::numbers::counted_verb;

/// Most links of a span. The limit of the SDK is the same by default, and can be set lower.
pub(super) const MAX_LINKS: usize = 128;

pub(super) struct TracedBatch {
    tracer: Arc<BoxedTracer>,
    outbox: Arc<str>,
    pub(super) first: usize,
    /// The ticket after its last row.
    pub(super) end: usize,
    fetch: SpanContext,
    /// Started as soon as a row is known to be with Kafka, since the first rows may be deleted
    /// before the last ones are acknowledged.
    span: Option<BoxedSpan>,
    begun: SystemTime,
    sent: usize,
    /// The topic of all these rows; `None` if they have several.
    topic: Option<String>,
    links: Vec<SpanContext>,
    is_cut: bool,
    /// Rows before this ticket have left the publisher.
    handed_over: usize,
    reported: usize,
    failed: usize,
    /// The error code of the first row that failed.
    error: Option<String>,
}

impl TracedBatch {
    pub(super) fn new(
        tracer: &Arc<BoxedTracer>,
        outbox: &Arc<str>,
        rows: Range<usize>,
        fetch: SpanContext,
    ) -> Self {
        Self {
            tracer: Arc::clone(tracer),
            outbox: Arc::clone(outbox),
            first: rows.start,
            end: rows.end,
            fetch,
            span: None,
            begun: SystemTime::now(),
            sent: 0,
            topic: None,
            links: Vec::new(),
            is_cut: false,
            handed_over: rows.start,
            reported: 0,
            failed: 0,
            error: None,
        }
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over >= self.end
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    pub(super) fn begin_sending(&mut self) {
        if self.sent == 0 {
            self.begun = SystemTime::now();
        }
    }

    pub(super) fn sent(&mut self, topic: &str, event: &Event<'_>) {
        if self.sent == 0 {
            self.topic = Some(topic.to_owned());
        } else if self.topic.as_deref() != Some(topic) {
            self.topic = None;
        }
        self.sent += 1;
        if self.is_cut {
            return;
        }
        if let Some(context) = event.headers.and_then(trace_context::read) {
            self.is_cut = self.links.len() == MAX_LINKS;
            if !self.is_cut {
                self.links.push(context);
            }
        }
    }

    pub(super) fn handed_over(&mut self, next: usize) {
        self.handed_over = next;
        self.end_if_reported();
    }

    /// Counts rows for which reports came; `error` is the code of a row that failed.
    pub(super) fn reported(&mut self, rows: usize, error: Option<String>) {
        self.reported += rows;
        if let Some(error) = error {
            self.failed += 1;
            self.error.get_or_insert(error);
        }
        self.end_if_reported();
    }

    pub(super) fn committed(&mut self) {
        self.reported = self.sent;
        self.end_if_reported();
    }

    fn end_if_reported(&mut self) {
        if self.is_handed_over() && self.reported >= self.sent {
            self.end();
        }
    }

    /// The span `send`, which is started if necessary.
    ///
    /// The message was created where its row was written. This call only hands it over and waits
    /// for the answer, so by the conventions it is of the kind `client`.
    pub(super) fn span(&mut self) -> &mut BoxedSpan {
        self.span.get_or_insert_with(|| {
            let builder = SpanBuilder::from_name("send")
                .with_kind(SpanKind::Client)
                .with_start_time(self.begun)
                .with_attributes([KeyValue::new("doorbell.outbox", self.outbox.to_string())]);
            self.tracer.build_with_context(builder, &under(&self.fetch))
        })
    }

    /// Ends the span `send`: each row that was sent has been reported, or will not be.
    pub(super) fn end(&mut self) {
        let has_ended = |span: &BoxedSpan| !span.is_recording();
        if self.sent == 0 || self.span.as_ref().is_some_and(has_ended) {
            return;
        }
        let (rows, failure) = (count(self.sent), self.failure());
        let (topic, links) = (self.topic.take(), std::mem::take(&mut self.links));
        let is_cut = self.is_cut;
        let span = self.span();
        span.set_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.batch.message_count", rows),
        ]);
        if let Some(topic) = topic {
            span.update_name(format!("send {topic}"));
            span.set_attribute(KeyValue::new("messaging.destination.name", topic));
        }
        for context in links {
            span.add_link(context, Vec::new());
        }
        if is_cut {
            span.set_attribute(KeyValue::new("doorbell.links.cut", true));
        }
        if let Some((error, description)) = failure {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(description));
        }
        span.end();
    }

    fn failure(&mut self) -> Option<(String, String)> {
        let unknown = self.sent.saturating_sub(self.reported);
        match (self.error.take(), unknown) {
            (None, 0) => None,
            (Some(error), _) => {
                Some((error, counted_verb(self.failed, "row", "were") + " refused"))
            }
            (None, _) => Some((
                "unsettled".to_owned(),
                counted_verb(unknown, "row", "were") + " not acknowledged, and left in the table",
            )),
        }
    }
}

pub(super) fn under(parent: &SpanContext) -> Context {
    Context::new().with_remote_span_context(parent.clone())
}

pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
