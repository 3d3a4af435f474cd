//! One row of an outbox, and the identity that it carries to Kafka.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// One row of an outbox, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The row's id.
    pub id: i64,
    /// When the row was created, in microseconds since the Unix epoch.
    pub created_at: i64,
    /// Type of the event.
    pub event_type: &'a [u8],
    /// Value of the record. `None`: a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Key of the record.
    pub key: Option<&'a [u8]>,
    /// Topic that the row asks for, or what its route follows from, as the relay reads it. `None`:
    /// the configured topic.
    pub topic: Option<&'a [u8]>,
    /// The row's own headers: the text of a JSON object.
    pub headers: Option<&'a [u8]>,
    /// The columns that only the configuration names, as [`Event::more`] reads them.
    pub(crate) more: &'a [u8],
}

/// A table of 16 processes many bytes a step: for each row this costs less than its SHA-256.
static CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// Takes the next column off the binary form of a record: four bytes of its type, four of its
/// length, which is negative for NULL, and its value.
pub(crate) fn take_column<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (_, after) = rest.split_at_checked(4)?;
    let (length, after) = after.split_first_chunk()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = after;
        return Some(None);
    };
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(Some(value))
}

/// Returns the columns of a record in its binary form, which begins with their number. `None`: it
/// is a text, which has no byte 0.
pub(crate) fn columns_of(record: &[u8]) -> Option<impl Iterator<Item = Option<&[u8]>>> {
    let [0, _, _, _, rest @ ..] = record else {
        return None;
    };
    let mut rest = rest;
    Some(std::iter::from_fn(move || take_column(&mut rest)))
}

impl<'a> Event<'a> {
    /// Returns the values of the columns that only the configuration names, in its order. `None`:
    /// NULL.
    pub(crate) fn more(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut rest = self.more;
        std::iter::from_fn(move || take_column(&mut rest))
    }

    /// Computes a checksum that distinguishes rows with the same id and time by their contents.
    ///
    /// It is written into receipts, which outlive a version: CRC-32 (ISO-HDLC) over the five
    /// fields, each preceded by its length in 8 bytes, little-endian, or by all ones for NULL, and
    /// over the further columns as they are sent.
    pub fn fingerprint(&self) -> u32 {
        let mut digest = CHECKSUM.digest();
        let fields = [
            Some(self.event_type),
            self.payload,
            self.key,
            self.topic,
            self.headers,
        ];
        for field in fields {
            let length = field.map_or(u64::MAX, |field| field.len() as u64);
            digest.update(&length.to_le_bytes());
            digest.update(field.unwrap_or_default());
        }
        digest.update(self.more);
        digest.finalize()
    }

    pub(crate) fn row(&self) -> RowId {
        RowId {
            id: self.id,
            created_at: self.created_at,
        }
    }

    pub(crate) fn receipt_row(&self) -> ReceiptRow {
        ReceiptRow {
            row: self.row(),
            fingerprint: self.fingerprint(),
        }
    }
}

/// Identity of a row. The id alone is not enough: a restored backup or a reset sequence gives an id
/// a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// Value of the column `id`.
    pub id: i64,
    /// Value of `created_at` when the row was fetched, in microseconds since the Unix epoch.
    pub created_at: i64,
}

/// A row as a receipt lists it: its identity, and a checksum of its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceiptRow {
    pub row: RowId,
    /// Result of [`Event::fingerprint`].
    pub fingerprint: u32,
}

/// Identity of an outbox. It stays with the data through dumps, restores and failovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutboxId(pub Uuid);

impl OutboxId {
    /// Derives the identity of an event: the same each time its row is sent, and never that of
    /// another row.
    ///
    /// It is a UUID of version 8 (RFC 9562, section 5.8) that consists of the first 128 bits of
    /// `SHA-256(outbox's UUID, id, created_at)`, with the two numbers as 8 bytes in network order.
    pub fn event_id(self, row: RowId) -> Uuid {
        let mut name = [0_u8; 32];
        name[..16].copy_from_slice(self.0.as_bytes());
        name[16..24].copy_from_slice(&row.id.to_be_bytes());
        name[24..].copy_from_slice(&row.created_at.to_be_bytes());
        let digest = Sha256::digest(name);
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_stable_and_tells_contents_apart() {
        let event = Event {
            id: 7,
            created_at: 5,
            event_type: b"Shipped",
            payload: Some(b"ab"),
            key: Some(b"c"),
            topic: None,
            headers: None,
            more: &[],
        };
        const FINGERPRINT: u32 = 0x8b2d2985;
        // Receipts in Kafka contain these: a change would make the relay send their rows again.
        assert_eq!(event.fingerprint(), FINGERPRINT);
        let others = [
            Event {
                payload: Some(b"a"),
                key: Some(b"bc"),
                ..event
            },
            Event {
                payload: None,
                ..event
            },
            Event { key: None, ..event },
            Event {
                key: None,
                topic: Some(b"c"),
                ..event
            },
            Event {
                event_type: b"shipped",
                ..event
            },
            Event {
                headers: Some(b""),
                ..event
            },
            Event {
                more: &[0, 0, 0, 25, 255, 255, 255, 255],
                ..event
            },
        ];
        for other in others {
            assert_ne!(other.fingerprint(), FINGERPRINT, "{other:?}");
        }
        let empty = Event {
            payload: Some(b""),
            ..event
        };
        let null = Event {
            payload: None,
            ..event
        };
        assert_ne!(empty.fingerprint(), null.fingerprint());
    }

    #[test]
    fn further_columns_are_read_from_the_form_of_a_record_and_a_cut_one_ends_them() {
        let more: &[u8] = &[
            0, 0, 0, 25, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 25, 255, 255, 255, 255, 0, 0, 0, 17, 0,
            0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 9, b'x',
        ];
        let event = Event {
            id: 1,
            created_at: 1,
            event_type: b"",
            payload: None,
            key: None,
            topic: None,
            headers: None,
            more,
        };
        let values: Vec<_> = event.more().collect();
        assert_eq!(values, [Some(&b"ab"[..]), None, Some(&b""[..])]);
    }

    #[test]
    fn an_event_id_is_stable_and_tells_rows_outboxes_and_times_apart() {
        let outbox = OutboxId(Uuid::from_u128(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100));
        const TIME: i64 = 1_700_000_000_000_000;
        let row = |id, created_at| RowId { id, created_at };
        let id = outbox.event_id(row(7, TIME));
        // Consumers remember these: a change of the derivation would make every event look new.
        assert_eq!(id.to_string(), "02ce82c9-af4c-8aa6-8522-ef459a26c33c");
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id, outbox.event_id(row(7, TIME)));
        assert_ne!(id, outbox.event_id(row(8, TIME)));
        assert_ne!(id, outbox.event_id(row(7, TIME + 1)));
        assert_ne!(id, OutboxId(Uuid::nil()).event_id(row(7, TIME)));
    }
}
