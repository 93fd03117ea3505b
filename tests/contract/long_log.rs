//! A log so long that an index may be behind its newest events.

use std::collections::BTreeSet;
use std::sync::Arc;

use events_db::domain::append::{AppendRefusal, AppendRequest, Precondition};
use events_db::domain::attribute::Subject;
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::filter::Filter;
use events_db::domain::position::Position;
use events_db::ports::event_repository::{EventRepository, ReadQuery};

use crate::reading::{
    append, event, event_type, exact, latest_agrees, position, positions, prefixes, query, read_both_ways, subject,
    whole_log,
};
use crate::store::Store;

const BATCH: i64 = 1_000;

/// One of seven subjects, and one of three types, spread over the log in no simple rhythm.
fn nth(number: i64) -> NewEvent {
    let mut event =
        event(["a", "ab", "abc", "b", "ba", "c", "\u{10ffff}"][usize::try_from(number * number % 7).unwrap()]);
    event.event_type = event_type(["made", "paid", "sent"][usize::try_from(number % 11 % 3).unwrap()]);
    event
}

async fn append_numbered(repository: &dyn EventRepository, from: i64, through: i64) {
    for first in (from..=through).step_by(usize::try_from(BATCH).unwrap()) {
        let last = through.min(first + BATCH - 1);
        let appended = append(repository, (first..=last).map(nth).collect()).await;
        assert_eq!((appended[0].get(), appended[appended.len() - 1].get()), (first, last));
    }
}

/// Every way to read the whole log must agree with a look at each of its events.
async fn agree(repository: &dyn EventRepository, after: &[i64]) {
    let log = whole_log(repository).await;
    let head = log.last().unwrap().position.get();
    let pages = [(1_000, usize::MAX), (2, 40)];
    let typed = Filter { types: vec![event_type("paid")], ..exact(&["a", "c"]) };
    let typed_prefix = Filter { types: vec![event_type("made"), event_type("sent")], ..prefixes(&["ab"]) };
    for filter in [exact(&["b"]), exact(&["abc", "nobody", "late"]), prefixes(&["ab", "late"]), typed, typed_prefix] {
        let above = after.iter().map(|&after| (after, head));
        let up_to = after.iter().filter(|&&through| through > 0).map(|&through| (0, through));
        for (after, through) in above.chain(up_to) {
            for (limit, bytes_max) in [(1_000, usize::MAX), (97, 1_024)] {
                let query = ReadQuery {
                    filter: filter.clone(),
                    limit,
                    bytes_max,
                    ..query((after > 0).then_some(after), through)
                };
                let within = |event: &&StoredEvent| (after + 1..=through).contains(&event.position.get());
                let expected = log.iter().filter(within).filter(|event| filter.matches(event));
                let expected: Vec<i64> = expected.map(|event| event.position.get()).collect();
                assert_eq!(positions(&read_both_ways(repository, query.clone()).await), expected, "{query:?}");
            }
        }
        for &through in after.iter().filter(|&&through| through > 0).chain([&head]) {
            latest_agrees(repository, &log, &filter, None, through, &pages).await;
            latest_agrees(repository, &log, &filter, Some(subject("ab")), through, &pages).await;
        }
    }
    latest_agrees(repository, &log, &Filter::default(), None, head, &pages).await;
    let all: BTreeSet<&Subject> = log.iter().map(|event| &event.subject).collect();
    for limit in [1, 3, 100] {
        let mut found: Vec<Subject> = Vec::new();
        loop {
            let page = repository.subjects(found.last().cloned(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert!(found.iter().eq(all.iter().copied()), "{found:?}");
    }
}

pub(crate) async fn reads_agree_with_the_model_while_it_grows(store: &Store) {
    let repository = store.open().await;
    append_numbered(&*repository, 1, 8_180).await;
    // One at a time over the place where an index may be brought up to date.
    for number in 8_181..=8_200 {
        append(&*repository, vec![nth(number)]).await;
    }
    agree(&*repository, &[0, 8_170, 8_191, 8_192, 8_195]).await;
    append_numbered(&*repository, 8_201, 17_000).await;
    append(&*repository, vec![event("late")]).await;
    agree(&*repository, &[0, 8_192, 16_000, 16_500, 17_000]).await;
    // Another process knows nothing of what this one has seen.
    agree(&*store.open().await, &[0, 16_900]).await;
}

pub(crate) async fn deletion_reaches_the_old_and_the_new(store: &Store) {
    let repository = store.open().await;
    append_numbered(&*repository, 1, 9_000).await;
    append(&*repository, vec![event("late"), event("late")]).await;
    let head = position(9_002);
    for (filter, from) in [(exact(&["a"]), 1), (prefixes(&["b"]), 3_000), (exact(&["late"]), 9_002)] {
        let selected = whole_log(&*repository).await;
        let selected = selected.iter().filter(|event| event.position.get() >= from && filter.matches(event)).count();
        let deleted = repository.delete(filter, position(from), head).await.unwrap();
        assert_eq!(deleted, selected as u64);
        assert!(deleted > 0);
    }
    agree(&*repository, &[0, 8_000, 9_000]).await;
    append_numbered(&*repository, 9_003, 18_000).await;
    agree(&*repository, &[0, 6_000, 10_900]).await;
}

pub(crate) async fn preconditions_see_the_old_and_the_new(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![event("first")]).await;
    append(&*repository, (0..BATCH).map(|_| event("old")).collect()).await;
    append_fillers(&*repository, 9).await;
    let old = position(BATCH + 1);
    append(&*repository, vec![event("new")]).await;
    let new = repository.state().await.unwrap().head.unwrap();
    for (subject, last) in [("first", Some(position(1))), ("old", Some(old)), ("new", Some(new)), ("none", None)] {
        let subject = Subject::new(subject.to_owned()).unwrap();
        let wrong = Some(position(7_777_777));
        assert_eq!(refusal(&*repository, subject.clone(), wrong).await, Some(last), "{subject:?}");
        assert_eq!(refusal(&*repository, subject.clone(), last).await, None, "{subject:?}");
    }
    // Where both know the subject, the newer one counts.
    append(&*repository, vec![event("old")]).await;
    let newest = repository.state().await.unwrap().head;
    assert_eq!(refusal(&*repository, Subject::new("old".to_owned()).unwrap(), Some(old)).await, Some(newest));
}

async fn append_fillers(repository: &dyn EventRepository, batches: i64) {
    for _ in 0..batches {
        append(repository, (0..BATCH).map(|_| event("filler")).collect()).await;
    }
}

/// Asks whether `last` is the subject's last position, without appending; answers the real one if it is not.
async fn refusal(
    repository: &dyn EventRepository,
    subject: Subject,
    last: Option<Position>,
) -> Option<Option<Position>> {
    let request = AppendRequest { events: Vec::new(), preconditions: vec![Precondition { subject, last }] };
    match repository.append(Arc::new([request])).await.unwrap().outcomes.remove(0) {
        Ok(_) => None,
        Err(AppendRefusal::Precondition { last, .. }) => Some(last),
        Err(refusal) => panic!("{refusal}"),
    }
}
