//! Putting events back where they were.

use std::sync::Arc;

use events_db::domain::append::AppendRequest;
use events_db::domain::attribute::EventId;
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::position::Position;
use events_db::domain::timestamp::Timestamp;
use events_db::ports::event_repository::{ReadQuery, RestoreError};

use crate::contexts::every_context;
use crate::reading::{append, event, exact, position, positions, prefixes, query, read_both_ways, whole_log};
use crate::store::Store;

/// A day in microseconds, and one long ago.
const DAY: i64 = 86_400_000_000;
const LONG_AGO: i64 = 1_600_000_000_123_456;

/// The event at `place`, recorded so many days after a day long ago, or nobody knows when.
fn stored(place: i64, event: NewEvent, recorded_day: Option<i64>) -> StoredEvent {
    let time = |day: i64| Timestamp::from_unix_micros(LONG_AGO + day * DAY).unwrap();
    let recorded_time = recorded_day.map(time);
    let event = NewEvent { time: event.time.or(recorded_time).or(Some(time(0))), ..event };
    StoredEvent { recorded_time, ..event.stored(position(place), time(0)) }
}

fn with_id(id: &str) -> NewEvent {
    NewEvent { id: Some(EventId::new(id.to_owned()).unwrap()), ..event("named") }
}

pub(crate) async fn restored_events_are_as_they_were(store: &Store) {
    let repository = store.open().await;
    // What a Go service has left, then everything there is, with holes between.
    let mut log = vec![stored(3, event("old"), None), stored(4, event("old"), None)];
    let contexts = every_context().into_iter().zip(0..);
    log.extend(contexts.map(|(given, index)| stored(10 + index * 3, given, Some(index / 2))));
    let (first, second) = log.split_at(7);
    repository.restore(first.to_vec()).await.unwrap();
    repository.restore(second.to_vec()).await.unwrap();
    let last = log.last().unwrap().position;
    assert_eq!(whole_log(&*repository).await, log);
    assert_eq!(repository.state().await.unwrap().head, Some(last));
    let old = ReadQuery { filter: exact(&["old"]), ..query(None, last.get()) };
    assert_eq!(positions(&read_both_ways(&*repository, old).await), [3, 4]);
    drop(repository);
    let reopened = store.open().await;
    assert_eq!(append(&*reopened, vec![event("new")]).await, [position(last.get() + 1)]);
    let again = whole_log(&*reopened).await;
    assert_eq!(again[..log.len()], log);
    assert!(again.last().unwrap().recorded_time > log.last().unwrap().recorded_time);
}

pub(crate) async fn restored_id_is_known_again(store: &Store) {
    let repository = store.open().await;
    repository.restore(vec![stored(7, with_id("a"), Some(1)), stored(9, with_id("b"), Some(1))]).await.unwrap();
    let sent = NewEvent { time: Some(Timestamp::from_unix_micros(LONG_AGO + DAY).unwrap()), ..with_id("b") };
    let request = AppendRequest { events: vec![sent], preconditions: Vec::new() };
    let outcomes = repository.append(Arc::new([request])).await.unwrap().outcomes;
    let [Ok(appended)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert!(appended[0].is_duplicate && appended[0].position == position(9), "{appended:?}");
}

pub(crate) async fn what_does_not_fit_behind_the_log_is_refused_whole(store: &Store) {
    let repository = store.open().await;
    repository.restore(vec![stored(5, with_id("a"), Some(2))]).await.unwrap();
    let log = whole_log(&*repository).await;
    let passed = repository.restore(vec![stored(5, event("s"), Some(2)), stored(6, event("s"), Some(2))]).await;
    assert!(matches!(passed, Err(RestoreError::Passed { head }) if head == position(5)), "{passed:?}");
    let earlier = repository.restore(vec![stored(6, event("s"), None), stored(7, event("s"), Some(1))]).await;
    assert!(matches!(earlier, Err(RestoreError::Earlier)), "{earlier:?}");
    let duplicate = repository.restore(vec![stored(6, event("s"), Some(2)), stored(7, with_id("a"), Some(2))]).await;
    assert!(matches!(duplicate, Err(RestoreError::Duplicate(_))), "{duplicate:?}");
    assert_eq!(whole_log(&*repository).await, log);
    // None of this is in the way of others.
    repository.restore(vec![stored(8, event("s"), Some(2))]).await.unwrap();
    assert_eq!(append(&*repository, vec![event("s")]).await, [position(9)]);
}

pub(crate) async fn large_log_with_holes_is_read_by_every_way(store: &Store) {
    const EVENTS: i64 = 12_000;
    const CHUNK: usize = 5_000;
    let repository = store.open().await;
    let log: Vec<StoredEvent> = (0..EVENTS)
        .map(|number| {
            let subject = format!("{}/{}", ["a", "b", "c"][usize::try_from(number % 3).unwrap()], number % 100);
            let event = NewEvent { subject: crate::reading::subject(&subject), ..with_id(&number.to_string()) };
            stored(1 + number * 2 + number / 500, event, Some(number / 1_000))
        })
        .collect();
    for chunk in log.chunks(CHUNK) {
        repository.restore(chunk.to_vec()).await.unwrap();
    }
    let head = log.last().unwrap().position.get();
    let by = |filter| ReadQuery { filter, ..query(None, head) };
    for filter in [exact(&["a/0"]), exact(&["b/1", "c/2"]), prefixes(&["a/"]), prefixes(&["b/1", "c"])] {
        let wanted: Vec<i64> =
            positions(&log.iter().filter(|event| filter.matches(event)).cloned().collect::<Vec<_>>());
        assert_eq!(positions(&read_both_ways(&*repository, by(filter.clone())).await), wanted, "{filter:?}");
    }
    assert_eq!(repository.subjects(None, 1_000).await.unwrap().len(), 300);
    let known = AppendRequest {
        events: vec![NewEvent { time: Some(log[77].time), ..log[77].clone().into_new() }],
        preconditions: Vec::new(),
    };
    let outcomes = repository.append(Arc::new([known])).await.unwrap().outcomes;
    assert!(matches!(&outcomes[0], Ok(appended) if appended[0].position == log[77].position), "{outcomes:?}");
    assert_eq!(repository.state().await.unwrap().head, Position::new(head).ok());
}
