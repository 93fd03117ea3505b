//! SQLite's index by subject, which follows behind the log.

use std::sync::Arc;

use events_db::domain::append::{AppendRefusal, AppendRequest};
use events_db::ports::event_repository::ReadQuery;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::groups::{expecting, group};
use crate::reading::{append, event, exact, position, positions, query, read_all, subject};
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
    let last_is_17000 = expecting(Some(17_000), event("theirs"));
    let asked = AppendRequest { events: Vec::new(), ..last_is_17000 };
    assert!(group(&*repository, vec![asked]).await[0].is_ok(), "a precondition sees them");
    for _ in 0..20 {
        append(&*repository, vec![event("ours"); 1_000]).await;
    }
    let query = ReadQuery { filter: exact(&["theirs"]), ..query(None, 30_000) };
    assert_eq!(positions(&read_all(&*repository, query).await), [17_000]);
    assert_eq!(number(&foreign, "SELECT count(*) FROM event_subjects WHERE position = 17000").await, 1);
}

pub(crate) async fn entries_come_in_parts_and_none_for_what_is_deleted_meanwhile(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    let subject = |number: i64| format!("subject-{number:05}");
    for batch in 0..9 {
        append(&*repository, (batch * 1_000..(batch + 1) * 1_000).map(|number| event(&subject(number))).collect())
            .await;
    }
    let first = entries(&foreign).await;
    assert!((1_000..5_000).contains(&first), "{first} of 9000 entries at once");
    assert_eq!(indexed_through(&foreign).await, 0, "not all have theirs");
    let head = position(9_000);
    for deleted in [subject(17), subject(8_999)] {
        assert_eq!(repository.delete(exact(&[&deleted]), position(1), head).await.unwrap(), 1);
    }
    let mut appended = 9_000;
    while indexed_through(&foreign).await == 0 {
        let findings = store.open_to_read().await.unwrap().verify(|_| true).await.unwrap().findings;
        assert_eq!(findings, [""; 0], "after {appended} events");
        for (number, found) in [(0, vec![1]), (17, vec![]), (4_711, vec![4_712]), (8_998, vec![8_999])] {
            let query = ReadQuery { filter: exact(&[&subject(number)]), ..query(None, 30_000) };
            assert_eq!(positions(&read_all(&*repository, query).await), found, "after {appended} events");
        }
        append(&*repository, vec![event("more")]).await;
        appended += 1;
        assert!(appended < 9_100, "it goes on with each append");
    }
    assert_eq!((indexed_through(&foreign).await, entries(&foreign).await), (9_000, 8_998));
}

pub(crate) async fn what_is_rolled_back_gets_no_entries(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, vec![event("kept"); 8_000]).await;
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON event_writer BEGIN SELECT RAISE(ABORT, 'not now'); END";
    foreign.execute_unprepared(refuse).await.unwrap();
    let request = AppendRequest { events: vec![event("lost"); 1_000], preconditions: Vec::new() };
    assert!(repository.append(Arc::new([request])).await.is_err());
    foreign.execute_unprepared("DROP TRIGGER refuse").await.unwrap();
    append(&*repository, vec![event("kept"); 191]).await;
    assert_eq!(entries(&foreign).await, 0);
    append(&*repository, vec![event("kept")]).await;
    assert_eq!(number(&foreign, "SELECT count(*) FROM event_subjects WHERE of_subject = 'kept'").await, 8_192);
    assert_eq!((entries(&foreign).await, indexed_through(&foreign).await), (8_192, 8_192));
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

async fn indexed_through(foreign: &DatabaseConnection) -> i64 {
    number(foreign, "SELECT indexed_through FROM event_head").await
}

async fn entries(foreign: &DatabaseConnection) -> i64 {
    number(foreign, "SELECT count(*) FROM event_subjects").await
}

async fn number(foreign: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    foreign.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

pub(crate) async fn precondition_sees_what_another_process_has_indexed(store: &Store) {
    let (first, second) = (store.open().await, store.open().await);
    append(&*first, vec![event("contended")]).await;
    append(&*second, vec![event("contended")]).await;
    for _ in 0..20 {
        append(&*second, vec![event("other"); 1_000]).await;
    }
    assert!(indexed_through(&store.foreign().await).await > BEHIND_MAX, "beyond all that the first process has seen");
    let stale = group(&*first, vec![expecting(Some(1), event("contended"))]).await;
    let refused = AppendRefusal::Precondition { subject: subject("contended"), last: Some(position(2)) };
    assert_eq!(stale, [Err(refused)]);
    assert!(group(&*first, vec![expecting(Some(2), event("contended"))]).await[0].is_ok());
}
