//! To which topic a row goes, and whether it may.

use std::borrow::Cow;
use std::str::{Utf8Error, from_utf8};

use uuid::Uuid;

use crate::config::{Delivery, Outbox, RecordTime, Route, TopicPatterns, check_topic};
use crate::event::Event;

/// Topics of receipts begin with this, unless another name is configured.
const RECEIPTS: &str = "doorbell.receipts.";

/// Why a row's topic cannot be told.
pub(super) const NOT_UTF_8: &str = "its topic is not UTF-8";

/// Topics that Kafka keeps for itself: it refuses records of clients, and ends their transaction.
const INTERNAL: [&str; 4] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

/// The routes of one outbox.
pub(crate) struct Routes {
    route: Route,
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
        Self {
            route: outbox.topic.clone(),
            table,
            allowed: outbox.topics.clone(),
            receipts,
            timestamp: outbox.timestamp,
            has_event_id: outbox.columns.event_id.is_some(),
        }
    }

    /// Returns the topic of a row: its own, or by the template.
    pub(crate) fn of<'a>(
        &'a self,
        own: Option<&'a [u8]>,
        event_type: &'a [u8],
    ) -> Result<Cow<'a, str>, Utf8Error> {
        match own {
            Some(topic) => from_utf8(topic).map(Cow::Borrowed),
            None => Ok(self.route.topic(&self.table, from_utf8(event_type)?)),
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
