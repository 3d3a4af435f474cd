//! Values in the binary format of PostgreSQL.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{Encode, Postgres, Row, Type, ValueRef};

use super::error::Error;
use crate::event::RowId;

/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// The time `-infinity`, as [`time`] reads it.
pub(crate) const MINUS_INFINITY: i64 = i64::MIN + EPOCH_2000;

pub(crate) fn bytes(row: &PgRow, index: usize) -> super::error::Result<Option<&[u8]>> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(None);
    }
    if value.format() != PgValueFormat::Binary {
        return Err(Error::Lost(
            "the server answered in text where binary was asked".into(),
        ));
    }
    value
        .as_bytes()
        .map(Some)
        .map_err(|error| Error::Lost(error.to_string()))
}

pub(crate) fn int(row: &PgRow, index: usize) -> super::error::Result<i64> {
    bytes(row, index)?
        .and_then(|bytes| bytes.try_into().ok())
        .map(i64::from_be_bytes)
        .ok_or_else(|| Error::Lost(format!("column {index} is not 8 bytes")))
}

/// Reads `id` and `created_at` from the first two columns.
pub(crate) fn row_id(row: &PgRow) -> super::error::Result<RowId> {
    let (id, created_at) = (int(row, 0)?, time(row, 1)?);
    Ok(RowId { id, created_at })
}

/// Reads microseconds since the Unix epoch. An infinite time becomes the largest or the smallest
/// number.
pub(crate) fn time(row: &PgRow, index: usize) -> super::error::Result<i64> {
    let since_2000 = int(row, index)?;
    // The last 30 of PostgreSQL's 294,000 years wrap around: no two times may become one.
    Ok(match since_2000 {
        i64::MAX => i64::MAX,
        finite => finite.wrapping_add(EPOCH_2000),
    })
}

/// A timestamptz, as parameters have it: microseconds since the Unix epoch.
///
/// PostgreSQL takes it as it is, to the microsecond. The largest and the smallest number are the
/// infinite times, as [`time`] reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let since_2000 = match self.0 {
            i64::MAX => i64::MAX,
            unix => unix.wrapping_sub(EPOCH_2000),
        };
        Encode::<Postgres>::encode(since_2000, buffer)
    }
}
