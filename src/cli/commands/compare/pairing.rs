//! How the records of two relays differ.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::tally::{RecordPlace, Tally};

/// A difference of two records, or a record without its pair.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Of the new relay, unless only the old one has it.
    #[serde(flatten)]
    pub(super) place: RecordPlace,
    /// The other record: that of the old relay, or the earlier one.
    pub(super) other: Option<RecordPlace>,
}

/// Pairs that differ in one header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct HeaderDifference {
    pub(super) only_old: u64,
    pub(super) only_new: u64,
    pub(super) other_value: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Pairing {
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) pairs: u64,
    /// Pairs by the old and the new topic.
    pub(super) topics: BTreeMap<String, u64>,
    /// Records of the old relay alone.
    pub(super) missing: Tally<Difference>,
    /// Records of the new relay alone.
    pub(super) extra: Tally<Difference>,
    /// Further records of an event that the new relay sent.
    pub(super) doubled: Tally<Difference>,
    /// The same of the old relay.
    pub(super) doubled_in_old: u64,
    pub(super) other_key: Tally<Difference>,
    pub(super) other_headers: Tally<Difference>,
    /// The headers that differ, by their names.
    pub(super) headers: BTreeMap<String, HeaderDifference>,
    /// Values that differ, also as JSON.
    pub(super) other_value: Tally<Difference>,
    /// Values of other bytes that are the same JSON.
    pub(super) same_json: Tally<Difference>,
    /// Events that come after one of their key that the old relay sent later.
    pub(super) out_of_order: Tally<Difference>,
    /// Events with a key in partitions of other numbers, in topics with as many partitions.
    pub(super) other_partition: Tally<Difference>,
    /// Records without a pair that are too young, or too old, to be judged.
    pub(super) at_the_edge: u64,
    /// Records without an id, of the old and of the new relay.
    pub(super) without_id: [u64; 2],
}
