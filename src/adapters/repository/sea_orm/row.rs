//! Events as each engine's rows have them.

use bytes::Bytes;
use sea_orm::sqlx::mysql::MySqlRow;
use sea_orm::sqlx::postgres::{PgRow, PgValueFormat};
use sea_orm::sqlx::sqlite::SqliteRow;
use sea_orm::sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type, ValueRef};
use time::{Date, PrimitiveDateTime, Time};

use crate::adapters::repository::sea_orm::context;
use crate::domain::attribute::{EventId, EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// The columns of an event, in the order in which they are read.
pub(super) const EVENT_COLUMNS: &str = "id, source, type, subject, time, recorded_at, data, event_id, context";

impl FromRow<'_, SqliteRow> for StoredEvent {
    fn from_row(row: &SqliteRow) -> Result<Self, Error> {
        event(row, |index| row.try_get(index))
    }
}

impl FromRow<'_, MySqlRow> for StoredEvent {
    fn from_row(row: &MySqlRow) -> Result<Self, Error> {
        event(row, |index| {
            let time: Option<PrimitiveDateTime> = row.try_get(index)?;
            Ok(time.map(|time| unix_micros(time.date(), time.time())))
        })
    }
}

impl FromRow<'_, PgRow> for StoredEvent {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        event(row, |index| {
            let value = row.try_get_raw(index)?;
            match value.format() {
                _ if value.is_null() => Ok(None),
                PgValueFormat::Binary => {
                    let since_2000 = value.as_bytes().and_then(|bytes| Ok(i64::from_be_bytes(bytes.try_into()?)));
                    Ok(Some(since_2000.map_err(undecodable)?.saturating_add(UNIX_MICROS_OF_2000)))
                }
                PgValueFormat::Text => Err(undecodable("a time came as text")),
            }
        })
    }
}

/// Where `PostgreSQL` begins to count microseconds. Source: `PostgreSQL`, `POSTGRES_EPOCH_JDATE`.
const UNIX_MICROS_OF_2000: i64 = 946_684_800_000_000;

/// Reads a row of [`EVENT_COLUMNS`], whose types need no check as the columns are ours, in which `unix_micros` reads a time.
fn event<R>(row: &R, unix_micros: impl Fn(usize) -> Result<Option<i64>, Error>) -> Result<StoredEvent, Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database>,
    String: for<'r> Decode<'r, R::Database>,
    Vec<u8>: for<'r> Decode<'r, R::Database>,
{
    let time_at = |index| unix_micros(index)?.map(timestamp).transpose();
    Ok(StoredEvent {
        position: position(row.try_get_unchecked(0)?)?,
        id: row.try_get_unchecked::<Option<String>, _>(7)?.map(EventId::from_stored),
        event_source: EventSource::from_stored(row.try_get_unchecked(1)?),
        event_type: EventType::from_stored(row.try_get_unchecked(2)?),
        subject: Subject::from_stored(row.try_get_unchecked(3)?),
        time: time_at(4)?.ok_or_else(|| undecodable("an event has no time"))?,
        recorded_time: time_at(5)?,
        data: Bytes::from(row.try_get_unchecked::<Vec<u8>, _>(6)?),
        context: row.try_get_unchecked::<Option<Vec<u8>>, _>(8)?.as_deref().map(context::decode).transpose()?,
    })
}

impl<'r, R> FromRow<'r, R> for Position
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        position(row.try_get(0)?)
    }
}

/// A number of the store as a position.
pub(super) fn position(number: i64) -> Result<Position, Error> {
    Position::new(number).map_err(undecodable)
}

/// A number of the store as a time.
pub(super) fn timestamp(unix_micros: i64) -> Result<Timestamp, Error> {
    Timestamp::from_unix_micros(unix_micros).map_err(undecodable)
}

/// What the store holds is no event.
pub(super) fn undecodable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Decode(error.into())
}

/// Microseconds since 1970, of a time in UTC.
pub(super) fn unix_micros(date: Date, time: Time) -> i64 {
    const JULIAN_DAY_OF_1970: i32 = 2_440_588;
    let days = i64::from(date.to_julian_day() - JULIAN_DAY_OF_1970);
    let (hour, minute, second, micro) = time.as_hms_micro();
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    (days * 86_400 + seconds) * 1_000_000 + i64::from(micro)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_before_and_after_1970_are_counted() {
        for expected in [0, 1, -1, 1_700_000_000_123_456, -86_400_000_001, -62_135_596_800_000_000] {
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(expected) * 1_000).expect("a year we have");
            assert_eq!(unix_micros(time.date(), time.time()), expected);
        }
        assert_eq!(UNIX_MICROS_OF_2000, datetime!(2000-01-01 00:00 UTC).unix_timestamp() * 1_000_000);
    }
}
