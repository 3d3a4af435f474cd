//! Spans of an outbox's relay: `fetch` and `send` for each batch, `delete` for each statement that deletes. Where nobody asked for traces there is none of this.
//!
//! A batch is a trace: its fetch is the root, and what became of it are the children. So one decision of the sampler holds for all of it, and of a batch that
//! is not sampled nothing is remembered. The rows' own traces are linked, not continued: a batch has many.

mod carried;
mod sending;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use super::window::Ticket;
use crate::kafka::{Code, told};
use crate::postgres::{Batch, Sent};

pub(crate) use sending::Sending;

/// Links of a span. The SDK's own limit is the same, and can be set lower.
const MOST_LINKS: usize = 128;

/// The spans of one outbox.
pub(crate) struct Traces {
    tracer: Arc<BoxedTracer>,
    table: String,
    batches: Mutex<VecDeque<Traced>>,
}

/// A batch that is sampled, until its rows are deleted.
struct Traced {
    first: Ticket,
    /// The ticket after its last row.
    end: Ticket,
    fetch: SpanContext,
    /// Begun when a row of it is known to have been handed over: its first rows may be deleted before its last are acknowledged.
    send: Option<BoxedSpan>,
    sending: Sending,
    /// Rows before this one have left the second stage.
    published: Ticket,
    settled: usize,
    failed: usize,
    /// Why the first of those failed.
    error: Option<String>,
}

impl Traces {
    pub(crate) fn new(tracer: Arc<BoxedTracer>, table: String) -> Self {
        Self {
            tracer,
            table,
            batches: Mutex::default(),
        }
    }

    fn batches(&self) -> MutexGuard<'_, VecDeque<Traced>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fetch that began then has brought a batch.
    pub(crate) fn fetched(&self, first: Ticket, batch: &Batch, begun: SystemTime) {
        let ids = || batch.heads().map(|row| row.id);
        let mut attributes = self.of_table("SELECT", batch.len());
        if let (Some(lowest), Some(highest)) = (ids().next(), ids().last()) {
            attributes.push(KeyValue::new("doorbell.row.first", lowest));
            attributes.push(KeyValue::new("doorbell.row.last", highest));
        }
        let builder = SpanBuilder::from_name(format!("fetch {}", self.table))
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        let fetch = span.span_context().clone();
        if !span.is_recording() {
            return;
        }
        span.end();
        self.batches().push_back(Traced {
            first,
            end: first + batch.len(),
            fetch,
            send: None,
            sending: Sending::new(),
            published: first,
            settled: 0,
            failed: 0,
            error: None,
        });
    }

    /// The row with this ticket and some after it are about to be handed over; `None` where their batch is not sampled.
    pub(crate) fn sending(&self, from: Ticket) -> Option<Sending> {
        find(&mut self.batches(), from).map(|batch| {
            if batch.sending.rows == 0 {
                // Rows may be deleted before `sent` says that they were handed over.
                batch.sending.begun = SystemTime::now();
            }
            Sending::new()
        })
    }

    /// Those before `next` have been.
    pub(crate) fn sent(&self, next: Ticket, part: Sending) {
        let mut batches = self.batches();
        if let Some(batch) = find(&mut batches, next.saturating_sub(1)) {
            batch.sending.add(part);
            batch.published = next;
            self.end_if_settled(batch);
        }
    }

    /// Reports came.
    pub(crate) fn settled(&self, acknowledged: &[Ticket], failed: &[(Ticket, Code)]) {
        let mut batches = self.batches();
        let mut rest = acknowledged;
        while let Some(ticket) = rest.first() {
            let Some(batch) = find(&mut batches, *ticket) else {
                rest = &rest[1..];
                continue;
            };
            let (first, end) = (batch.first, batch.end);
            let same = rest.iter().take_while(|it| (first..end).contains(*it));
            let same = same.count();
            batch.settled += same;
            self.end_if_settled(batch);
            rest = &rest[same..];
        }
        for (ticket, code) in failed {
            if let Some(batch) = find(&mut batches, *ticket) {
                batch.settled += 1;
                batch.failed += 1;
                batch.error.get_or_insert_with(|| told(*code).code);
                self.end_if_settled(batch);
            }
        }
    }

