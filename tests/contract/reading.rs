//! What cases share: making events, and reading in pages with the promise of each page checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::append::AppendRequest;
use events_db::domain::attribute::{EventSource, EventType, Subject};
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::filter::{Filter, SubjectFilter};
use events_db::domain::position::Position;
use events_db::ports::event_repository::{EventRepository, LatestQuery, Order, ReadQuery};

/// An event of `subject` with some data.
pub(crate) fn event(subject: &str) -> NewEvent {
    NewEvent {
        id: None,
        event_source: EventSource::new("contract".to_owned()).unwrap(),
        event_type: event_type("tested"),
        subject: self::subject(subject),
        time: None,
        data: Bytes::from_static(b"some data"),
        context: None,
    }
}

/// As many events as `subjects`.
pub(crate) fn events(subjects: &[&str]) -> Vec<NewEvent> {
    subjects.iter().map(|subject| event(subject)).collect()
}

/// Appends `events` as one request, none of which may be a duplicate; returns where they are.
pub(crate) async fn append(repository: &dyn EventRepository, events: Vec<NewEvent>) -> Vec<Position> {
    let request = AppendRequest { events, preconditions: Vec::new() };
    let outcomes = repository.append(Arc::new([request])).await.unwrap().outcomes;
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

pub(crate) fn event_source(text: &str) -> EventSource {
    EventSource::new(text.to_owned()).unwrap()
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
        order: Order::Ascending,
        limit: 1_000,
        bytes_max: usize::MAX,
    }
}

/// Reads what `query` selects page by page, to the end.
pub(crate) async fn read_all(repository: &dyn EventRepository, query: ReadQuery) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    let mut rest = (query.after < Some(query.through)).then_some(query);
    while let Some(query) = rest {
        let page = repository.read(query.clone()).await.unwrap();
        assert!(Some(page.reached) > query.after && page.reached <= query.through, "{query:?}: {:?}", page.reached);
        assert!(page.events.len() <= query.limit, "{query:?}: {} events", page.events.len());
        let bytes: usize = page.events.iter().map(StoredEvent::size_bytes).sum();
        assert!(bytes <= query.bytes_max || page.events.len() == 1, "{query:?}: {bytes} bytes");
        for event in &page.events {
            let position = event.position;
            assert!(Some(position) > query.after && position <= query.through, "{query:?}: {position}");
            let (is_next, is_reached) = match query.order {
                Order::Ascending => (all.last().is_none_or(|last| last.position < position), position <= page.reached),
                Order::Descending => (all.last().is_none_or(|last| last.position > position), position >= page.reached),
            };
            assert!(is_next, "{query:?}: {position} after {:?}", all.last());
            assert!(is_reached, "{query:?}: {position} beyond {}", page.reached);
            assert!(query.filter.matches(event), "{query:?}: {event:?}");
            all.push(event.clone());
        }
        rest = query.rest(page.reached);
    }
    all
}

/// Reads what `query` selects from either end, which must be the same, and returns it ascending.
pub(crate) async fn read_both_ways(repository: &dyn EventRepository, query: ReadQuery) -> Vec<StoredEvent> {
    let ascending = read_all(repository, ReadQuery { order: Order::Ascending, ..query.clone() }).await;
    let descending = ReadQuery { order: Order::Descending, ..query };
    let mut events = read_all(repository, descending.clone()).await;
    events.reverse();
    assert_eq!(positions(&events), positions(&ascending), "{descending:?}");
    assert!(events == ascending, "{descending:?}");
    ascending
}

/// Reads what `query` selects page by page, to the end.
pub(crate) async fn latest_all(repository: &dyn EventRepository, query: LatestQuery) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    let mut rest = Some(query);
    while let Some(query) = rest {
        let page = repository.latest(query.clone()).await.unwrap();
        assert!(page.events.len() <= query.limit, "{query:?}: {} events", page.events.len());
        let bytes: usize = page.events.iter().map(StoredEvent::size_bytes).sum();
        assert!(bytes <= query.bytes_max || page.events.len() == 1, "{query:?}: {bytes} bytes");
        assert!(page.reached.is_none() || page.reached > query.after, "{query:?}: {:?}", page.reached);
        for event in &page.events {
            let last = all.last().map(|event| &event.subject).max(query.after.as_ref());
            assert!(Some(&event.subject) > last, "{query:?}: {:?} after {last:?}", event.subject);
            assert!(page.reached.as_ref().is_none_or(|reached| event.subject <= *reached), "{query:?}: {page:?}");
            assert!(query.filter.matches(event) && event.position <= query.through, "{query:?}: {event:?}");
            all.push(event.clone());
        }
        rest = page.reached.map(|reached| LatestQuery { after: Some(reached), ..query });
    }
    all
}

/// Asks for the last events of subjects in such pages: they must be those of `log`, the whole log.
pub(crate) async fn latest_agrees(
    repository: &dyn EventRepository,
    log: &[StoredEvent],
    filter: &Filter,
    after: Option<Subject>,
    through: i64,
    pages: &[(usize, usize)],
) {
    let wanted = log.iter().filter(|event| event.position.get() <= through && filter.matches(event));
    let wanted = wanted.filter(|event| Some(&event.subject) > after.as_ref());
    let wanted: BTreeMap<&Subject, &StoredEvent> = wanted.map(|event| (&event.subject, event)).collect();
    for &(limit, bytes_max) in pages {
        let query =
            LatestQuery { filter: filter.clone(), after: after.clone(), through: position(through), limit, bytes_max };
        let found = latest_all(repository, query.clone()).await;
        assert!(found.iter().eq(wanted.values().copied()), "{query:?}: {:?}", positions(&found));
    }
}

/// The whole log.
pub(crate) async fn whole_log(repository: &dyn EventRepository) -> Vec<StoredEvent> {
    match repository.state().await.unwrap().head {
        Some(head) => read_all(repository, query(None, head.get())).await,
        None => Vec::new(),
    }
}
