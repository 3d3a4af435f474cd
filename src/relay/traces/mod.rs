//! Spans of an outbox's relay: `fetch` and `send` for each batch, `delete` for each statement that deletes. Where nobody asked for traces there is none of this.
//!
//! A batch is a trace: its fetch is the root, and what became of it are the children. So one decision of the sampler holds for all of it, and of a batch that
//! is not sampled nothing is remembered. The rows' own traces are linked, not continued: a batch has many.

mod carried;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use super::window::Ticket;
use crate::event::Event;
use crate::kafka::{Code, told};
use crate::postgres::{Batch, Sent};

use carried::context;

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
    /// Its fetch, and once it is over the sending.
    fetch: SpanContext,
    send: Option<SpanContext>,
    sending: Sending,
    /// Rows before this one have left the second stage.
    published: Ticket,
    settled: usize,
    failed: usize,
    /// Why the first of those failed.
    error: Option<String>,
}

/// What is being handed over of a batch.
pub(crate) struct Sending {
    begun: SystemTime,
    rows: usize,
    /// Where all of them went; `None` where they went to several.
    topic: Option<String>,
    links: Vec<Link>,
    /// There was no room for further links.
    is_cut: bool,
}

impl Sending {
    fn new() -> Self {
        Self {
            begun: SystemTime::now(),
            rows: 0,
            topic: None,
            links: Vec::new(),
            is_cut: false,
        }
    }

    /// The producer has taken the row.
    pub(crate) fn sent(&mut self, topic: &str, event: &Event<'_>) {
        if self.rows == 0 {
            self.topic = Some(topic.to_owned());
        } else if self.topic.as_deref() != Some(topic) {
            self.topic = None;
        }
        self.rows += 1;
        if self.is_cut {
            return;
        }
        if let Some(context) = event.headers.and_then(context) {
            self.is_cut = self.links.len() == MOST_LINKS;
            if !self.is_cut {
                self.links.push(Link::with_context(context));
            }
        }
    }

    /// The batch goes on with another part.
    fn add(&mut self, part: Self) {
        if self.rows == 0 {
            *self = part;
            return;
        }
        if part.rows > 0 && part.topic != self.topic {
            self.topic = None;
        }
        self.rows += part.rows;
        let room = MOST_LINKS - self.links.len();
        self.is_cut |= part.is_cut || part.links.len() > room;
        self.links.extend(part.links.into_iter().take(room));
    }
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
        find(&mut self.batches(), from).map(|_| Sending::new())
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
        if batch.send.is_some() || batch.sending.rows == 0 {
            return;
        }
        let Sending {
            begun,
            rows,
            topic,
            links,
            is_cut,
        } = std::mem::replace(&mut batch.sending, Sending::new());
        batch.sending.rows = rows;
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.batch.message_count", count(rows)),
            KeyValue::new("doorbell.outbox", self.table.clone()),
        ];
        let name = match &topic {
            Some(topic) => format!("send {topic}"),
            None => "send".to_owned(),
        };
        attributes.extend(topic.map(|topic| KeyValue::new("messaging.destination.name", topic)));
        if is_cut {
            attributes.push(KeyValue::new("doorbell.links.cut", true));
        }
        let unknown = rows.saturating_sub(batch.settled);
        let status = match (&batch.error, unknown) {
            (None, 0) => None,
            (Some(error), _) => {
                attributes.push(KeyValue::new("error.type", error.clone()));
                Some(format!("{} rows were refused", batch.failed))
            }
            (None, _) => {
                attributes.push(KeyValue::new("error.type", "unsettled"));
                Some(format!(
                    "{unknown} rows were not acknowledged: they stay in the table"
                ))
            }
        };
        // A message was created where its row was written. This is the call that hands it over, and waits for the answer: by the conventions a client.
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes(attributes)
            .with_links(links);
        let mut span = self
            .tracer
            .build_with_context(builder, &under(&batch.fetch));
        if let Some(words) = status {
            span.set_status(Status::error(words));
        }
        span.end();
        batch.send = Some(span.span_context().clone());
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
                let context = batch.send.as_ref().unwrap_or(&batch.fetch);
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
