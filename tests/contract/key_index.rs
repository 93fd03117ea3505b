//! SQLite's index by key, which follows behind the log.

use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::append::Appended;
use events_db::domain::event::NewEvent;
use events_db::domain::filter::Filter;
use events_db::ports::event_repository::{EventRepository, RestoreError};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sha2::{Digest, Sha256};

use crate::groups::{expecting, group, named, request, taken};
use crate::reading::{append, event, position, positions, whole_log};
use crate::store::Store;

/// Bytes of data in a large event: so many of them that the index goes round all keys within some thousand.
const LARGE_BYTES: usize = 16 * 1024;

/// Large events that take the index a quarter of the way round.
const QUARTER: i64 = 1_024;

fn large(number: i64) -> NewEvent {
    NewEvent { data: Bytes::from(vec![b'x'; LARGE_BYTES]), ..named(&format!("n-{number}"), "large") }
}

async fn append_large(repository: &dyn EventRepository, first: i64, last: i64) {
    for start in (first..=last).step_by(64) {
        let batch: Vec<NewEvent> = (start..=last.min(start + 63)).map(large).collect();
        let appended = append(repository, batch).await;
        assert_eq!(appended[0], position(start));
    }
}

/// Every one of `first..=last` is a duplicate, and a conflict with other content, alone and among others.
async fn are_known(repository: &dyn EventRepository, first: i64, last: i64) {
    let numbers: Vec<i64> = (first..=last).collect();
    for numbers in numbers.chunks(500) {
        let outcomes = group(repository, vec![request(numbers.iter().map(|number| large(*number)).collect())]).await;
        let again = |number: &i64| Appended { position: position(*number), is_duplicate: true };
        assert_eq!(outcomes, [Ok(numbers.iter().map(again).collect())]);
    }
    for number in numbers.into_iter().step_by(97) {
        let other = NewEvent { data: Bytes::from_static(b"other"), ..large(number) };
        let outcomes = group(repository, vec![request(vec![event("plain"), other])]).await;
        assert_eq!(outcomes, [taken(1, number)]);
    }
}

pub(crate) async fn duplicates_are_found_on_both_sides_of_the_index(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append_large(&*repository, 1, QUARTER).await;
    let indexed = entries(&foreign).await;
    assert!(indexed > 0 && indexed < QUARTER / 2, "{indexed} of {QUARTER}");
    are_known(&*repository, 1, QUARTER).await;
    // Another process, which has them to read first, and goes on writing.
    let second = store.open().await;
    are_known(&*second, 1, QUARTER).await;
    append_large(&*second, QUARTER + 1, 2 * QUARTER).await;
    are_known(&*repository, 1, 2 * QUARTER).await;
    drop((repository, second));
    are_known(&*store.open().await, 1, 2 * QUARTER).await;
    assert_eq!(number(&foreign, "SELECT count(*) FROM events").await, 2 * QUARTER);
}

pub(crate) async fn index_goes_round_all_keys(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    let last = 9 * QUARTER;
    append_large(&*repository, 1, last).await;
    let keyed = number(&foreign, "SELECT keyed_through FROM event_head").await;
    assert!((QUARTER..last - QUARTER).contains(&keyed), "{keyed} of {last}");
    let missing =
        "SELECT count(*) FROM events WHERE event_key IS NOT NULL AND id NOT IN (SELECT position FROM event_keys)";
    let below = format!("{missing} AND id <= (SELECT keyed_through FROM event_head)");
    assert_eq!(number(&foreign, &below).await, 0);
    let missing = number(&foreign, missing).await;
    assert!(missing > 0 && missing < 4 * QUARTER, "{missing}");
    assert_eq!(number(&foreign, "SELECT count(*) FROM event_keys").await, last - missing);
    are_known(&*repository, 1, last).await;
    drop(repository);
    are_known(&*store.open().await, 1, last).await;
}

