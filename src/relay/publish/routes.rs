//! To which topic a row goes, and whether it may.

use std::borrow::Cow;
use std::str::{Utf8Error, from_utf8};

use uuid::Uuid;

use crate::config::{
    Delivery, Outbox, RecordTime, Route, RouteInput, RouteRule, TopicPart, TopicPatterns,
    check_topic,
};
use crate::event::{Event, columns_of};
use crate::kafka::own_header;

/// Topics of receipts begin with this, unless another name is configured.
const RECEIPTS: &str = "doorbell.receipts.";

/// Why a row's topic cannot be told.
pub(super) const NOT_UTF_8: &str = "its topic, or what its topic follows from, is not UTF-8";

/// Topics that Kafka keeps for itself: it refuses records of clients, and ends their transaction.
const INTERNAL: [&str; 4] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    Topic(Cow<'a, str>),
    /// It is deleted unsent.
    Drop,
}

/// The routes of one outbox.
pub(crate) struct Routes {
    route: Route,
    rules: Vec<RouteRule>,
    /// The columns that the rules read, in the order in which they are fetched.
    columns: Vec<String>,
    table: String,
    /// The topics that rows may go to.
    allowed: TopicPatterns,
    /// The topic of the outbox's own receipts.
    receipts: Option<String>,
    timestamp: RecordTime,
    has_event_id: bool,
}

impl Routes {
    pub(crate) fn new(outbox: &Outbox) -> Self {
        let table = outbox.table.name.clone();
        let receipts = match &outbox.delivery {
            Delivery::AtLeastOnce => None,
            Delivery::ExactlyOnce(it) => Some(it.receipts.topic(&table, "").into_owned()),
        };
        let columns = outbox.route_columns().into_iter().map(str::to_owned);
        Self {
            route: outbox.topic.clone(),
            rules: outbox.routes.clone(),
            columns: columns.collect(),
            table,
            allowed: outbox.topics.clone(),
            receipts,
            timestamp: outbox.timestamp,
            has_event_id: outbox.columns.event_id.is_some(),
        }
    }

    /// Returns where a row goes: to its own topic, by the first route that takes it, or by the
    /// template. `topic` is as the row was fetched.
    pub(crate) fn of<'a>(
        &'a self,
        topic: Option<&'a [u8]>,
        event_type: &'a [u8],
    ) -> Result<Destination<'a>, Utf8Error> {
        let topic = match topic {
            Some(topic) => match columns_of(topic) {
                Some(columns) => return self.by_rules(columns, event_type),
                None => from_utf8(topic).map(Cow::Borrowed)?,
            },
            None => self.route.topic(&self.table, from_utf8(event_type)?),
        };
        Ok(Destination::Topic(topic))
    }

    /// Chooses by the record of the topic without routes, the headers and the columns of routes. In
    /// a topic, a column that is NULL is empty.
    fn by_rules<'a>(
        &'a self,
        mut record: impl Iterator<Item = Option<&'a [u8]>>,
        event_type: &'a [u8],
    ) -> Result<Destination<'a>, Utf8Error> {
        let (usual, headers) = (record.next().flatten(), record.next().flatten());
        let values = record.map(|it| it.map(from_utf8).transpose());
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let value = |name: &str| {
            let place = self.columns.iter().position(|it| it == name)?;
            values.get(place).copied().flatten()
        };
        for rule in &self.rules {
            let input = match rule.input() {
                RouteInput::Column(name) => value(name).map(Cow::Borrowed),
                RouteInput::Header(name) => header(headers, name),
            };
            let Some(group) = input.as_deref().and_then(|it| rule.groups(it)) else {
                continue;
            };
            let Some(topic) = rule.topic() else {
                return Ok(Destination::Drop);
            };
            let event_type = from_utf8(event_type)?;
            let filled = topic.pieces(&self.table).map(|part| match part {
                TopicPart::Text(text) => text,
                TopicPart::Type => event_type,
                TopicPart::Column(name) => value(name).unwrap_or_default(),
                TopicPart::Group(number) => group(number),
            });
            return Ok(Destination::Topic(filled.collect::<String>().into()));
        }
        match usual {
            Some(topic) => Ok(Destination::Topic(from_utf8(topic)?.into())),
            None => self.of(None, event_type),
        }
    }

    /// The time of creation that becomes the timestamp of its record.
    pub(super) fn created_at(&self, event: &Event<'_>) -> Option<i64> {
        (self.timestamp == RecordTime::CreatedAt).then_some(event.created_at)
    }

    /// The id that the event has of its own.
    pub(super) fn own_id(&self, event: &Event<'_>) -> Option<Uuid> {
        match self.has_event_id {
            true => Uuid::try_parse_ascii(event.more().next()??).ok(),
            false => None,
        }
    }

    /// Checks whether a row may go to the topic. The error says why not.
    pub(crate) fn check(&self, topic: &str) -> Result<(), String> {
        check_topic(topic).map_err(|fault| format!("its topic is not a valid name: {fault}"))?;
        if topic.starts_with(RECEIPTS) || self.receipts.as_deref() == Some(topic) {
            return Err(format!("its topic {topic} is for receipts of the relay"));
        }
        if INTERNAL.contains(&topic) {
            return Err(format!("its topic {topic} is Kafka's own"));
        }
        match self.allowed.allow(topic) {
            true => Ok(()),
            false => Err(format!(
                "its topic {topic} is not among `topics` in [[outbox]]"
            )),
        }
    }
}

/// Returns the text of one of the row's own headers. One that is no text matches no pattern.
fn header<'a>(headers: Option<&'a [u8]>, name: &str) -> Option<Cow<'a, str>> {
    match own_header(headers?, name)? {
        Cow::Borrowed(bytes) => from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}
