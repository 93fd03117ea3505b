//! Appending.

use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::attribute::EventId;
use events_db::domain::event::NewEvent;
use events_db::domain::position::Position;
use events_db::domain::timestamp::Timestamp;
use events_db::ports::event_repository::EventRepository;

use crate::reading::{append, event, events, positions, query, read_all, whole_log};
use crate::store::Store;

pub(crate) async fn batch_is_contiguous_and_in_order(store: &Store) {
    let repository = store.open().await;
    let names: Vec<String> = (0..150).map(|number| format!("subject-{number}")).collect();
    let mut given = Vec::new();
    // Sizes around those in which rows are inserted.
    for size in [1, 2, 7, 8, 9, 63, 64, 65, 73, 150] {
        let batch = names[..size].iter().map(|name| event(name)).collect();
        given.extend(append(&*repository, batch).await.into_iter().map(Position::get).zip(&names[..size]));
    }
    assert_eq!(given.iter().map(|(position, _)| *position).collect::<Vec<_>>(), (1..=442).collect::<Vec<_>>());
    let stored = whole_log(&*repository).await;
    let stored: Vec<_> = stored.iter().map(|event| (event.position.get(), event.subject.as_str())).collect();
    assert_eq!(stored, given.iter().map(|(position, name)| (*position, name.as_str())).collect::<Vec<_>>());
}

pub(crate) async fn empty_batch_takes_no_position(store: &Store) {
    let repository = store.open().await;
    assert_eq!(append(&*repository, Vec::new()).await, []);
    assert_eq!(repository.state().await.unwrap().head, None);
    assert_eq!(append(&*repository, events(&["a"])).await, [Position::FIRST]);
}

pub(crate) async fn racing_writers_are_read_once_in_order(store: &Store) {
    race(store, |_| None).await;
}

pub(crate) async fn racing_writers_with_ids_are_read_once_in_order(store: &Store) {
    race(store, |name| Some(EventId::new(name).unwrap())).await;
}

/// Writers over two processes, and a reader in a third one, which sees every event once and in order. The id of an event
/// is made of a name that no other one gets.
pub(crate) async fn race(store: &Store, id: fn(String) -> Option<EventId>) {
    const WRITERS: usize = 16;
    const APPENDS: usize = 15;
    let processes = [store.open().await, store.open().await];
    let total: i64 = (0..WRITERS * APPENDS).map(|number| i64::try_from(number % 3 + 1).unwrap()).sum();
    let reader = tokio::spawn(follow(store.open().await, total));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let repository = Arc::clone(&processes[writer % 2]);
            tokio::spawn(async move {
                let mut given = Vec::new();
                for number in writer * APPENDS..(writer + 1) * APPENDS {
                    let event =
                        |index| NewEvent { id: id(format!("{number}-{index}")), ..event(&format!("writer-{writer}")) };
                    let batch = (0..=number % 3).map(event).collect();
                    let batch = append(&*repository, batch).await;
                    assert!(batch.windows(2).all(|pair| pair[0].get() + 1 == pair[1].get()), "{batch:?}");
                    assert!(given.last() < batch.first(), "{batch:?} after {:?}", given.last());
                    assert!(repository.state().await.unwrap().head.as_ref() >= batch.last());
                    given.extend(batch);
                }
                given
            })
        })
        .collect();
    let mut given = Vec::new();
    for writer in writers {
        given.extend(writer.await.unwrap());
    }
    given.sort();
    assert_eq!(given.into_iter().map(Position::get).collect::<Vec<_>>(), (1..=total).collect::<Vec<_>>());
    assert_eq!(reader.await.unwrap(), (1..=total).collect::<Vec<_>>());
}

/// Reads up to each head it sees, until `total` is reached.
async fn follow(repository: Arc<dyn EventRepository>, total: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut after = None;
    while after != Some(total) {
        let head = repository.state().await.unwrap().head.map(Position::get);
        if let Some(through) = head.filter(|_| head > after) {
            seen.extend(positions(&read_all(&*repository, query(after, through)).await));
            after = head;
        }
        tokio::task::yield_now().await;
    }
    seen
}

pub(crate) async fn recorded_time_never_falls(store: &Store) {
    let processes = [store.open().await, store.open().await];
    let before = Timestamp::now();
    for number in 0..20 {
        append(&*processes[number % 2], events(&["a", "b"])).await;
    }
    let after = Timestamp::now();
    let recorded: Vec<Timestamp> =
        whole_log(&*processes[0]).await.iter().map(|event| event.recorded_time.unwrap()).collect();
    assert_eq!(recorded.len(), 40);
    assert!(recorded.is_sorted(), "{recorded:?}");
    assert!(recorded[0] >= before && recorded[39] <= after, "{before:?} {recorded:?} {after:?}");
}

pub(crate) async fn events_are_kept_as_given(store: &Store) {
    let repository = store.open().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let given: Vec<_> = [
        ("0001-01-01T00:00:00Z", Bytes::from(every_byte)),
        ("1969-12-31T23:59:59.999999Z", Bytes::new()),
        ("1970-01-01T00:00:00Z", Bytes::from_static(b"\0")),
        ("2024-03-31T02:30:00.000001Z", Bytes::from_static("ü'\\\"`%_?$1".as_bytes())),
        ("9999-12-31T23:59:59.999999Z", Bytes::from(vec![0xFF; 1024 * 1024])),
    ]
    .into_iter()
    .map(|(time, data)| {
        let mut event = event("user's \"1\" \\ ? $1 😀");
        event.time = Some(Timestamp::parse(time).unwrap());
        event.data = data;
        event
    })
    .collect();
    append(&*repository, given.clone()).await;
    let stored = whole_log(&*repository).await;
    assert_eq!(stored.len(), given.len());
    for (stored, given) in stored.into_iter().zip(given) {
        assert_eq!(Some(stored.time), given.time);
        assert!(stored.data == given.data, "{:?}: other data", given.time);
        assert_eq!(
            (stored.event_source, stored.event_type, stored.subject),
            (given.event_source, given.event_type, given.subject)
        );
    }
}

pub(crate) async fn missing_time_is_the_recorded_one(store: &Store) {
    let repository = store.open().await;
    let position = append(&*repository, events(&["a"])).await[0];
    let stored = repository.get(position).await.unwrap().unwrap();
    assert_eq!(Some(stored.time), stored.recorded_time);
}