    /// A transaction with all rows before this one was committed.
    pub(crate) fn committed(&self, before: Ticket) {
        for batch in self.batches().iter_mut() {
            if batch.end <= before && batch.published >= batch.end {
                batch.settled = batch.sending.rows;
                self.end_if_settled(batch);
            }
        }
    }

    fn end_if_settled(&self, batch: &mut Traced) {
        if batch.published >= batch.end && batch.settled >= batch.sending.rows {
            self.end_sending(batch);
        }
    }

    /// All rows of the batch that were handed over have been heard of, or will not be.
    fn end_sending(&self, batch: &mut Traced) {
        let rows = batch.sending.rows;
        let has_ended = |span: &BoxedSpan| !span.is_recording();
        if rows == 0 || batch.send.as_ref().is_some_and(has_ended) {
            return;
        }
        let unknown = rows.saturating_sub(batch.settled);
        let failure = match (&batch.error, unknown) {
            (None, 0) => None,
            (Some(error), _) => {
                Some((error.clone(), format!("{} rows were refused", batch.failed)))
            }
            (None, _) => Some((
                "unsettled".to_owned(),
                format!("{unknown} rows were not acknowledged: they stay in the table"),
            )),
        };
        self.send(batch);
        let Some(span) = &mut batch.send else { return };
        batch.sending.tell(span);
        if let Some((error, words)) = failure {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(words));
        }
        span.end();
    }

    /// The span of the batch's sending.
    fn send<'a>(&self, batch: &'a mut Traced) -> &'a BoxedSpan {
        batch.send.get_or_insert_with(|| {
            // A message was created where its row was written. This is the call that hands it over, and waits for the answer: by the conventions a client.
            let builder = SpanBuilder::from_name("send")
                .with_kind(SpanKind::Client)
                .with_start_time(batch.sending.begun)
                .with_attributes([KeyValue::new("doorbell.outbox", self.table.clone())]);
            self.tracer
                .build_with_context(builder, &under(&batch.fetch))
        })
    }

    /// A statement that began then has deleted rows.
    pub(crate) fn deleted(&self, rows: &[(Ticket, Sent)], deleted: u64, begun: SystemTime) {
        let mut batches = self.batches();
        let mut sends: Vec<SpanContext> = Vec::new();
        let mut known = 0..0;
        for (ticket, _) in rows {
            if known.contains(ticket) || sends.len() > MOST_LINKS {
                continue;
            }
            if let Some(batch) = find(&mut batches, *ticket) {
                known = batch.first..batch.end;
                let context = self.send(batch).span_context();
                if !sends.contains(context) {
                    sends.push(context.clone());
                }
            }
        }
        drop(batches);
        let Some((parent, others)) = sends.split_first() else {
            return;
        };
        let rows = usize::try_from(deleted).unwrap_or(usize::MAX);
        let links = others.iter().cloned().map(Link::with_context);
        let builder = SpanBuilder::from_name(format!("delete {}", self.table))
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes(self.of_table("DELETE", rows))
            .with_links(links.collect());
        let mut span = self.tracer.build_with_context(builder, &under(parent));
        span.end();
    }

    /// Rows before this ticket are over.
    pub(crate) fn forget_before(&self, first: Ticket) {
        let mut batches = self.batches();
        // The second stage may have handed over the last row of a batch and not said so yet.
        let is_over = |batch: &Traced| batch.end <= first && batch.published >= batch.end;
        while batches.front().is_some_and(is_over) {
            batches.pop_front();
        }
    }

    /// The term is over: nothing more will be heard of what is under way.
    pub(crate) fn end_term(&self) {
        for mut batch in std::mem::take(&mut *self.batches()) {
            self.end_sending(&mut batch);
        }
    }

    fn of_table(&self, operation: &'static str, rows: usize) -> Vec<KeyValue> {
        vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", self.table.clone()),
            KeyValue::new("doorbell.outbox", self.table.clone()),
            KeyValue::new("doorbell.rows", count(rows)),
        ]
    }
}

fn under(parent: &SpanContext) -> Context {
    Context::new().with_remote_span_context(parent.clone())
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The batch that a ticket belongs to.
fn find(batches: &mut VecDeque<Traced>, ticket: Ticket) -> Option<&mut Traced> {
    let index = batches.partition_point(|batch| batch.end <= ticket);
    batches.get_mut(index).filter(|batch| batch.first <= ticket)
}
