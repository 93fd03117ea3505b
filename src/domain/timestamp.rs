//! A point in time as the log keeps it: UTC, whole microseconds.

use std::time::SystemTime;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A point in time, in whole microseconds since 1970-01-01T00:00:00Z, from year 1 to year 9999 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text or number that is no point in time we can keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time between the years 0001 and 9999 in UTC, such as 2024-05-01T12:00:00Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The current time of the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    /// Takes a number of microseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] when it is outside of the years 1 to 9999.
    pub fn from_unix_micros(micros: i64) -> Result<Self, InvalidTimestamp> {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000);
        match time {
            Ok(time) if (1..=9999).contains(&time.year()) => Ok(Self(micros)),
            Ok(_) | Err(_) => Err(InvalidTimestamp),
        }
    }

    /// Reads an RFC 3339 time; digits finer than a microsecond are dropped.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] when it is not one, or outside of the years 1 to 9999 in UTC.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        // The library takes anything between date and time.
        if !matches!(text.as_bytes().get("2026-01-01".len()), Some(b'T' | b't')) {
            return Err(InvalidTimestamp);
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let micros = time.unix_timestamp_nanos().div_euclid(1_000);
        Self::from_unix_micros(i64::try_from(micros).map_err(|_| InvalidTimestamp)?)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// The time as RFC 3339 in UTC, with as many fractional digits as it needs.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_offset_date_time().format(&Rfc3339).expect("years 1 to 9999 can be written as RFC 3339")
    }

    fn to_offset_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .expect("the constructors keep within the years 1 to 9999")
            .to_offset(UtcOffset::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_in_utc_with_microseconds() {
        for (text, kept) in [
            ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
            ("2024-05-01t12:00:00z", "2024-05-01T12:00:00Z"),
            ("2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00Z"),
            ("2024-05-01T12:00:00.1234567Z", "2024-05-01T12:00:00.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(Timestamp::to_rfc3339).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2024-05-01",
            "2024-05-01T12:00:00",
            "2024-05-01 12:00:00Z",
            "2024-05-01X12:00:00Z",
            "2024-05-01\u{0}12:00:00Z",
            "2024-13-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTimestamp), "{text}");
        }
    }
}
