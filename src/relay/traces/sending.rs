//! What the span of a sending will say, gathered while the rows are handed over.

use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span as _, SpanContext};

use super::carried::context;
use super::{MOST_LINKS, count};
use crate::event::Event;

/// What is being handed over of a batch.
pub(crate) struct Sending {
    pub(super) begun: SystemTime,
    pub(super) rows: usize,
    /// Where all of them went; `None` where they went to several.
    pub(super) topic: Option<String>,
    links: Vec<SpanContext>,
    /// There was no room for further links.
    is_cut: bool,
}

impl Sending {
    pub(super) fn new() -> Self {
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
                self.links.push(context);
            }
        }
    }

    /// The batch goes on with another part.
    pub(super) fn add(&mut self, part: Self) {
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

    /// Tells the span of all there is to tell.
    pub(super) fn tell(&mut self, span: &mut BoxedSpan) {
        span.set_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.batch.message_count", count(self.rows)),
        ]);
        if let Some(topic) = self.topic.take() {
            span.update_name(format!("send {topic}"));
            span.set_attribute(KeyValue::new("messaging.destination.name", topic));
        }
        for context in self.links.drain(..) {
            span.add_link(context, Vec::new());
        }
        if self.is_cut {
            span.set_attribute(KeyValue::new("doorbell.links.cut", true));
        }
    }
}