pub(crate) async fn deleted_events_may_come_again_on_both_sides_of_the_index(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append_large(&*repository, 1, QUARTER).await;
    assert!(entries(&foreign).await > 0);
    let all = repository.delete(Filter::default(), position(1), position(QUARTER)).await.unwrap();
    assert_eq!(i64::try_from(all).unwrap(), QUARTER);
    assert_eq!(entries(&foreign).await, 0, "a deletion takes the entries along");
    for first in (1..=QUARTER).step_by(128) {
        let batch = (first..first + 128).map(large).collect();
        assert_eq!(append(&*repository, batch).await[0], position(QUARTER + first));
    }
    let stale = format!("SELECT count(*) FROM event_keys WHERE position <= {QUARTER}");
    assert_eq!(number(&foreign, &stale).await, 0, "what is deleted gets no entry later");
    let outcomes = group(&*repository, vec![request(vec![large(1), large(QUARTER)])]).await;
    let again = |at: i64| Appended { position: position(at), is_duplicate: true };
    assert_eq!(outcomes, [Ok(vec![again(QUARTER + 1), again(2 * QUARTER)])]);
}

pub(crate) async fn processes_see_each_others_newest_keys(store: &Store) {
    let processes = [store.open().await, store.open().await];
    let mut expected = 0;
    for round in 0..30 {
        let [ours, theirs] = [&processes[round % 2], &processes[(round + 1) % 2]];
        let id = format!("round-{round}");
        // With and without ids between, so that either way of appending passes the other's events.
        let before = if round % 3 == 0 { vec![event("plain")] } else { vec![named(&format!("before-{round}"), "a")] };
        append(&**theirs, before).await;
        assert_eq!(append(&**ours, vec![named(&id, "a")]).await, [position(expected + 2)]);
        expected += 2;
        for process in [theirs, ours] {
            let outcomes = group(&**process, vec![request(vec![named(&id, "a")])]).await;
            assert_eq!(outcomes, [Ok(vec![Appended { position: position(expected), is_duplicate: true }])]);
        }
    }
    assert_eq!(positions(&whole_log(&*processes[0]).await), (1..=expected).collect::<Vec<_>>());
}

pub(crate) async fn refused_and_rolled_back_keys_are_free(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, vec![named("first", "a")]).await;
    foreign.execute_unprepared(&store.rule_against("poison")).await.unwrap();
    let poison = || NewEvent { event_type: crate::reading::event_type("poison"), ..event("a") };
    let filled = |count: usize| -> Vec<NewEvent> {
        let named = (0..count).map(|number| named(&format!("free-{number}"), "a"));
        named.chain([poison()]).collect()
    };
    // By one call, in steps, and after a look at a precondition.
    repository.append(Arc::new([request(filled(3))])).await.unwrap_err();
    repository.append(Arc::new([request(filled(400))])).await.unwrap_err();
    let checked = request(filled(3));
    let preconditions = expecting(None, event("nobody")).preconditions;
    repository
        .append(Arc::new([events_db::domain::append::AppendRequest { preconditions, ..checked }]))
        .await
        .unwrap_err();
    foreign.execute_unprepared("DROP TRIGGER rule").await.unwrap();
    let appended = append(&*repository, filled(400)).await;
    assert_eq!((appended[0], appended.len()), (position(2), 401));
}

pub(crate) async fn keys_that_start_alike_are_told_apart(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, vec![event("a"), named("x", "a")]).await;
    let start = key_start("contract\0y");
    // As if the key of the second event started as that of another one.
    foreign.execute_unprepared(&format!("INSERT INTO event_keys VALUES ({start}, 2)")).await.unwrap();
    assert_eq!(append(&*repository, vec![named("y", "a")]).await, [position(3)]);
    let outcomes = group(&*repository, vec![request(vec![named("y", "a"), named("x", "a")])]).await;
    let again = |at: i64| Appended { position: position(at), is_duplicate: true };
    assert_eq!(outcomes, [Ok(vec![again(3), again(2)])]);
}

pub(crate) async fn large_requests_are_looked_up_before_they_are_inserted(store: &Store) {
    let repository = store.open().await;
    let numbered = |from: i64, through: i64| (from..=through).map(|number| named(&format!("{number}"), "a")).collect();
    append(&*repository, numbered(1, 1_000)).await;
    let second = store.open().await;
    // Half of it is stored, by another process.
    let outcomes = group(&*second, vec![request(numbered(501, 1_500))]).await;
    let expected = (501..=1_500).map(|at| Appended { position: position(at), is_duplicate: at <= 1_000 });
    assert_eq!(outcomes, [Ok(expected.collect())]);
    let outcomes = group(&*repository, vec![request(numbered(1_001, 1_500))]).await;
    let expected = (1_001..=1_500).map(|at| Appended { position: position(at), is_duplicate: true });
    assert_eq!(outcomes, [Ok(expected.collect())]);
}

