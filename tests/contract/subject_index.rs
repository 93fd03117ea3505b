//! SQLite's index by subject, which follows behind the log.

use events_db::ports::event_repository::ReadQuery;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::reading::{append, event, exact, position, positions, query, read_all};
use crate::store::Store;

/// Events without an entry at the most, but for those of one more request.
const BEHIND_MAX: i64 = 8_192;

pub(crate) async fn catches_up_with_batches_and_with_lone_events(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, vec![event("batch"); 8_191]).await;
    assert_eq!(entries(&foreign).await, 0);
    append(&*repository, vec![event("lone")]).await;
    append(&*repository, vec![event("lone")]).await;
    let caught_up = entries(&foreign).await;
    assert!((BEHIND_MAX..=BEHIND_MAX + 1).contains(&caught_up), "{caught_up}");
    append(&*repository, vec![event("batch"); 8_192]).await;
    assert_eq!(entries(&foreign).await, 2 * BEHIND_MAX + 1);
    let head = repository.state().await.unwrap().head.unwrap();
    assert_eq!(repository.delete(exact(&["lone"]), position(1), head).await.unwrap(), 2);
    assert_eq!(entries(&foreign).await, 2 * BEHIND_MAX - 1, "a deletion takes the entries along");
}

pub(crate) async fn rows_above_the_head_get_their_entries_once(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![event("ours"); 8_000]).await;
    let foreign = store.foreign().await;
    let insert =
        "INSERT INTO events (id, source, type, subject, time, data) VALUES (17000, 'x', 'x', 'theirs', 0, 'x')";
    foreign.execute_unprepared(insert).await.unwrap();
    for _ in 0..20 {
        append(&*repository, vec![event("ours"); 1_000]).await;
    }
    let query = ReadQuery { filter: exact(&["theirs"]), ..query(None, 30_000) };
    assert_eq!(positions(&read_all(&*repository, query).await), [17_000]);
    assert_eq!(number(&foreign, "SELECT count(*) FROM event_subjects WHERE position = 17000").await, 1);
}

pub(crate) async fn is_made_from_the_index_of_an_older_schema(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![event("a"), event("b"), event("a")]).await;
    let foreign = store.foreign().await;
    for before_the_crash in [
        "CREATE INDEX events_by_subject ON events (subject); DROP TRIGGER event_subjects_follow; \
         DROP TABLE event_subjects; ALTER TABLE event_head DROP COLUMN indexed_through",
        "CREATE INDEX events_by_subject ON events (subject)",
        "DELETE FROM event_subjects WHERE position > 1",
    ] {
        let forget = "DELETE FROM seaql_migrations WHERE version = 'subject_entries'";
        for sql in before_the_crash.split(';').chain([forget]) {
            foreign.execute_unprepared(sql).await.unwrap();
        }
        let repository = store.open().await;
        assert_eq!(entries(&foreign).await, 3, "{before_the_crash}");
        let found = read_all(&*repository, ReadQuery { filter: exact(&["a"]), ..query(None, 3) });
        assert_eq!(positions(&found.await), [1, 3]);
        let indexes = "SELECT count(*) FROM sqlite_master WHERE name = 'events_by_subject'";
        assert_eq!(number(&foreign, indexes).await, 0, "{before_the_crash}");
    }
}

async fn entries(foreign: &DatabaseConnection) -> i64 {
    number(foreign, "SELECT count(*) FROM event_subjects").await
}

async fn number(foreign: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    foreign.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
