//! Deleting.

use std::sync::Arc;

use events_db::domain::filter::Filter;
use events_db::domain::position::Position;
use events_db::ports::event_repository::LatestQuery;

use crate::reading::{append, event, event_type, events, exact, latest_all, position, positions, prefixes, whole_log};
use crate::store::Store;

pub(crate) async fn newest_position_is_not_reused_after_delete(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "b", "c"])).await;
    assert_eq!(repository.delete(Filter::default(), position(2), position(3)).await.unwrap(), 2);
    drop(repository);
    let repository = store.open().await;
    assert_eq!(repository.state().await.unwrap().head, Some(position(3)));
    assert_eq!(append(&*repository, events(&["d"])).await, [position(4)]);
    assert_eq!(positions(&whole_log(&*repository).await), [1, 4]);
    repository.delete(Filter::default(), position(1), position(4)).await.unwrap();
    assert_eq!(append(&*repository, events(&["e", "f"])).await, [position(5), position(6)]);
}

pub(crate) async fn deletes_what_matches_within_its_bounds(store: &Store) {
    let repository = store.open().await;
    let other = |subject| {
        let mut event = event(subject);
        event.event_type = event_type("other");
        event
    };
    let batch = ["a", "b", "a1", "A", "a", "b", "a "].map(event);
    append(&*repository, batch.into_iter().chain([other("a"), other("b")]).collect()).await;
    let of_type = |filter, text| Filter { types: vec![event_type(text)], ..filter };
    for (filter, from, through, count, left) in [
        (exact(&["nobody"]), 1, 9, 0, vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (exact(&["a"]), 2, 5, 1, vec![1, 2, 3, 4, 6, 7, 8, 9]),
        (of_type(prefixes(&["a"]), "other"), 1, 9, 1, vec![1, 2, 3, 4, 6, 7, 9]),
        (prefixes(&["a"]), 3, 7, 2, vec![1, 2, 4, 6, 9]),
        (exact(&["b", "A"]), 4, 4, 1, vec![1, 2, 6, 9]),
        (of_type(Filter::default(), "tested"), 2, 9, 2, vec![1, 9]),
        (Filter::default(), 10, 20, 0, vec![1, 9]),
        (Filter::default(), 5, 4, 0, vec![1, 9]),
        (Filter::default(), 1, 20, 2, vec![]),
    ] {
        let deleted = repository.delete(filter.clone(), position(from), position(through)).await.unwrap();
        assert_eq!(deleted, count, "{filter:?} {from}..={through}");
        assert_eq!(positions(&whole_log(&*repository).await), left, "{filter:?} {from}..={through}");
    }
    assert_eq!(repository.state().await.unwrap().head, Some(position(9)));
}

pub(crate) async fn deletes_more_than_a_chunk_and_counts(store: &Store) {
    let repository = store.open().await;
    for _ in 0..5 {
        append(&*repository, ["even", "odd"].repeat(500).into_iter().map(event).collect()).await;
    }
    let head = repository.state().await.unwrap().head.unwrap();
    assert_eq!(repository.delete(exact(&["odd"]), Position::FIRST, head).await.unwrap(), 2_500);
    assert_eq!(repository.delete(exact(&["odd"]), Position::FIRST, head).await.unwrap(), 0);
    let left = whole_log(&*repository).await;
    assert!(left.len() == 2_500 && left.iter().all(|event| event.subject.as_str() == "even"));
}

pub(crate) async fn deletions_are_counted_for_every_process(store: &Store) {
    let ours = store.open().await;
    let theirs = store.open().await;
    append(&*ours, vec![event("a"); 1_500]).await;
    append(&*ours, events(&["b", "c"])).await;
    let deletions = async || {
        let (ours, theirs) = (ours.state().await.unwrap(), theirs.state().await.unwrap());
        assert_eq!(ours, theirs);
        assert_eq!(ours.head, Some(position(1_502)));
        ours.deletions
    };
    assert_eq!(deletions().await, 0);
    for (repository, filter, from, through, deleted) in [
        (&ours, exact(&["nobody"]), 1, 1_502, 0),
        (&ours, exact(&["b"]), 1, 1_500, 0),
        (&ours, exact(&["b"]), 1, 1_502, 1),
        (&theirs, exact(&["b"]), 1, 1_502, 0),
        (&theirs, prefixes(&["a"]), 1, 1_502, 1_500),
        (&ours, Filter::default(), 1_502, 1_502, 1),
        (&ours, Filter::default(), 1, 1_502, 0),
    ] {
        let before = deletions().await;
        let count = repository.delete(filter.clone(), position(from), position(through)).await.unwrap();
        assert_eq!(count, deleted, "{filter:?}");
        let raised = deletions().await - before;
        assert!((raised > 0) == (deleted > 0) && raised <= deleted, "{filter:?}: {raised}");
    }
    let before = deletions().await;
    append(&*theirs, events(&["d"])).await;
    drop((ours, theirs));
    let state = store.open().await.state().await.unwrap();
    assert_eq!((state.head, state.deletions), (Some(position(1_503)), before));
}

pub(crate) async fn last_events_are_found_while_later_ones_go(store: &Store) {
    const SUBJECTS: i64 = 200;
    let repository = store.open().await;
    let subjects: Vec<String> = (0..SUBJECTS).map(|number| format!("subject-{number:03}")).collect();
    for _ in ["stays", "goes"] {
        append(&*repository, subjects.iter().map(|subject| event(subject)).collect()).await;
    }
    let deleting = Arc::clone(&repository);
    let names = subjects.clone();
    let deleter = tokio::spawn(async move {
        for name in names {
            let (from, through) = (position(SUBJECTS + 1), position(2 * SUBJECTS));
            assert_eq!(deleting.delete(exact(&[&name]), from, through).await.unwrap(), 1);
        }
    });
    let mut is_over = false;
    while !is_over {
        is_over = deleter.is_finished();
        let through = position(2 * SUBJECTS);
        let query = LatestQuery { filter: Filter::default(), after: None, through, limit: 64, bytes_max: usize::MAX };
        let found = latest_all(&*repository, query).await;
        assert!(found.iter().map(|event| event.subject.as_str()).eq(subjects.iter().map(String::as_str)), "{found:?}");
    }
    deleter.await.unwrap();
}
