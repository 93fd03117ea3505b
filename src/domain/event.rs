//! An event before and after it is stored.

use bytes::Bytes;

use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// An event that a producer hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The context in which the event happened.
    pub event_source: EventSource,
    /// What kind of event it is.
    pub event_type: EventType,
    /// The path the event belongs to.
    pub subject: Subject,
    /// When it happened; the recorded time when the producer does not say.
    pub time: Option<Timestamp>,
    /// The payload, opaque to the store.
    pub data: Bytes,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log.
    pub position: Position,
    /// The context in which the event happened.
    pub event_source: EventSource,
    /// What kind of event it is.
    pub event_type: EventType,
    /// The path the event belongs to.
    pub subject: Subject,
    /// When it happened.
    pub time: Timestamp,
    /// When the log recorded it, never earlier than that of a lower position; unknown for events of a taken-over
    /// database.
    pub recorded_time: Option<Timestamp>,
    /// The payload, opaque to the store.
    pub data: Bytes,
}

impl NewEvent {
    /// Bytes that count against the limit of an event: the payload.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.data.len()
    }
}

impl StoredEvent {
    /// Bytes that the event takes on its way to a reader, near enough to bound a page.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len()
            + self.event_source.as_str().len()
            + self.event_type.as_str().len()
            + self.subject.as_str().len()
    }
}
