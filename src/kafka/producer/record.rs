//! Converts a row to a record's headers and timestamp.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::value::RawValue;

use super::poll_thread::QueuedRecord;
use super::properties::properties;
use crate::config::{Outbox, PROPERTIES, Profile};
use crate::event::{Event, OutboxId};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("its headers are not a JSON object")]
    Headers,
    #[error("its event_id is NULL: give the column a default, or NOT NULL")]
    NoEventId,
    #[error("its event_id is not a UUID")]
    EventId,
    #[error("its partition is negative")]
    Partition,
}

impl BadRecord {
    /// The code of the refusal.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Headers => "InvalidHeaders",
            Self::NoEventId | Self::EventId => "InvalidEventId",
            Self::Partition => "UnknownPartition",
        }
    }
}

/// The headers that the relay sets. A row's own of these names are left out: consumers that take
/// the last header of a name would take the writer's for the relay's.
pub(crate) struct RecordHeaders {
    outbox: OutboxId,
    profile: Profile,
    has_type: bool,
    /// The names of headers that the profile sets.
    reserved: Vec<&'static str>,
    /// Whether the first of the further columns is the event's own id.
    has_event_id: bool,
    /// Whether the partition is one of the further columns, after the event's own id.
    has_partition: bool,
    /// Names of headers that have columns of their own, in the order of these. `PROPERTIES` stands
    /// for those that the column names.
    from: Vec<String>,
    fixed: BTreeMap<String, String>,
    blank_is_tombstone: bool,
}

impl RecordHeaders {
    pub(crate) fn new(id: OutboxId, outbox: &Outbox) -> Self {
        Self {
            outbox: id,
            profile: outbox.profile,
            has_type: outbox.columns.event_type.is_some(),
            reserved: outbox.profile_headers().collect(),
            has_event_id: outbox.columns.event_id.is_some(),
            has_partition: outbox.columns.partition.is_some(),
            from: (outbox.columns.headers_from.iter())
                .map(|(name, _)| name.clone())
                .collect(),
            fixed: outbox.fixed_headers.clone(),
            blank_is_tombstone: outbox.tombstone_on_blank,
        }
    }

