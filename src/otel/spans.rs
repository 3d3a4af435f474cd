//! Spans of one outbox: `fetch` and `send` for each batch, `delete` for each DELETE statement.
//!
//! A batch is a trace: its fetch is the root span, and its other spans are children of that. So one
//! decision of the sampler applies to the whole batch, and nothing is remembered about a batch that
//! is not sampled. The traces of its rows are linked and not continued, because a batch has many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, Tracer as _};
use opentelemetry::{Context, KeyValue};

use super::batch::{MAX_LINKS, TracedBatch, count, under};
use crate::event::{Event, RowId};
use crate::relay::Observer;
use crate::sync::lock;

pub(super) struct Spans {
    tracer: Arc<BoxedTracer>,
    outbox: Arc<str>,
    /// Sampled batches, in the order of their tickets.
    batches: Mutex<VecDeque<TracedBatch>>,
}

impl Spans {
    pub(super) fn new(tracer: Arc<BoxedTracer>, outbox: &str) -> Self {
        Self {
            tracer,
            outbox: outbox.into(),
            batches: Mutex::default(),
        }
    }

    fn batches(&self) -> MutexGuard<'_, VecDeque<TracedBatch>> {
        lock(&self.batches)
    }

    fn of_table(&self, operation: &'static str, rows: usize) -> Vec<KeyValue> {
        vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", self.outbox.to_string()),
            KeyValue::new("doorbell.outbox", self.outbox.to_string()),
            KeyValue::new("doorbell.rows", count(rows)),
        ]
    }

    /// The spans `send` of the batches of these rows.
    fn sends(&self, rows: &[(usize, RowId)]) -> Vec<SpanContext> {
        let mut batches = self.batches();
        let mut sends: Vec<SpanContext> = Vec::new();
        let mut known = 0..0;
        for (ticket, _) in rows {
            if known.contains(ticket) || sends.len() > MAX_LINKS {
                continue;
            }
            if let Some(batch) = find(&mut batches, *ticket) {
                known = batch.first..batch.end;
                // Routes dropped all of its rows so far.
                if !batch.has_sent() {
                    continue;
                }
                let context = batch.span().span_context();
                if !sends.contains(context) {
                    sends.push(context.clone());
                }
            }
        }
        sends
    }
}

impl Observer for Spans {
    fn fetched(&self, first: usize, ids: &mut dyn Iterator<Item = i64>, begun: SystemTime) {
        let (mut rows, mut lowest, mut highest) = (0, None, None);
        for id in ids {
            rows += 1;
            lowest.get_or_insert(id);
            highest = Some(id);
        }
        let mut attributes = self.of_table("SELECT", rows);
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            attributes.push(KeyValue::new("doorbell.row.first", lowest));
            attributes.push(KeyValue::new("doorbell.row.last", highest));
        }
        let builder = SpanBuilder::from_name(format!("fetch {}", self.outbox))
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        if span.is_recording() {
            let fetch = span.span_context().clone();
            let batch = TracedBatch::new(&self.tracer, &self.outbox, first..first + rows, fetch);
            span.end();
            self.batches().push_back(batch);
        }
    }

    fn sending(&self, from: usize) -> bool {
        find(&mut self.batches(), from)
            .map(TracedBatch::begin_sending)
            .is_some()
    }

    fn sent(&self, ticket: usize, topic: &str, event: &Event<'_>) {
        if let Some(batch) = find(&mut self.batches(), ticket) {
            batch.sent(topic, event);
        }
    }

    fn handed_over(&self, next: usize) {
        if let Some(batch) = find(&mut self.batches(), next.saturating_sub(1)) {
            batch.handed_over(next);
        }
    }

    fn reported(&self, acknowledged: &[usize], failed: &mut dyn Iterator<Item = (usize, String)>) {
        let mut batches = self.batches();
        let mut rest = acknowledged;
        while let Some(ticket) = rest.first() {
            let Some(batch) = find(&mut batches, *ticket) else {
                rest = &rest[1..];
                continue;
            };
            let tickets = batch.first..batch.end;
            let same = rest.iter().take_while(|it| tickets.contains(*it)).count();
            batch.reported(same, None);
            rest = &rest[same..];
        }
        for (ticket, code) in failed {
            if let Some(batch) = find(&mut batches, ticket) {
                batch.reported(1, Some(code));
            }
        }
    }

    fn committed(&self, before: usize) {
        for batch in self.batches().iter_mut() {
            if batch.end <= before && batch.is_handed_over() {
                batch.committed();
            }
        }
    }

    fn deleted(&self, rows: &[(usize, RowId)], deleted: u64, begun: SystemTime) {
        let sends = self.sends(rows);
        let Some((parent, others)) = sends.split_first() else {
            return;
        };
        let rows = usize::try_from(deleted).unwrap_or(usize::MAX);
        let links = others.iter().cloned().map(Link::with_context);
        let builder = SpanBuilder::from_name(format!("delete {}", self.outbox))
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes(self.of_table("DELETE", rows))
            .with_links(links.collect());
        let mut span = self.tracer.build_with_context(builder, &under(parent));
        span.end();
    }

    fn finished(&self, before: usize) {
        let mut batches = self.batches();
        // The publisher may have handed over the last row of a batch without having said so yet.
        let is_over = |batch: &TracedBatch| batch.end <= before && batch.is_handed_over();
        while batches.front().is_some_and(is_over) {
            batches.pop_front();
        }
    }

    fn term_ended(&self) {
        for mut batch in std::mem::take(&mut *self.batches()) {
            batch.end();
        }
    }
}

fn find(batches: &mut VecDeque<TracedBatch>, ticket: usize) -> Option<&mut TracedBatch> {
    let index = batches.partition_point(|batch| batch.end <= ticket);
    batches.get_mut(index).filter(|batch| batch.first <= ticket)
}
