//! From a row to a record's headers and timestamp.

use std::collections::BTreeMap;
use std::io::Write;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::value::RawValue;

use crate::event::{Event, OutboxId};

/// The row's own headers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its headers are not a JSON object")]
pub struct BadHeaders;

/// `id`, `seq` and `type`, then the row's own.
pub(crate) fn headers(outbox: OutboxId, event: &Event<'_>) -> Result<OwnedHeaders, BadHeaders> {
    let mut id = [0_u8; 36];
    outbox
        .event_id(event.id, event.created_at)
        .as_hyphenated()
        .encode_lower(&mut id);
    let mut seq = Digits::default();
    let headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header {
            key: "id",
            value: Some(&id[..]),
        })
        .insert(Header {
            key: "seq",
            value: Some(seq.of(event.id)),
        })
        .insert(Header {
            key: "type",
            value: Some(event.event_type),
        });
    match event.headers {
        None => Ok(headers),
        Some(own) => add_own(headers, own),
    }
}

/// Text as it is; numbers, booleans, objects and arrays as their JSON was written; null as a header without a value.
fn add_own(mut headers: OwnedHeaders, own: &[u8]) -> Result<OwnedHeaders, BadHeaders> {
    let own: BTreeMap<String, &RawValue> = serde_json::from_slice(own).map_err(|_| BadHeaders)?;
    for (key, value) in &own {
        let text = value.get();
        let header = |value| Header { key, value };
        headers = match text.as_bytes().first() {
            Some(b'"') => {
                let text: String = serde_json::from_str(text).map_err(|_| BadHeaders)?;
                headers.insert(header(Some(text.as_bytes())))
            }
            Some(b'n') => headers.insert(header(None)),
            _ => headers.insert(header(Some(text.as_bytes()))),
        };
    }
    Ok(headers)
}

/// Milliseconds since the Unix epoch; `None`, which the producer reads as "now", for times that Kafka cannot hold.
pub(crate) fn timestamp(created_at: i64) -> Option<i64> {
    /// The year 9999: beyond it lies only `infinity`.
    const END_OF_TIME: i64 = 253_402_300_800_000;
    let millis = created_at.div_euclid(1_000);
    (1..END_OF_TIME).contains(&millis).then_some(millis)
}

/// A number's text, without an allocation.
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

    fn shown(own: Option<&str>) -> Result<Vec<(String, Option<String>)>, BadHeaders> {
        let event = Event {
            id: -7,
            created_at: 5,
            event_type: b"Shipped",
            payload: None,
            key: None,
            topic: None,
            headers: own.map(str::as_bytes),
        };
        let headers = headers(OutboxId(Uuid::nil()), &event)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(headers
            .iter()
            .map(|h| (h.key.to_owned(), h.value.map(text)))
            .skip(1)
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
        for bad in ["[]", "\"x\"", "1", "null"] {
            assert_eq!(shown(Some(bad)), Err(BadHeaders));
        }
    }

    #[test]
    fn timestamps_are_milliseconds_and_impossible_ones_are_left_to_the_producer() {
        assert_eq!(timestamp(1_700_000_000_123_456), Some(1_700_000_000_123));
        assert_eq!(timestamp(i64::MAX), None);
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