pub(crate) async fn restored_keys_are_looked_for_and_found(store: &Store) {
    let source = store.open().await;
    append_large(&*source, 1, 64).await;
    let events = whole_log(&*source).await;
    source.delete(Filter::default(), position(1), position(64)).await.unwrap();
    let moved = |by: i64| {
        let place = move |at: i64| position(at + by);
        events.iter().map(move |event| {
            let mut event = event.clone();
            event.position = place(event.position.get());
            event
        })
    };
    source.restore(moved(100).collect()).await.unwrap();
    let error = source.restore(moved(200).take(1).collect()).await.unwrap_err();
    assert!(matches!(error, RestoreError::Duplicate(_)), "{error:?}");
    let twice = events.iter().take(1).map(|event| (event, named("twice", "a"))).flat_map(|(event, new)| {
        [301, 302].map(|at| {
            let mut event = event.clone();
            (event.id, event.position) = (new.id.clone(), position(at));
            event
        })
    });
    let error = source.restore(twice.collect()).await.unwrap_err();
    assert!(matches!(error, RestoreError::Duplicate(_)), "{error:?}");
    assert_eq!(source.state().await.unwrap().head, Some(position(164)));
    for repository in [&source, &store.open().await] {
        let outcomes = group(&**repository, vec![request(vec![large(1), large(64)])]).await;
        let again = |at: i64| Appended { position: position(at), is_duplicate: true };
        // They are recorded when they were, so that they are the same events.
        assert_eq!(outcomes, [Ok(vec![again(101), again(164)])]);
    }
}

pub(crate) async fn is_made_from_the_keys_of_an_older_schema(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![named("a", "s"), event("s"), named("b", "s"), named("c", "s")]).await;
    drop(repository);
    let foreign = store.foreign().await;
    let old_index = "CREATE UNIQUE INDEX events_by_key ON events (event_key) WHERE event_key IS NOT NULL";
    let as_it_was =
        "DROP TRIGGER event_keys_follow; DROP TABLE event_keys; ALTER TABLE event_head DROP COLUMN keyed_through";
    for before_the_crash in [
        format!("{old_index}; {as_it_was}"),
        // The move was cut after one of its steps.
        format!(
            "{old_index}; DROP TRIGGER event_keys_follow; DROP TABLE event_keys; UPDATE event_head SET keyed_through = 0"
        ),
        format!("{old_index}; DELETE FROM event_keys WHERE position > 1; UPDATE event_head SET keyed_through = 0"),
        "UPDATE event_head SET keyed_through = 0".to_owned(),
    ] {
        let forget = "DELETE FROM seaql_migrations WHERE version = 'key_entries'";
        for sql in before_the_crash.split(';').chain([forget]) {
            foreign.execute_unprepared(sql).await.unwrap();
        }
        let (repository, second) = tokio::join!(store.open(), store.open());
        assert_eq!(entries(&foreign).await, 3, "{before_the_crash}");
        assert_eq!(number(&foreign, "SELECT keyed_through FROM event_head").await, 4, "{before_the_crash}");
        let index = "SELECT count(*) FROM sqlite_master WHERE name = 'events_by_key'";
        assert_eq!(number(&foreign, index).await, 0, "{before_the_crash}");
        for repository in [repository, second] {
            let outcomes = group(&*repository, vec![request(vec![named("a", "s"), named("c", "s")])]).await;
            let again = |at: i64| Appended { position: position(at), is_duplicate: true };
            assert_eq!(outcomes, [Ok(vec![again(1), again(4)])], "{before_the_crash}");
        }
    }
    let repository = store.open().await;
    repository.delete(Filter::default(), position(1), position(1)).await.unwrap();
    assert_eq!(entries(&foreign).await, 2);
    assert_eq!(append(&*repository, vec![named("a", "s")]).await, [position(5)]);
}

/// What the index has of the key of a source and an id, with a zero byte between them.
pub(crate) fn key_start(named: &str) -> i64 {
    Sha256::digest(named)[..6].iter().fold(0, |start, byte| start << 8 | i64::from(*byte)) >> 1
}

async fn entries(foreign: &DatabaseConnection) -> i64 {
    number(foreign, "SELECT count(*) FROM event_keys").await
}

async fn number(foreign: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    foreign.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
