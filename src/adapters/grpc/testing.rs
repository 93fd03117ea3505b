//! Events for the tests of this interface.

use bytes::Bytes;

use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

pub(super) fn stored(id: i64) -> StoredEvent {
    StoredEvent {
        position: Position::new(id).expect("tests give positions"),
        id: None,
        event_source: EventSource::from_stored("source".to_owned()),
        event_type: EventType::from_stored("type".to_owned()),
        subject: Subject::from_stored("subject".to_owned()),
        time: Timestamp::from_unix_micros(0).expect("a time"),
        recorded_time: None,
        data: Bytes::from_static(b"data"),
        context: None,
    }
}
