//! Many rows of SQLite in one.
//!
//! Each row that crosses from the driver's thread to ours costs a dozen allocations and often a wake-up, more than SQLite
//! takes to find it. So SQLite writes the rows of a page into one value, which is taken apart here.

use bytes::Bytes;
use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::context;
use crate::adapters::repository::sea_orm::row::{position, timestamp, undecodable};
use crate::domain::attribute::{EventId, EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;

/// Data that is too large to be written into a value with others: what SQLite and this process copy for nothing when
/// the page ends before it, and in all some megabytes for a page.
const LARGE_BYTES: usize = 8 * 1024;

/// Stands in for a row with large data.
const LARGE: u8 = b'!';

/// What a row can be packed as: numbers and lengths, then the bytes.
pub(super) trait Packed: Sized {
    /// SQL that packs a row, whose position is called `id`.
    fn packing(id: &str) -> String;

    /// Takes one off the front.
    fn unpack(packed: &mut Cursor<'_>) -> Result<Self, Error>;
}

/// What is left of a packed value.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

/// SQL that selects how many rows there are behind `from`, and all of them as one value.
pub(super) fn in_one_row<T: Packed>(id: &str, from: &str) -> String {
    let packing = T::packing(id);
    format!("SELECT count(*), CAST(group_concat(packed, '') AS BLOB) FROM (SELECT {packing} AS packed {from})")
}

impl<'a> Cursor<'a> {
    pub(super) fn new(packed: &'a [u8]) -> Self {
        Self { rest: packed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the next row is one with large data, which is not here.
    pub(super) fn is_at_large(&self) -> bool {
        self.rest.first() == Some(&LARGE)
    }

    /// The next number; `None` where there is none.
    fn number(&mut self) -> Result<Option<i64>, Error> {
        let end = self.rest.iter().position(|byte| *byte == b',').ok_or_else(torn)?;
        let (digits, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(None);
        }
        let (is_negative, digits) = digits.strip_prefix(b"-").map_or((false, digits), |digits| (true, digits));
        let mut number = 0_i64;
        for digit in digits {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(torn)?;
            number = number.checked_mul(10).and_then(|number| number.checked_sub(i64::from(digit))).ok_or_else(torn)?;
        }
        if is_negative { Ok(Some(number)) } else { number.checked_neg().map(Some).ok_or_else(torn) }
    }

    fn some_number(&mut self) -> Result<i64, Error> {
        self.number()?.ok_or_else(torn)
    }

    fn length(&mut self) -> Result<usize, Error> {
        usize::try_from(self.some_number()?).map_err(undecodable)
    }

    /// The length of what may not be there.
    fn some_length(&mut self) -> Result<Option<usize>, Error> {
        self.number()?.map(|length| usize::try_from(length).map_err(undecodable)).transpose()
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(torn)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        std::str::from_utf8(self.bytes(length)?).map(str::to_owned).map_err(undecodable)
    }
}

fn torn() -> Error {
    undecodable("rows were not packed as they should be")
}

impl Packed for StoredEvent {
    fn packing(id: &str) -> String {
        let large = char::from(LARGE);
        format!(
            "CASE WHEN octet_length(data) + ifnull(octet_length(context), 0) > {LARGE_BYTES} THEN '{large}' ELSE \
             {id} || ',' || time || ',' || ifnull(recorded_at, '') || ',' || octet_length(source) || ',' || \
             octet_length(type) || ',' || octet_length(subject) || ',' || octet_length(data) || ',' || \
             ifnull(octet_length(event_id), '') || ',' || ifnull(octet_length(context), '') || ',' || source || type || \
             subject || ifnull(event_id, '') || ifnull(context, '') || data END"
        )
    }

    fn unpack(packed: &mut Cursor<'_>) -> Result<Self, Error> {
        let place = position(packed.some_number()?)?;
        let time = timestamp(packed.some_number()?)?;
        let recorded_time = packed.number()?.map(timestamp).transpose()?;
        let [event_source, event_type, subject, data] =
            [packed.length()?, packed.length()?, packed.length()?, packed.length()?];
        let [id, context] = [packed.some_length()?, packed.some_length()?];
        Ok(Self {
            position: place,
            time,
            recorded_time,
            event_source: EventSource::from_stored(packed.text(event_source)?),
            event_type: EventType::from_stored(packed.text(event_type)?),
            subject: Subject::from_stored(packed.text(subject)?),
            id: id.map(|length| packed.text(length)).transpose()?.map(EventId::from_stored),
            context: context.map(|length| context::decode(packed.bytes(length)?)).transpose()?,
            data: Bytes::copy_from_slice(packed.bytes(data)?),
        })
    }
}

impl Packed for Position {
    fn packing(id: &str) -> String {
        format!("{id} || ','")
    }

    fn unpack(packed: &mut Cursor<'_>) -> Result<Self, Error> {
        position(packed.some_number()?)
    }
}
