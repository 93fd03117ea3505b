//! What cases share: making events, and reading in pages with the promise of each page checked.

use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::append::AppendRequest;
use events_db::domain::attribute::{EventSource, EventType, Subject};
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::filter::{Filter, SubjectFilter};
use events_db::domain::position::Position;
use events_db::ports::event_repository::{EventRepository, ReadQuery};

/// An event of `subject` with some data.
pub(crate) fn event(subject: &str) -> NewEvent {
    NewEvent {
        id: None,
        event_source: EventSource::new("contract".to_owned()).unwrap(),
        event_type: event_type("tested"),
        subject: self::subject(subject),
        time: None,
        data: Bytes::from_static(b"some data"),
    }
}

/// As many events as `subjects`.
pub(crate) fn events(subjects: &[&str]) -> Vec<NewEvent> {
    subjects.iter().map(|subject| event(subject)).collect()
}

/// Appends `events` as one request, none of which may be a duplicate; returns where they are.
pub(crate) async fn append(repository: &dyn EventRepository, events: Vec<NewEvent>) -> Vec<Position> {
    let request = AppendRequest { events, preconditions: Vec::new() };
    let outcomes = repository.append(Arc::new([request])).await.unwrap();
    let [Ok(appended)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert!(appended.iter().all(|appended| !appended.is_duplicate), "{appended:?}");
    appended.iter().map(|appended| appended.position).collect()
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::new(text.to_owned()).unwrap()
}

pub(crate) fn event_type(text: &str) -> EventType {
    EventType::new(text.to_owned()).unwrap()
}

pub(crate) fn position(value: i64) -> Position {
    Position::new(value).unwrap()
}

/// The filter by exactly these subjects.
pub(crate) fn exact(subjects: &[&str]) -> Filter {
    Filter { subjects: SubjectFilter::exact(subjects.iter().map(|text| subject(text)).collect()), ..Filter::default() }
}

/// The filter by these prefixes.
pub(crate) fn prefixes(prefixes: &[&str]) -> Filter {
    Filter {
        subjects: SubjectFilter::prefixes(prefixes.iter().map(|text| subject(text)).collect()),
        ..Filter::default()
    }
}

pub(crate) fn positions(events: &[StoredEvent]) -> Vec<i64> {
    events.iter().map(|event| event.position.get()).collect()
}

/// A query for everything above `after`.
pub(crate) fn query(after: Option<i64>, through: i64) -> ReadQuery {
    ReadQuery {
        filter: Filter::default(),
        after: after.map(position),
        through: position(through),
        limit: 1_000,
        bytes_max: usize::MAX,
    }
}

/// Reads what `query` selects page by page, to the end.
pub(crate) async fn read_all(repository: &dyn EventRepository, mut query: ReadQuery) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    while query.after < Some(query.through) {
        let page = repository.read(query.clone()).await.unwrap();
        assert!(Some(page.through) > query.after && page.through <= query.through, "{query:?}: {:?}", page.through);
        assert!(page.events.len() <= query.limit, "{query:?}: {} events", page.events.len());
        let bytes: usize = page.events.iter().map(StoredEvent::size_bytes).sum();
        assert!(bytes <= query.bytes_max || page.events.len() == 1, "{query:?}: {bytes} bytes");
        for event in &page.events {
            let last = all.last().map(|event| event.position).max(query.after);
            assert!(Some(event.position) > last, "{query:?}: {} after {last:?}", event.position);
            assert!(event.position <= page.through, "{query:?}: {} above {}", event.position, page.through);
            assert!(query.filter.matches(event), "{query:?}: {event:?}");
            all.push(event.clone());
        }
        query.after = Some(page.through);
    }
    all
}

/// The whole log.
pub(crate) async fn whole_log(repository: &dyn EventRepository) -> Vec<StoredEvent> {
    match repository.head().await.unwrap() {
        Some(head) => read_all(repository, query(None, head.get())).await,
        None => Vec::new(),
    }
}
