//! Events for the tests of this room.

use bytes::Bytes;

use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

pub(in crate::domain) fn position(value: i64) -> Position {
    Position::new(value).expect("tests give positions")
}

pub(in crate::domain) fn stored(at: i64, subject: &str) -> StoredEvent {
    StoredEvent {
        position: position(at),
        id: None,
        event_source: EventSource::from_stored("source".to_owned()),
        event_type: EventType::from_stored("type".to_owned()),
        subject: Subject::from_stored(subject.to_owned()),
        time: Timestamp::from_unix_micros(at).expect("a time"),
        recorded_time: Some(Timestamp::from_unix_micros(at).expect("a time")),
        data: Bytes::from_static(b"data"),
        context: None,
    }
}
