//! One event.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

/// An event, to become one record of Kafka.
///
/// ```
/// use doorbell_outbox::Event;
///
/// # #[derive(serde::Serialize)] struct Order { id: i64 }
/// # let order = Order { id: 7 };
/// let event = Event::new("OrderPlaced").key("7").json(&order)?.header("tenant", b"grace");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event is written by `Outbox::insert`"]
pub struct Event {
    pub(crate) event_type: String,
    pub(crate) key: Option<String>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, Vec<u8>>,
    pub(crate) topic: Option<String>,
    pub(crate) not_before: Option<SystemTime>,
}

impl Event {
    /// Creates an event of a type, without a payload: until it gets one it is a tombstone.
    pub fn new(event_type: impl Into<String>) -> Self {
        Self {
            event_type: event_type.into(),
            key: None,
            payload: None,
            headers: BTreeMap::new(),
            topic: None,
            not_before: None,
        }
    }

    /// Sets the record's key: events of one key stay in order.
    pub fn key(self, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// Sets the payload: a value as JSON.
    ///
    /// # Errors
    /// For a value that JSON cannot hold, such as a map whose keys are no texts.
    pub fn json(self, payload: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        let payload = serde_json::to_vec(payload)?;
        Ok(self.bytes(payload))
    }

    /// Sets the payload, which becomes the record's value byte for byte.
    ///
    /// The column `payload` of an ordinary outbox is text, so PostgreSQL refuses bytes that are not
    /// UTF-8 (SQLSTATE 22021). [`PayloadColumn::Bytea`](crate::PayloadColumn) takes any.
    pub fn bytes(self, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..self
        }
    }

    /// Takes the payload off: the record has no value, so a compacted topic forgets the key.
    pub fn tombstone(self) -> Self {
        Self {
            payload: None,
            ..self
        }
    }

    /// Adds a header, in place of one of the same name. A value that is not UTF-8 is written as
    /// `{"$base64": "…"}`, which the relay decodes.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.insert(name.into(), value.as_ref().to_vec());
        self
    }

    /// Names the topic. Without it the relay's route decides, and writers do not need the privilege
    /// to choose a topic.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self {
            topic: Some(topic.into()),
            ..self
        }
    }

    /// Fills the column `not_before` (timestamptz) of an outbox that has it and whose relay reads
    /// it (`not_before = "not_before"` under `[outbox.columns]`): the event is not sent before that
    /// time. PostgreSQL refuses the statement for a table without this column (SQLSTATE 42703). The
    /// time is cut to microseconds.
    pub fn not_before(self, time: SystemTime) -> Self {
        Self {
            not_before: Some(time),
            ..self
        }
    }
}
