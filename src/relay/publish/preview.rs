//! The records that the next rows would become, by the code that makes them. Nothing is sent.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::admission::TopicRules;
use super::publisher::refusal_of;
use super::routes::{Destination, NOT_UTF_8, Routes};
use crate::config::{Kafka, Outbox};
use crate::event::Event;
use crate::kafka::{
    Code, RecordHeaders, Refusal, TopicFacts, Topics, is_missing, listed, too_large,
};
use crate::postgres::{Batch, Error, NextRows, Session, Table, Unread};
use crate::relay::poison::{largest_record, largest_row};

/// A broker that takes longer to answer about a topic counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes records of rows.
pub(crate) struct Preview {
    routes: Routes,
    headers: RecordHeaders,
    rows: NextRows,
    /// The size of the largest record that the producer takes.
    largest: usize,
    /// `None`: no broker answers.
    topics: Option<Topics>,
    kafka: Kafka,
    /// Topics without known settings, and whether they are missing.
    missing: FxHashMap<String, bool>,
}

/// What would become of a row.
pub(crate) struct PreviewedRow<'a> {
    pub(crate) id: i64,
    /// Empty if it cannot be told, or there is none.
    pub(crate) topic: String,
    pub(crate) outcome: Previewed<'a>,
    /// What an operator should know besides.
    pub(crate) notes: Vec<String>,
}

pub(crate) enum Previewed<'a> {
    Sent(PreviewedRecord<'a>),
    Refused(Refusal),
    /// A route drops it.
    Dropped,
}

pub(crate) struct PreviewedRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    /// `None`: the partitioner chooses it.
    pub(crate) partition: Option<i32>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) payload: Option<&'a [u8]>,
    /// In milliseconds since the Unix epoch. `None`: when it is sent.
    pub(crate) timestamp: Option<i64>,
    /// Bytes of key, headers and payload.
    pub(crate) size: usize,
}

impl Preview {
    pub(crate) fn new(kafka: &Kafka, outbox: &Outbox, table: &Table) -> Self {
        Self {
            routes: Routes::new(outbox),
            headers: RecordHeaders::new(table.id, outbox),
            rows: NextRows::of(table, largest_row(outbox, kafka)),
            largest: largest_record(kafka),
            topics: Some(Topics::new(kafka.clone())),
            kafka: kafka.clone(),
            missing: FxHashMap::default(),
        }
    }

    /// Says why no broker answers. The settings of topics are then not taken into account.
    pub(crate) async fn ask_brokers(&mut self) -> Result<(), String> {
        let Some(topics) = &mut self.topics else {
            return Ok(());
        };
        let asked = topics.ask_any().await;
        if asked.is_err() {
            self.topics = None;
        }
        asked
    }

    /// Returns the next rows, at most so many, and none at the end.
    pub(crate) async fn next(
        &mut self,
        session: &mut Session,
        most: usize,
    ) -> Result<Batch, Error> {
        self.rows.read(session, most).await
    }

    /// Returns what would become of a row, in the steps of the publisher.
    pub(crate) async fn of<'a>(
        &mut self,
        event: &Event<'a>,
        unread: Option<&Unread>,
    ) -> PreviewedRow<'a> {
        let mut row = PreviewedRow {
            id: event.id,
            topic: String::new(),
            outcome: Previewed::Refused(Refusal::foreseen(Code::InvalidTopic, NOT_UTF_8)),
            notes: Vec::new(),
        };
        match self.routes.of(event.topic, event.event_type) {
            Ok(Destination::Topic(topic)) => row.topic = topic.into_owned(),
            Ok(Destination::Drop) => {
                row.outcome = Previewed::Dropped;
                return row;
            }
            Err(_) => return row,
        }
        if let Some(unread) = unread {
            row.outcome = Previewed::Refused(refusal_of(unread));
            return row;
        }
        if let Err(fault) = self.routes.check(&row.topic) {
            row.outcome = Previewed::Refused(Refusal::foreseen(Code::InvalidTopic, fault));
            return row;
        }
        let facts = match &mut self.topics {
            Some(topics) => topics.facts(&row.topic).await,
            None => TopicFacts::default(),
        };
        if self.topics.is_some() && facts.limit.is_none() && self.is_missing(&row.topic) {
            row.notes.push(format!(
                "the brokers do not know its topic {}: rows wait for it, and are refused if it is not created",
                row.topic
            ));
        }
        let record = self.record(event, facts, &row.topic, &mut row.notes);
        row.outcome = record.map_or_else(Previewed::Refused, Previewed::Sent);
        row
    }

    fn is_missing(&mut self, topic: &str) -> bool {
        if let Some(missing) = self.missing.get(topic) {
            return *missing;
        }
        let missing = is_missing(&self.kafka, topic, PATIENCE);
        self.missing.insert(topic.to_owned(), missing);
        missing
    }

    fn record<'a>(
        &self,
        event: &Event<'a>,
        facts: TopicFacts,
        topic: &str,
        notes: &mut Vec<String>,
    ) -> Result<PreviewedRecord<'a>, Refusal> {
        let rules = TopicRules {
            facts,
            ..TopicRules::default()
        };
        let created_at = self.routes.created_at(event);
        if let Some(refusal) = rules.foresee(event, created_at) {
            return Err(refusal);
        }
        // It borrows the topic, and what is shown of it does not.
        let (made, left_out) = self.headers.record(topic, event, created_at, 0)?;
        let headers = listed(made.headers.as_ref()).into_iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        let record = PreviewedRecord {
            key: event.key,
            partition: made.partition,
            headers: headers.collect(),
            payload: self.headers.value(event),
            timestamp: made.timestamp,
            size: 0,
        };
        let size = record.size();
        if size > self.largest {
            return Err(too_large());
        }
        if rules.may_be_too_large(event) {
            notes.push("it may be larger than its topic's max.message.bytes, unless compression makes it smaller".into());
        }
        if left_out > 0 {
            notes.push(format!(
                "{left_out} of its own headers have names that the relay sets, and are left out"
            ));
        }
        Ok(PreviewedRecord { size, ..record })
    }
}

impl PreviewedRecord<'_> {
    fn size(&self) -> usize {
        let bytes = |it: Option<&[u8]>| it.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + bytes(value.as_deref()));
        bytes(self.key) + bytes(self.payload) + headers.sum::<usize>()
    }
}
