//! Messages to values of the domain, and back.

use super::proto;
use crate::adapters::api_error::ApiError;
use crate::domain::attribute::{EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;

/// Bytes of an event in a message beyond [`StoredEvent::size_bytes`]: keys and lengths of the event and its six fields
/// (at most 5 bytes of length each), the id (10) and the time (27), rounded up.
pub(super) const EVENT_OVERHEAD_BYTES_MAX: usize = 96;

pub(super) fn new_event(request: proto::CreateEventRequest) -> Result<NewEvent, ApiError> {
    Ok(NewEvent {
        id: None,
        event_source: EventSource::new(request.source).map_err(in_field("source"))?,
        event_type: EventType::new(request.r#type).map_err(in_field("type"))?,
        subject: Subject::named(request.subject).map_err(in_field("subject"))?,
        time: None,
        data: request.data,
    })
}

pub(super) fn position(id: i64) -> Result<Position, ApiError> {
    Position::new(id).map_err(|_| ApiError::invalid("id", "must be at least 1"))
}

/// Where to begin: `None` is before the first event.
pub(super) fn from_id(request: &proto::EventsFromSubjectRequest) -> Result<Option<Position>, ApiError> {
    match request.from_id {
        None | Some(0) => Ok(None),
        Some(id) => Position::new(id).map(Some).map_err(|_| ApiError::invalid("from_id", "must not be negative")),
    }
}

/// Which events. An empty type is none, as published clients send it.
pub(super) fn filter(request: proto::EventsFromSubjectRequest) -> Result<Filter, ApiError> {
    let subjects = if request.recursive.unwrap_or(false) {
        SubjectFilter::prefixes(vec![Subject::new(request.subject).map_err(in_field("subject"))?])
    } else {
        SubjectFilter::exact(vec![Subject::named(request.subject).map_err(in_field("subject"))?])
    };
    let event_type = request.r#type.filter(|text| !text.is_empty());
    let types = event_type.map(EventType::new).transpose().map_err(in_field("type"))?.into_iter().collect();
    Ok(Filter { subjects, types })
}

pub(super) fn event(event: StoredEvent) -> proto::Event {
    proto::Event {
        id: event.position.get(),
        source: event.event_source.into_string(),
        r#type: event.event_type.into_string(),
        subject: event.subject.into_string(),
        time: event.time.to_rfc3339(),
        data: event.data,
    }
}

fn in_field(name: &'static str) -> impl Fn(InvalidAttribute) -> ApiError {
    move |problem| ApiError::attribute(name, problem)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::adapters::api_error::ApiErrorKind;
    use crate::domain::timestamp::Timestamp;

    fn create_request() -> proto::CreateEventRequest {
        proto::CreateEventRequest {
            source: "source".to_owned(),
            r#type: "type".to_owned(),
            subject: "subject".to_owned(),
            data: Bytes::new(),
        }
    }

    fn select(subject: &str, event_type: Option<&str>, recursive: Option<bool>) -> Result<Filter, ApiError> {
        filter(proto::EventsFromSubjectRequest {
            subject: subject.to_owned(),
            from_id: None,
            r#type: event_type.map(ToOwned::to_owned),
            recursive,
        })
    }

    fn subject(text: &str) -> Vec<Subject> {
        vec![Subject::from_stored(text.to_owned())]
    }

    #[test]
    fn event_without_data_is_legal() {
        let event = new_event(create_request()).unwrap();
        assert_eq!((event.subject.as_str(), event.data.len(), event.time), ("subject", 0, None));
    }

    #[test]
    fn wrong_attributes_are_named() {
        for (request, detail) in [
            (proto::CreateEventRequest { source: String::new(), ..create_request() }, "source must not be empty"),
            (proto::CreateEventRequest { r#type: String::new(), ..create_request() }, "type must not be empty"),
            (proto::CreateEventRequest { subject: String::new(), ..create_request() }, "subject must not be empty"),
            (
                proto::CreateEventRequest { subject: "x".repeat(256), ..create_request() },
                "subject must have at most 255 characters",
            ),
            (
                proto::CreateEventRequest { r#type: "a\nb".to_owned(), ..create_request() },
                "type must not contain control characters or Unicode noncharacters",
            ),
        ] {
            let error = new_event(request).unwrap_err();
            assert_eq!((error.kind, error.detail.as_str()), (ApiErrorKind::InvalidArgument, detail));
        }
    }

    #[test]
    fn place_to_begin_is_optional_and_not_negative() {
        let place = |id| from_id(&proto::EventsFromSubjectRequest { from_id: id, ..Default::default() });
        assert_eq!(place(None).unwrap(), None);
        assert_eq!(place(Some(0)).unwrap(), None);
        assert_eq!(place(Some(1)).unwrap(), Some(Position::FIRST));
        assert_eq!(place(Some(-1)).unwrap_err().detail, "from_id must not be negative");
        assert_eq!(position(0).unwrap_err().detail, "id must be at least 1");
    }

    #[test]
    fn filter_takes_subject_as_whole_or_as_prefix() {
        assert_eq!(select("a", None, None).unwrap().subjects, SubjectFilter::Exact(subject("a")));
        assert_eq!(select("a", None, Some(false)).unwrap().subjects, SubjectFilter::Exact(subject("a")));
        assert_eq!(select("a", None, Some(true)).unwrap().subjects, SubjectFilter::Prefix(subject("a")));
        assert_eq!(select("", None, Some(true)).unwrap().subjects, SubjectFilter::All);
        assert_eq!(select("", None, None).unwrap_err().detail, "subject must not be empty");
    }

    #[test]
    fn empty_type_selects_every_type() {
        assert!(select("a", Some(""), None).unwrap().types.is_empty());
        assert_eq!(select("a", Some("t"), None).unwrap().types, [EventType::from_stored("t".to_owned())]);
        assert!(select("a", Some("t\0"), None).is_err());
    }

    #[test]
    fn overhead_covers_the_largest_event() {
        let stored = StoredEvent {
            position: Position::new(i64::MAX).unwrap(),
            id: None,
            event_source: EventSource::from_stored("s".repeat(255)),
            event_type: EventType::from_stored("t".repeat(255)),
            subject: Subject::from_stored("u".repeat(255)),
            time: Timestamp::parse("2024-05-01T12:00:00.123456Z").unwrap(),
            recorded_time: None,
            data: Bytes::from(vec![0; 1 << 20]),
        };
        let size_bytes = stored.size_bytes();
        let reply = proto::EventsFromSubjectReply { events: vec![event(stored)], has_more: true };
        assert!(reply.encoded_len() - size_bytes <= EVENT_OVERHEAD_BYTES_MAX);
        assert_eq!(reply.events[0].time, "2024-05-01T12:00:00.123456Z");
    }
}
