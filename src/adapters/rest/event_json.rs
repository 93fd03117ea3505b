//! Writes stored events as the JSON that clients read.
//!
//! Written by hand into one buffer: in a replay every event is encoded for its one reader, so the payload goes straight
//! from the event into the answer.

use crate::adapters::cloudevents::{write_base64, write_json_text, write_to};
use crate::domain::event::StoredEvent;
use crate::domain::service::History;

/// Bytes of names, punctuation, position and time around the attributes and the data.
const FRAME_BYTES: usize = 160;

/// About how many bytes [`write_event`] writes: exact but for escapes in the attributes.
pub(super) fn encoded_bytes(event: &StoredEvent) -> usize {
    event.size_bytes() + event.data.len() / 3 + FRAME_BYTES
}

/// Appends `event` to `out` as `{"id","source","type","subject","time","data"}`.
pub(super) fn write_event(out: &mut Vec<u8>, event: &StoredEvent) {
    out.extend_from_slice(b"{\"id\":");
    write_to(out, event.position.get());
    out.extend_from_slice(b",\"source\":");
    write_json_text(out, event.event_source.as_str());
    out.extend_from_slice(b",\"type\":");
    write_json_text(out, event.event_type.as_str());
    out.extend_from_slice(b",\"subject\":");
    write_json_text(out, event.subject.as_str());
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(event.time.to_rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"data\":\"");
    write_base64(out, &event.data);
    out.extend_from_slice(b"\"}");
}

/// One event as a document of its own.
pub(super) fn event(event: &StoredEvent) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_bytes(event));
    write_event(&mut out, event);
    out
}

/// A page of history.
pub(super) fn history(history: &History) -> Vec<u8> {
    let bytes: usize = history.events.iter().map(|event| encoded_bytes(event.stored())).sum();
    let mut out = Vec::with_capacity(bytes + FRAME_BYTES);
    out.extend_from_slice(b"{\"events\":[");
    for (index, event) in history.events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_event(&mut out, event.stored());
    }
    out.extend_from_slice(b"],\"has_more\":");
    write_to(&mut out, history.has_more);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapters::rest::testing::stored_event;
    use crate::domain::log::LogEvent;

    #[test]
    fn event_has_its_keys_in_order() {
        let text = String::from_utf8(event(&stored_event(7, "orders/1", b"\x00\xff"))).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"source":"shop","type":"order.placed","subject":"orders/1","time":"2024-05-01T12:00:00Z","data":"AP8="}"#
        );
    }

    #[test]
    fn what_json_cannot_hold_raw_is_escaped() {
        let awkward = "a\"b\\c\n\u{2028}ü";
        let value: serde_json::Value = serde_json::from_slice(&event(&stored_event(1, awkward, b""))).unwrap();
        assert_eq!(value["subject"], awkward);
        assert_eq!(value["data"], "");
        assert!(!event(&stored_event(1, awkward, b"")).contains(&b'\n'));
    }

    #[test]
    fn estimate_covers_plain_events() {
        for length in [0, 1, 2, 3, 1_000] {
            let stored = stored_event(i64::MAX, "s", &vec![0; length]);
            assert!(encoded_bytes(&stored) >= event(&stored).len(), "{length}");
        }
    }

    #[test]
    fn history_is_a_document_with_any_number_of_events() {
        for count in 0..3 {
            let event = |position| Arc::new(LogEvent::alone(stored_event(position, "s", b"x")));
            let events = (1..=count).map(event).collect();
            let value: serde_json::Value =
                serde_json::from_slice(&history(&History { events, has_more: count == 2 })).unwrap();
            assert_eq!(value["events"].as_array().unwrap().len(), usize::try_from(count).unwrap());
            assert_eq!(value["has_more"], count == 2);
        }
    }
}
