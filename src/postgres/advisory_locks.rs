//! Classes of the advisory locks of an outbox. The second half of each lock's key is the table's
//! oid, wrapped to 32 bits.

/// Class of the leader's lock: the bytes of "door".
pub(crate) const LEADER_CLASS: i32 = 0x646f_6f72;

/// Class of the wake lock: the bytes of "bell". The trigger has the same number.
pub(crate) const BELL_CLASS: i32 = 0x6265_6c6c;

/// Class of the locks of `sql/strict_order.sql`, whose keys stand for keys of rows: the bytes of
/// "ordr".
pub(crate) const ORDER_CLASS: i32 = 0x6f72_6472;