    /// Returns the record that a row becomes, and how many of its own headers were left out. Its
    /// timestamp is `created_at`, or the time of its sending.
    pub(crate) fn record<'a>(
        &self,
        topic: &'a str,
        event: &Event<'a>,
        created_at: Option<i64>,
        ticket: usize,
    ) -> Result<(QueuedRecord<'a>, u64), BadRecord> {
        let (headers, left_out) = self.of(event)?;
        let record = QueuedRecord {
            topic,
            partition: self.partition(event)?,
            payload: self.value(event),
            key: event.key,
            timestamp: created_at.and_then(timestamp),
            headers: Some(headers),
            delivery_opaque: ticket,
        };
        Ok((record, left_out))
    }

    /// Returns the relay's headers, followed by the row's own, and how many of those were left out.
    fn of(&self, event: &Event<'_>) -> Result<(OwnedHeaders, u64), BadRecord> {
        let mut headers = OwnedHeaders::new_with_capacity(4 + self.from.len() + self.fixed.len());
        let mut more = event.more();
        let own_id = match self.has_event_id {
            true => more.next().flatten(),
            false => None,
        };
        if self.has_partition {
            more.next();
        }
        if self.profile != Profile::None {
            let mut id = [0_u8; 36];
            let id = self.id(event, own_id, &mut id)?;
            headers = with(headers, "id", Some(id));
        }
        if self.profile == Profile::Doorbell {
            let mut seq = Digits::default();
            headers = with(headers, "seq", Some(seq.of(event.id)));
            if self.has_type {
                headers = with(headers, "type", Some(event.event_type));
            }
        }
        let (mut headers, left_out) = self.add_columns(headers, more);
        for (name, value) in &self.fixed {
            headers = with(headers, name, Some(value.as_bytes()));
        }
        match event.headers {
            None => Ok((headers, left_out)),
            Some(own) => {
                let (headers, own) = self.add_own(headers, own)?;
                Ok((headers, left_out + own))
            }
        }
    }

    /// Adds the headers that have columns of their own, and returns how many properties were left
    /// out.
    fn add_columns<'a>(
        &self,
        mut headers: OwnedHeaders,
        columns: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> (OwnedHeaders, u64) {
        let mut left_out = 0;
        for (name, value) in self.from.iter().zip(columns) {
            match value {
                None => {}
                Some(text) if name == PROPERTIES => {
                    for (name, value) in properties(&String::from_utf8_lossy(text)) {
                        if self.sets(&name) {
                            left_out += 1;
                        } else {
                            headers = with(headers, &name, Some(value.as_bytes()));
                        }
                    }
                }
                Some(_) => headers = with(headers, name, value),
            }
        }
        (headers, left_out)
    }

    /// Returns the partition that the row asks for. `None`: by the key.
    fn partition(&self, event: &Event<'_>) -> Result<Option<i32>, BadRecord> {
        if !self.has_partition {
            return Ok(None);
        }
        let Some(text) = event.more().nth(usize::from(self.has_event_id)).flatten() else {
            return Ok(None);
        };
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|it| it.parse().ok());
        let number = number.filter(|number| *number >= 0);
        number.map(Some).ok_or(BadRecord::Partition)
    }

    /// Returns the value of the record. `None`: a tombstone.
    pub(crate) fn value<'a>(&self, event: &Event<'a>) -> Option<&'a [u8]> {
        // As Java trims a text.
        let is_blank = |text: &[u8]| text.iter().all(|byte| *byte <= b' ');
        let payload = event.payload;
        payload.filter(|text| !(self.blank_is_tombstone && is_blank(text)))
    }

    /// The event's id: its own as it is written, or one that is derived.
    fn id<'a>(
        &self,
        event: &Event<'_>,
        own: Option<&'a [u8]>,
        derived: &'a mut [u8; 36],
    ) -> Result<&'a [u8], BadRecord> {
        match own {
            Some(own) if uuid::Uuid::try_parse_ascii(own).is_ok() => Ok(own),
            Some(_) => Err(BadRecord::EventId),
            None if self.has_event_id => Err(BadRecord::NoEventId),
            None => {
                let id = self.outbox.event_id(event.row());
                id.as_hyphenated().encode_lower(derived);
                Ok(derived)
            }
        }
    }

    /// Whether the relay sets the header, so that a row's own is left out.
    fn sets(&self, name: &str) -> bool {
        self.reserved.contains(&name)
            || self.fixed.contains_key(name)
            || self.from.iter().any(|it| it == name)
    }

    /// Adds the row's own headers: text as it is; `{"$base64": "…"}` as the bytes; numbers,
    /// booleans, other objects and arrays as their JSON was written; null as a header without a
    /// value.
    fn add_own(
        &self,
        mut headers: OwnedHeaders,
        own: &[u8],
    ) -> Result<(OwnedHeaders, u64), BadRecord> {
        // JSON null is no headers: some libraries write it for the missing value.
        let own: Option<BTreeMap<String, &RawValue>> =
            serde_json::from_slice(own).map_err(|_| BadRecord::Headers)?;
        let mut left_out = 0;
        for (key, value) in &own.unwrap_or_default() {
            if self.sets(key) {
                left_out += 1;
                continue;
            }
            let value = value_of(value)?;
            headers = with(headers, key, value.as_deref());
        }
        Ok((headers, left_out))
    }
}

/// Returns the value of one of a row's own headers. `None`: it has none, or no value, or the
/// headers are no JSON object.
pub(crate) fn own_header<'a>(own: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let own: Option<BTreeMap<String, &RawValue>> = serde_json::from_slice(own).ok()?;
    value_of(own?.get(name)?).ok()?
}

/// Returns the value of a header that is written as JSON.
fn value_of(value: &RawValue) -> Result<Option<Cow<'_, [u8]>>, BadRecord> {
    let text = value.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|_| BadRecord::Headers)?;
            Some(Cow::Owned(text.into_bytes()))
        }
        Some(b'n') => None,
        _ => Some(bytes_of(text)),
    })
}

fn with(headers: OwnedHeaders, key: &str, value: Option<&[u8]>) -> OwnedHeaders {
    headers.insert(Header { key, value })
}

/// Returns the bytes that `{"$base64": "…"}` encodes, or the JSON itself.
fn bytes_of(json: &str) -> Cow<'_, [u8]> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Encoded<'a> {
        #[serde(rename = "$base64", borrow)]
        text: Cow<'a, str>,
    }
    let encoded = json.starts_with('{').then(|| serde_json::from_str(json));
    let bytes = match encoded {
        Some(Ok(Encoded { text })) => STANDARD.decode(text.as_bytes()).ok(),
        _ => None,
    };
    bytes.map_or(Cow::Borrowed(json.as_bytes()), Cow::Owned)
}

