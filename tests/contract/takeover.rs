//! Taking over the table of a Go service.

use std::fmt::Write as _;

use events_db::adapters::archive::GoDatabase;
use events_db::adapters::repository::memory::MemoryRepository;
use events_db::domain::timestamp::Timestamp;
use events_db::domain::transfer::restore;
use events_db::ports::event_repository::ReadQuery;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio_util::sync::CancellationToken;

use crate::contexts::every_context;
use crate::reading::{append, events, exact, position, positions, query, read_all, whole_log};
use crate::store::Store;

const ROWS: i64 = 1_000;
/// The newest rows, which are deleted before the takeover.
const DELETED: i64 = 10;

pub(crate) async fn takes_over_a_strict_go_schema(store: &Store) {
    take_over(
        store,
        "CREATE TABLE events (id BIGINT AUTO_INCREMENT PRIMARY KEY, source VARCHAR(255) NOT NULL, \
         type VARCHAR(255) NOT NULL, subject VARCHAR(255) NOT NULL, time TIMESTAMP DEFAULT CURRENT_TIMESTAMP, \
         data BLOB NOT NULL, FULLTEXT INDEX (subject))",
    )
    .await;
}

pub(crate) async fn takes_over_a_loose_go_schema(store: &Store) {
    take_over(store, LOOSE).await;
}

const LOOSE: &str = "CREATE TABLE events (id BIGINT AUTO_INCREMENT PRIMARY KEY, source VARCHAR(255), type VARCHAR(255), \
    subject VARCHAR(255), time DATETIME, data VARBINARY(60000), INDEX (subject))";

fn subject(id: i64) -> String {
    format!("{}-{}", ["user", "User", "USER", "usér"][usize::try_from(id % 4).unwrap()], id % 10)
}

fn time(id: i64) -> String {
    format!("2021-03-{:02}T{:02}:{:02}:07Z", id % 28 + 1, id % 24, id % 60)
}

/// Makes the table of a Go service with its rows.
async fn fill(store: &Store, schema: &str) -> DatabaseConnection {
    let foreign = store.foreign().await;
    foreign.execute_unprepared("SET SESSION time_zone = '+00:00'").await.unwrap();
    foreign.execute_unprepared(schema).await.unwrap();
    for first in (1..=ROWS).step_by(100) {
        let mut sql = "INSERT INTO events (source, type, subject, time, data) VALUES ".to_owned();
        for id in first..first + 100 {
            let (comma, subject) = (if id == first { "" } else { ", " }, subject(id));
            let time = time(id).replace('T', " ").replace('Z', "");
            write!(sql, "{comma}('Go-{id}', 'Type{}', '{subject}', '{time}', X'00FF{id:08X}')", id % 3).unwrap();
        }
        foreign.execute_unprepared(&sql).await.unwrap();
    }
    foreign
}

/// What a Go service has, as it is read out of its database.
pub(crate) async fn go_database_is_imported_and_left_alone(store: &Store) {
    let foreign = fill(store, LOOSE).await;
    foreign.execute_unprepared("DELETE FROM events WHERE id IN (3, 4)").await.unwrap();
    foreign.execute_unprepared("UPDATE events SET source = NULL, time = NULL, data = NULL WHERE id = 5").await.unwrap();
    let log = MemoryRepository::default();
    for run in [1, 2] {
        let mut archive = GoDatabase::open(store.url()).await.unwrap().expect("this one is not ours");
        assert_eq!(archive.through(), ROWS);
        let imported = restore(&log, &mut archive, |_| {}, &CancellationToken::new()).await.unwrap();
        let count = u64::try_from(ROWS - 2).unwrap();
        assert_eq!((imported.written, imported.present), if run == 1 { (count, 0) } else { (0, count) });
    }
    let imported = whole_log(&log).await;
    drop(store.open().await);
    assert!(GoDatabase::open(store.url()).await.unwrap().is_none(), "this one is ours now");
    // A takeover makes the very same of it.
    assert_eq!(imported, whole_log(&*store.open().await).await);
}

async fn take_over(store: &Store, schema: &str) {
    let foreign = fill(store, schema).await;
    let deleted = foreign.execute_unprepared(&format!("DELETE FROM events WHERE id > {}", ROWS - DELETED)).await;
    assert_eq!(deleted.unwrap().rows_affected(), u64::try_from(DELETED).unwrap());

    let (repository, second) = tokio::join!(store.open(), store.open());
    let log = whole_log(&*repository).await;
    assert_eq!(positions(&log), (1..=ROWS - DELETED).collect::<Vec<_>>());
    for event in &log {
        let id = event.position.get();
        assert_eq!(event.event_source.as_str(), format!("Go-{id}"));
        assert_eq!(event.event_type.as_str(), format!("Type{}", id % 3));
        assert_eq!(event.subject.as_str(), subject(id));
        assert_eq!(event.time, Timestamp::parse(&time(id)).unwrap());
        assert_eq!(event.recorded_time, None);
        assert_eq!(event.data[..2], [0x00, 0xFF]);
        assert_eq!(event.data[2..], u32::try_from(id).unwrap().to_be_bytes());
    }
    for text in ["user-4", "User-5", "USER-6", "usér-7", "user-7"] {
        let query = ReadQuery { filter: exact(&[text]), ..query(None, ROWS) };
        let wanted: Vec<i64> = (1..=ROWS - DELETED).filter(|id| subject(*id) == text).collect();
        assert_eq!(positions(&read_all(&*repository, query).await), wanted, "{text}");
    }
    // The ids that were given out and deleted are not given out again, by neither side.
    assert_eq!(repository.state().await.unwrap().head, Some(position(ROWS)));
    assert_eq!(append(&*second, events(&["a", "b"])).await, [position(ROWS + 1), position(ROWS + 2)]);
    let insert = "INSERT INTO events (source, type, subject, data) VALUES ('go', 'tested', 'foreign', 'x')";
    let theirs = foreign.execute_unprepared(insert).await.unwrap().last_insert_id();
    assert!(i64::try_from(theirs).unwrap() > ROWS + 2, "{theirs}");

    drop((repository, second));
    let reopened = store.open().await;
    let again = whole_log(&*reopened).await;
    assert_eq!(again[..log.len()], log);
    assert_eq!(again.len(), log.len() + 3);
    let next = append(&*reopened, events(&["c"])).await;
    assert_eq!(i128::from(next[0].get()), i128::from(theirs) + 1);

    // The table holds all that a CloudEvent says, too.
    let given = every_context();
    let positions = append(&*reopened, given.clone()).await;
    for (position, given) in positions.into_iter().zip(given) {
        let stored = reopened.get(position).await.unwrap().unwrap();
        assert_eq!((stored.context, stored.data), (given.context, given.data));
    }
}
