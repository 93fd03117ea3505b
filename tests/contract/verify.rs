//! Looking at the log as a whole.

use events_db::adapters::repository::sea_orm::{ConnectError, Verified};
use sea_orm::ConnectionTrait;

use crate::contexts::every_context;
use crate::groups::named;
use crate::key_index::key_start;
use crate::reading::{append, event, exact, position};
use crate::store::Store;

async fn verify(store: &Store) -> Verified {
    let repository = store.open_to_read().await.unwrap();
    repository.verify(|_| true).await.unwrap()
}

/// A log with ids, contexts and a hole; returns how many events it has.
async fn fill(store: &Store) -> u64 {
    let repository = store.open().await;
    let events = every_context();
    let count = events.len();
    append(&*repository, events).await;
    append(&*repository, vec![event("a"), event("deleted"), event("a")]).await;
    assert_eq!(repository.delete(exact(&["deleted"]), position(1), position(100_000)).await.unwrap(), 1);
    u64::try_from(count).unwrap() + 2
}

pub(crate) async fn log_of_ours_is_whole(store: &Store) {
    let events = fill(store).await;
    let verified = verify(store).await;
    assert_eq!(verified.findings, [""; 0]);
    assert_eq!((verified.events, verified.holes, verified.findings_count), (events, 1, 0));
}

pub(crate) async fn what_somebody_has_changed_is_found(store: &Store) {
    fill(store).await;
    let foreign = store.foreign().await;
    let head: u64 = verify(store).await.reached.unwrap().get().unsigned_abs();
    foreign.execute_unprepared(&format!("UPDATE event_head SET position = {}", head - 1)).await.unwrap();
    let verified = verify(store).await;
    let names_head = |found: &String| found.contains("the newest event at");
    assert!(verified.findings.iter().any(names_head), "{verified:?}");
    foreign.execute_unprepared(&format!("UPDATE event_head SET position = {head}")).await.unwrap();
    // An event that changed its name, and one that was recorded before the one below it.
    foreign
        .execute_unprepared("UPDATE events SET event_id = 'changed' WHERE event_id IS NULL AND id = 1")
        .await
        .unwrap();
    let verified = verify(store).await;
    let names_key = |found: &String| found.contains("the key of the event at position 1");
    assert!(verified.findings.iter().any(names_key), "{verified:?}");
    let earlier = match foreign.get_database_backend() {
        sea_orm::DbBackend::Sqlite => "UPDATE events SET recorded_at = 5 WHERE id = 2",
        _ => "UPDATE events SET recorded_at = '1999-01-01 00:00:00' WHERE id = 2",
    };
    foreign.execute_unprepared(earlier).await.unwrap();
    let verified = verify(store).await;
    let names_time = |found: &String| found == "the event at position 2 was recorded before the one below it";
    assert!(verified.findings.iter().any(names_time), "{verified:?}");
}

pub(crate) async fn database_is_read_only_with_the_schema_of_this_program(store: &Store) {
    let absent = store.open_to_read().await;
    assert!(matches!(absent, Err(ConnectError::Unusable { .. })), "there is no schema yet");
    drop(store.open().await);
    assert!(store.open_to_read().await.is_ok());
    let foreign = store.foreign().await;
    foreign.execute_unprepared("DELETE FROM seaql_migrations WHERE version LIKE '%context%'").await.unwrap();
    let older = store.open_to_read().await.err().map(|error| error.to_string()).unwrap();
    assert!(older.contains("events-db migrate"), "{older}");
}

/// SQLite's own index by subject.
pub(crate) async fn entries_that_are_missing_or_too_many_are_found(store: &Store) {
    let repository = store.open().await;
    for _ in 0..9 {
        append(&*repository, vec![event("a"); 1_000]).await;
    }
    assert_eq!(verify(store).await.findings, [""; 0]);
    let foreign = store.foreign().await;
    foreign.execute_unprepared("DELETE FROM event_subjects WHERE position = 17").await.unwrap();
    let verified = verify(store).await;
    assert!(verified.findings.iter().any(|found| found.starts_with("1 events up to position")), "{verified:?}");
    foreign.execute_unprepared("INSERT INTO event_subjects VALUES ('a', 17), ('b', 17)").await.unwrap();
    let verified = verify(store).await;
    assert!(verified.findings.iter().any(|found| found.contains("entries for")), "{verified:?}");
}

/// SQLite's own index by key.
pub(crate) async fn keys_that_are_missing_or_stored_twice_are_found(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![named("x", "a"), event("a"), named("y", "a")]).await;
    assert_eq!(verify(store).await.findings, [""; 0]);
    let foreign = store.foreign().await;
    foreign.execute_unprepared("UPDATE event_head SET keyed_through = 2").await.unwrap();
    let verified = verify(store).await;
    assert_eq!(verified.findings, ["1 events up to position 3 are not in the index by key"]);
    let start = key_start("contract\0x");
    foreign.execute_unprepared(&format!("INSERT INTO event_keys VALUES ({start}, 1), ({start}, 4)")).await.unwrap();
    let twin = "INSERT INTO events (id, source, type, subject, time, recorded_at, data, event_key, event_id, context) \
                SELECT 4, source, type, subject, time, recorded_at, data, event_key, event_id, context FROM events WHERE id = 1";
    for sql in [twin, "UPDATE event_head SET position = 4", "UPDATE events SET recorded_at = NULL"] {
        foreign.execute_unprepared(sql).await.unwrap();
    }
    let verified = verify(store).await;
    assert!(
        verified.findings.contains(&"the events at positions 1 and 4 have the same source and id".to_owned()),
        "{verified:?}"
    );
    assert!(!verified.findings.iter().any(|found| found.contains("index by key")), "{verified:?}");
}
