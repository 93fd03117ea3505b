//! Events as rows.

use sha2::{Digest, Sha256};

use crate::adapters::repository::sea_orm::context;
use crate::domain::append::EventKey;
use crate::domain::attribute::EventId;
use crate::domain::event::NewEvent;
use crate::domain::timestamp::Timestamp;

/// What an event is found again by: short, of one length, and the same for the same source and id.
pub(in crate::adapters::repository::sea_orm) type Key = [u8; 16];

/// A row to be inserted.
pub(super) struct Row<'a> {
    pub(super) event: &'a NewEvent,
    pub(super) key: Option<Key>,
    /// The column `context`.
    pub(super) context: Option<Vec<u8>>,
}

/// A row that has its place already.
pub(super) struct PlacedRow<'a> {
    pub(super) place: i64,
    /// When it was recorded, if anybody knows.
    pub(super) recorded: Option<Timestamp>,
    pub(super) row: Row<'a>,
}

impl Row<'_> {
    pub(super) fn id(&self) -> Option<&str> {
        self.event.id.as_ref().map(EventId::as_str)
    }

    /// Bytes of what the producer gave, as they are stored.
    pub(super) fn bytes(&self) -> usize {
        self.event.size_bytes() + self.context.as_ref().map_or(0, Vec::len)
    }
}

pub(super) fn rows<'a>(events: &[&'a NewEvent]) -> Vec<Row<'a>> {
    let row = |event: &&'a NewEvent| Row {
        event,
        key: event.key().map(key),
        context: event.context.as_deref().map(context::encode),
    };
    events.iter().map(row).collect()
}

/// The first 16 bytes of SHA-256 of the source, a zero byte and the id. No source has a zero byte.
pub(in crate::adapters::repository::sea_orm) fn key((event_source, id): EventKey<'_>) -> Key {
    let mut digest = Sha256::new();
    digest.update(event_source.as_str());
    digest.update([0]);
    digest.update(id.as_str());
    let mut key = Key::default();
    key.copy_from_slice(&digest.finalize()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attribute::EventSource;

    #[test]
    fn key_is_the_head_of_a_known_digest() {
        let (event_source, id) =
            (EventSource::from_stored("shop".to_owned()), EventId::from_stored("order-1".to_owned()));
        let expected = [0x9C, 0x85, 0xD1, 0x33, 0x4E, 0x23, 0xB0, 0xC8, 0xB9, 0x3B, 0x57, 0x98, 0xCD, 0xE3, 0xD5, 0xFF];
        assert_eq!(key((&event_source, &id)), expected);
    }
}
