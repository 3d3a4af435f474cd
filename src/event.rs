//! One row of an outbox as everyone in the house sees it, and the identity that it carries to Kafka.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// One row of an outbox. Borrowed from the batch that it came with.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The row's id.
    pub id: i64,
    /// When the row was created, in microseconds since the Unix epoch.
    pub created_at: i64,
    /// What kind of event it is.
    pub event_type: &'a [u8],
    /// The record's value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The topic that the row asks for; `None`: the configured route.
    pub topic: Option<&'a [u8]>,
    /// The row's own headers: the text of a JSON object.
    pub headers: Option<&'a [u8]>,
}

/// The identity of an outbox: stays with its data through dumps, restores and failovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutboxId(pub Uuid);

impl OutboxId {
    /// The identity of an event: the same each time its row is sent, and never that of another row.
    ///
    /// A UUID of version 8 (RFC 9562, section 5.8) made of the first 128 bits of
    /// `SHA-256(outbox's UUID, id, created_at)`, the two numbers as 8 bytes in network order. The time is part of it because a restored
    /// backup or a reset sequence gives an id a second time.
    pub fn event_id(self, id: i64, created_at: i64) -> Uuid {
        let mut name = [0_u8; 32];
        name[..16].copy_from_slice(self.0.as_bytes());
        name[16..24].copy_from_slice(&id.to_be_bytes());
        name[24..].copy_from_slice(&created_at.to_be_bytes());
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
    fn an_event_id_is_stable_and_tells_rows_outboxes_and_times_apart() {
        let outbox = OutboxId(Uuid::from_u128(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100));
        let id = outbox.event_id(7, 1_700_000_000_000_000);
        // Consumers remember these: a change of the derivation would make every event look new.
        assert_eq!(id.to_string(), "02ce82c9-af4c-8aa6-8522-ef459a26c33c");
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id, outbox.event_id(7, 1_700_000_000_000_000));
        assert_ne!(id, outbox.event_id(8, 1_700_000_000_000_000));
        assert_ne!(id, outbox.event_id(7, 1_700_000_000_000_001));
        assert_ne!(id, OutboxId(Uuid::nil()).event_id(7, 1_700_000_000_000_000));
    }
}
