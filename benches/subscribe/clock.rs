//! One clock for who sends and who reads: both are threads of this process.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Bytes at the start of an event's data that tell when it was sent.
pub(crate) const STAMP_BYTES: usize = 8;

/// Nanoseconds since the clock was first asked.
pub(crate) fn now() -> u64 {
    nanoseconds(START.elapsed())
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a benchmark ends before its clock")
}

/// The stamp at the start of `data`.
pub(crate) fn stamp(data: &[u8]) -> Option<u64> {
    data.first_chunk::<STAMP_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))
}
