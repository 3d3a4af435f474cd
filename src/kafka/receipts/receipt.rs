//! The format of a receipt: the rows of its transaction, and those of earlier ones that were not
//! yet known to be deleted.
//!
//! A receipt travels in the transaction whose rows it lists, so it exists if and only if they do.
//! The next leader deletes the rows that it lists, and sends the rest.

use crate::event::{ReceiptRow, RowId};

/// The first byte. Another value is another format.
const FORM: u8 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Number of the transaction within its outbox.
    pub number: u64,
    /// Number of deletes that the database was known to have made when this was sent. A database
    /// with fewer was restored to an earlier state.
    pub deletes: u64,
    pub topics: Vec<String>,
    pub rows: Vec<ReceiptRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a receipt that this version of Doorbell can read")]
pub(crate) struct UnreadableReceipt;

impl Receipt {
    /// Encodes the receipt and sorts its rows. Ids and times are written as differences from the
    /// row before, in as few bytes as they need.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.rows.sort_unstable();
        let mut bytes = Vec::with_capacity(32 + self.rows.len() * 8);
        bytes.push(FORM);
        put(&mut bytes, self.number);
        put(&mut bytes, self.deletes);
        put(&mut bytes, self.topics.len() as u64);
        for topic in &self.topics {
            put(&mut bytes, topic.len() as u64);
            bytes.extend_from_slice(topic.as_bytes());
        }
        put(&mut bytes, self.rows.len() as u64);
        let (mut id, mut created_at) = (0_i64, 0_i64);
        for ReceiptRow { row, fingerprint } in &self.rows {
            put(&mut bytes, zigzag(row.id.wrapping_sub(id)));
            put(&mut bytes, zigzag(row.created_at.wrapping_sub(created_at)));
            bytes.extend_from_slice(&fingerprint.to_le_bytes());
            (id, created_at) = (row.id, row.created_at);
        }
        bytes
    }

    /// Decodes what `encode` wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, UnreadableReceipt> {
        let mut rest = bytes;
        if take(&mut rest, 1)? != [FORM] {
            return Err(UnreadableReceipt);
        }
        let (number, deletes) = (get(&mut rest)?, get(&mut rest)?);
        let mut topics = Vec::new();
        for _ in 0..get(&mut rest)? {
            let length = usize::try_from(get(&mut rest)?).map_err(|_| UnreadableReceipt)?;
            let topic =
                std::str::from_utf8(take(&mut rest, length)?).map_err(|_| UnreadableReceipt)?;
            topics.push(topic.to_owned());
        }
        let mut rows = Vec::new();
        let (mut id, mut created_at) = (0_i64, 0_i64);
        for _ in 0..get(&mut rest)? {
            id = id.wrapping_add(unzigzag(get(&mut rest)?));
            created_at = created_at.wrapping_add(unzigzag(get(&mut rest)?));
            let fingerprint = take(&mut rest, 4)?
                .try_into()
                .map_err(|_| UnreadableReceipt)?;
            rows.push(ReceiptRow {
                row: RowId { id, created_at },
                fingerprint: u32::from_le_bytes(fingerprint),
            });
        }
        match rest {
            [] => Ok(Self {
                number,
                deletes,
                topics,
                rows,
            }),
            _ => Err(UnreadableReceipt),
        }
    }
}

/// Writes seven bits a byte, the lowest first. The highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn get(rest: &mut &[u8]) -> Result<u64, UnreadableReceipt> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest, 1)? else {
            return Err(UnreadableReceipt);
        };
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(UnreadableReceipt);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(UnreadableReceipt)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], UnreadableReceipt> {
    let (taken, left) = rest.split_at_checked(length).ok_or(UnreadableReceipt)?;
    *rest = left;
    Ok(taken)
}

/// Maps small numbers of either sign to small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> impl Strategy<Value = Receipt> {
        let id = prop_oneof![1_i64..100_000, any::<i64>()];
        let time = prop_oneof![0_i64..10_000_000, any::<i64>()];
        let row = (id, time, any::<u32>()).prop_map(|(id, created_at, fingerprint)| ReceiptRow {
            row: RowId { id, created_at },
            fingerprint,
        });
        let topics = vec("[a-z.]{1,12}", 0..4);
        (any::<u64>(), any::<u64>(), topics, vec(row, 0..60)).prop_map(
            |(number, deletes, topics, rows)| Receipt {
                number,
                deletes,
                topics,
                rows,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut receipt in receipt()) {
            let bytes = receipt.encode();
            prop_assert!(receipt.rows.is_sorted());
            prop_assert_eq!(Receipt::decode(&bytes), Ok(receipt));
        }

        #[test]
        fn a_part_of_it_is_none(mut receipt in receipt(), cut in any::<prop::sample::Index>()) {
            let bytes = receipt.encode();
            let part = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(Receipt::decode(part), Err(UnreadableReceipt));
            prop_assert_eq!(Receipt::decode(&[&bytes[..], &[0]].concat()), Err(UnreadableReceipt));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in vec(any::<u8>(), 0..200)) {
            // Whatever the bytes are, it neither panics nor allocates for rows that are not there.
            Receipt::decode(&bytes).ok();
            Receipt::decode(&[&[FORM][..], &bytes].concat()).ok();
        }
    }

    #[test]
    fn rows_of_a_usual_outbox_take_few_bytes() {
        // A hundred rows a transaction, ten milliseconds apart.
        let rows = (0..20_000).map(|n| ReceiptRow {
            row: RowId {
                id: 1_000_000 + n,
                created_at: 1_700_000_000_000_000 + n / 100 * 10_000,
            },
            fingerprint: n as u32,
        });
        let mut receipt = Receipt {
            rows: rows.collect(),
            ..Receipt::default()
        };
        assert!(receipt.encode().len() < 20_000 * 7);
    }
}
