//! Messages to values of the domain, and back.

use super::proto;
use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::own_bytes;
use crate::domain::attribute::{EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::domain::subscription::Start;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::Order;

/// Bytes of an event in a message beyond [`StoredEvent::size_bytes`]: keys and lengths of the event and its six fields
/// (at most 5 bytes of length each), the id (10) and the time (27), rounded up.
pub(super) const EVENT_OVERHEAD_BYTES_MAX: usize = 96;

/// Further subjects or types in one request: each costs a look into the index.
const REPEATS_MAX: usize = 100;

pub(super) fn new_event(request: proto::CreateEventRequest) -> Result<NewEvent, ApiError> {
    Ok(NewEvent {
        id: None,
        event_source: EventSource::new(request.source).map_err(in_field("source"))?,
        event_type: EventType::new(request.r#type).map_err(in_field("type"))?,
        subject: Subject::named(request.subject).map_err(in_field("subject"))?,
        time: None,
        data: own_bytes(request.data),
        context: None,
    })
}

pub(super) fn position(id: i64) -> Result<Position, ApiError> {
    Position::new(id).map_err(|_| ApiError::invalid("id", "must be at least 1"))
}

/// What the reading calls share.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) filter: Filter,
    pub(super) start: Start,
    pub(super) order: Order,
    pub(super) is_latest: bool,
    pub(super) after_subject: Option<Subject>,
    pub(super) min_position: Option<Position>,
    pub(super) limit: usize,
}

/// Reads what is asked for; `max` is how many events an answer may have.
pub(super) fn selection(request: proto::EventsFromSubjectRequest, max: usize) -> Result<Selection, ApiError> {
    let is_latest = request.latest_per_subject.unwrap_or(false);
    let order = if request.descending.unwrap_or(false) { Order::Descending } else { Order::Ascending };
    let start = start(&request)?;
    if is_latest && (start != Start::After(None) || order == Order::Descending) {
        return Err(ApiError::invalid("latest_per_subject", "cannot be combined with another place to begin"));
    }
    let after_subject = request.after_subject.clone().filter(|text| !text.is_empty());
    if after_subject.is_some() && !is_latest {
        return Err(ApiError::invalid("after_subject", "needs latest_per_subject"));
    }
    let limit = match request.limit.map(usize::try_from) {
        None => max,
        Some(Ok(limit)) if (1..=max).contains(&limit) => limit,
        Some(_) => return Err(ApiError::invalid("limit", format!("must be from 1 to {max}"))),
    };
    Ok(Selection {
        start,
        order,
        is_latest,
        after_subject: after_subject.map(Subject::new).transpose().map_err(in_field("after_subject"))?,
        min_position: min_position(request.min_position)?,
        limit,
        filter: filter(request)?,
    })
}

/// Refuses what a stream cannot do.
pub(super) fn check_stream(request: &proto::EventsFromSubjectRequest) -> Result<(), ApiError> {
    let fields = [
        ("descending", request.descending.unwrap_or(false)),
        ("after_subject", request.after_subject.as_ref().is_some_and(|text| !text.is_empty())),
        ("limit", request.limit.is_some()),
    ];
    refuse(&fields, "is not for streams")
}

/// Refuses what a deletion does not know: to overlook it would delete more than was asked for.
pub(super) fn check_deletion(request: &proto::EventsFromSubjectRequest) -> Result<(), ApiError> {
    let fields = [
        ("from_head", request.from_head.unwrap_or(false)),
        ("from_time", request.from_time.is_some()),
        ("descending", request.descending.unwrap_or(false)),
        ("latest_per_subject", request.latest_per_subject.unwrap_or(false)),
        ("after_subject", request.after_subject.is_some()),
        ("min_position", request.min_position.is_some()),
        ("limit", request.limit.is_some()),
    ];
    refuse(&fields, "is not for deletions")
}

fn refuse(fields: &[(&str, bool)], problem: &str) -> Result<(), ApiError> {
    let wrong = fields.iter().find(|(_, is_given)| *is_given);
    wrong.map_or(Ok(()), |(name, _)| Err(ApiError::invalid(name, problem)))
}

fn start(request: &proto::EventsFromSubjectRequest) -> Result<Start, ApiError> {
    let from_time = request.from_time.as_deref().filter(|text| !text.is_empty());
    match (from_id(request)?, request.from_head.unwrap_or(false), from_time) {
        (after, false, None) => Ok(Start::After(after)),
        (None, true, None) => Ok(Start::Head),
        (None, false, Some(text)) => {
            Timestamp::parse(text).map(Start::Time).map_err(|problem| ApiError::invalid("from_time", problem))
        }
        (_, _, _) => Err(ApiError::invalid("from_id", "cannot be combined with from_head or from_time")),
    }
}

/// A place in the log: `None` is before the first event.
pub(super) fn from_id(request: &proto::EventsFromSubjectRequest) -> Result<Option<Position>, ApiError> {
    place("from_id", request.from_id.unwrap_or(0))
}

pub(super) fn min_position(value: Option<i64>) -> Result<Option<Position>, ApiError> {
    place("min_position", value.unwrap_or(0))
}

/// A place in the log: 0 is none.
pub(super) fn place(name: &str, value: i64) -> Result<Option<Position>, ApiError> {
    match value {
        0 => Ok(None),
        other => Position::new(other).map(Some).map_err(|_| ApiError::invalid(name, "must not be negative")),
    }
}

/// Refuses a list that would cost too much.
pub(super) fn check_repeats(name: &str, texts: &[String]) -> Result<(), ApiError> {
    if texts.len() > REPEATS_MAX {
        return Err(ApiError::invalid(name, format!("must not have more than {REPEATS_MAX} elements")));
    }
    Ok(())
}

/// Which events. An empty type is none, as published clients send it.
pub(super) fn filter(request: proto::EventsFromSubjectRequest) -> Result<Filter, ApiError> {
    for (name, more) in [("more_subjects", &request.more_subjects), ("more_types", &request.more_types)] {
        check_repeats(name, more)?;
    }
    let is_recursive = request.recursive.unwrap_or(false);
    let take = if is_recursive { Subject::new } else { Subject::named };
    let mut subjects = vec![take(request.subject).map_err(in_field("subject"))?];
    for subject in request.more_subjects {
        subjects.push(take(subject).map_err(in_field("more_subjects"))?);
    }
    let subjects = if is_recursive { SubjectFilter::prefixes(subjects) } else { SubjectFilter::exact(subjects) };
    let mut types = Vec::new();
    for event_type in request.r#type.into_iter().filter(|text| !text.is_empty()) {
        types.push(EventType::new(event_type).map_err(in_field("type"))?);
    }
    for event_type in request.more_types {
        types.push(EventType::new(event_type).map_err(in_field("more_types"))?);
    }
    Ok(Filter::new(subjects, types))
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

pub(super) fn in_field(name: &str) -> impl Fn(InvalidAttribute) -> ApiError {
    move |problem| ApiError::attribute(name, problem)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::adapters::api_error::ApiErrorKind;
    use crate::adapters::grpc::reply::EncodedReply;

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
            ..Default::default()
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
    fn event_lets_go_of_the_buffer_that_it_came_in() {
        let buffer = Bytes::from(vec![b'x'; 8_192]);
        let data = buffer.slice(100..200);
        let event = new_event(proto::CreateEventRequest { data: data.clone(), ..create_request() }).unwrap();
        assert_eq!((event.data == data, buffer.as_ptr_range().contains(&event.data.as_ptr())), (true, false));
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
            context: None,
        };
        let size_bytes = stored.size_bytes();
        let event = event(stored);
        assert_eq!(event.time, "2024-05-01T12:00:00.123456Z");
        let reply = EncodedReply { events: vec![event.encode_to_vec().into()], has_more: true };
        assert!(reply.encoded_len() - size_bytes <= EVENT_OVERHEAD_BYTES_MAX);
    }
}