/// Returns milliseconds since the Unix epoch. `None`, which the producer reads as "now": Kafka
/// cannot hold the time, or it is ahead of now, which brokers refuse.
fn timestamp(created_at: i64) -> Option<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |it| it.as_millis() as i64);
    let millis = created_at.div_euclid(1_000);
    (1..=now).contains(&millis).then_some(millis)
}

/// Text of a number, without an allocation.
#[derive(Default)]
struct Digits {
    text: [u8; 20],
}

impl Digits {
    fn of(&mut self, number: i64) -> &[u8] {
        let mut rest = &mut self.text[..];
        write!(rest, "{number}").expect("the longest 64-bit number has 20 characters");
        let free = rest.len();
        &self.text[..20 - free]
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;
    use uuid::Uuid;

    use super::*;

    type Shown = Result<Vec<(String, Option<String>)>, BadRecord>;

    fn shown(own: Option<&str>) -> Shown {
        let shown = shown_as(&Outbox::default(), own)?;
        assert_eq!(shown[0].0, "id");
        Ok(shown[1..].to_vec())
    }

    fn shown_as(outbox: &Outbox, own: Option<&str>) -> Shown {
        let event = Event {
            id: -7,
            created_at: 5,
            event_type: b"Shipped",
            payload: None,
            key: None,
            topic: None,
            headers: own.map(str::as_bytes),
            more: &[],
        };
        let (headers, _) = RecordHeaders::new(OutboxId(Uuid::nil()), outbox).of(&event)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(headers
            .iter()
            .map(|h| (h.key.to_owned(), h.value.map(text)))
            .collect())
    }

    #[test]
    fn own_headers_follow_ours_and_any_json_value_has_a_text() {
        let pair = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let ours = [pair("seq", Some("-7")), pair("type", Some("Shipped"))];
        assert_eq!(shown(None), Ok(ours.to_vec()));
        let own = r#"{"a": "é🔔", "b": 1.50, "c": true, "d": null, "e": {"x": [1, "y"]}, "f": "", "": "g"}"#;
        let expected = [
            pair("", Some("g")),
            pair("a", Some("é🔔")),
            pair("b", Some("1.50")),
            pair("c", Some("true")),
            pair("d", None),
            pair("e", Some(r#"{"x": [1, "y"]}"#)),
            pair("f", Some("")),
        ];
        assert_eq!(shown(Some(own)), Ok([&ours[..], &expected[..]].concat()));
        assert_eq!(shown(Some(" null ")), Ok(ours.to_vec()));
        let encoded = r#"{"a": {"$base64": "wqnCrg=="}, "b": {"$base64": "?"}, "c": {"$base64": "wqk=", "x": 1}}"#;
        let expected = [
            pair("a", Some("©®")),
            pair("b", Some(r#"{"$base64": "?"}"#)),
            pair("c", Some(r#"{"$base64": "wqk=", "x": 1}"#)),
        ];
        assert_eq!(
            shown(Some(encoded)),
            Ok([&ours[..], &expected[..]].concat())
        );
        for bad in ["[]", "\"x\"", "1", "nul"] {
            assert_eq!(shown(Some(bad)), Err(BadRecord::Headers));
        }
    }

    #[test]
    fn without_a_profile_there_are_the_fixed_headers_and_the_rows_own_of_other_names() {
        let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let outbox = Outbox {
            profile: Profile::None,
            fixed_headers: [("source".to_owned(), "shop".to_owned())].into(),
            ..Outbox::default()
        };
        let own = r#"{"id": "7", "source": "forged"}"#;
        let expected = [pair("source", "shop"), pair("id", "7")];
        assert_eq!(shown_as(&outbox, Some(own)), Ok(expected.to_vec()));
        assert_eq!(shown_as(&outbox, None), Ok(expected[..1].to_vec()));
    }

    #[test]
    fn timestamps_are_milliseconds_and_impossible_ones_are_left_to_the_producer() {
        assert_eq!(timestamp(1_700_000_000_123_456), Some(1_700_000_000_123));
        assert_eq!(timestamp(i64::MAX), None);
        assert_eq!(timestamp(32_503_680_000_000_000), None, "the year 3000");
        assert_eq!(timestamp(0), None);
        assert_eq!(timestamp(-1), None);
    }

    #[test]
    fn digits_hold_every_number() {
        for number in [0, 7, -7, i64::MAX, i64::MIN] {
            assert_eq!(Digits::default().of(number), number.to_string().as_bytes());
        }
    }
}
