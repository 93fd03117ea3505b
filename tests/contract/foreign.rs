//! Others who write to the same tables.

use std::sync::Arc;

use events_db::domain::position::Position;
use sea_orm::{ConnectionTrait, DatabaseConnection, SqlErr, TransactionTrait};

use crate::append::race;
use crate::reading::{append, event, events, position, positions, whole_log};
use crate::store::Store;

const FOREIGN_INSERT: &str = "INSERT INTO events (source, type, subject, data) VALUES ('go', 'tested', 'foreign', 'x')";

pub(crate) async fn rolled_back_transactions_leave_no_gap(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    for number in 1..=5 {
        let transaction = foreign.begin().await.unwrap();
        // The head is moved, and whoever holds it is given time to be in our way.
        transaction.execute_unprepared("UPDATE event_head SET position = position + 10").await.unwrap();
        let ours = Arc::clone(&repository);
        let append = tokio::spawn(async move { append(&*ours, events(&["a", "b"])).await });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        transaction.rollback().await.unwrap();
        assert_eq!(append.await.unwrap(), [position(2 * number - 1), position(2 * number)]);
    }
    assert_eq!(positions(&whole_log(&*repository).await), (1..=10).collect::<Vec<_>>());
}

pub(crate) async fn racing_writers_pass_between_rollbacks(store: &Store) {
    // Makes the tables.
    drop(store.open().await);
    let foreign = store.foreign().await;
    let rolling_back = tokio::spawn(async move {
        loop {
            let transaction = foreign.begin().await.unwrap();
            // Both fail now and then where somebody else is writing, and then there is nothing to roll back.
            for sql in [
                "UPDATE event_head SET position = position + 10",
                "UPDATE event_writer SET commit_number = commit_number + 10",
            ] {
                let _in_the_way = transaction.execute_unprepared(sql).await;
            }
            let _nothing_begun = transaction.rollback().await;
            tokio::task::yield_now().await;
        }
    });
    race(store).await;
    assert!(!rolling_back.is_finished(), "it goes on as long as the writers do");
    rolling_back.abort();
    let _aborted = rolling_back.await;
}

async fn insert(foreign: &DatabaseConnection) -> i64 {
    loop {
        match foreign.execute_unprepared(FOREIGN_INSERT).await {
            Ok(done) => return i64::try_from(done.last_insert_id()).unwrap(),
            // The server raises its counter after our row is in: its own choice may be ours, then it tries again.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn writer_between_our_appends_takes_no_position_twice(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    let mut given = Vec::new();
    for _ in 0..20 {
        given.push(insert(&foreign).await);
        assert_eq!(repository.head().await.unwrap().map(Position::get), given.last().copied());
        given.extend(append(&*repository, events(&["a", "b"])).await.into_iter().map(Position::get));
    }
    assert!(given.is_sorted_by(|before, after| before < after), "{given:?}");
    assert_eq!(positions(&whole_log(&*repository).await), given);
}

pub(crate) async fn writer_beside_our_appends_takes_no_position_twice(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    let theirs = tokio::spawn(async move {
        let mut given = Vec::new();
        for _ in 0..200 {
            given.push(insert(&foreign).await);
        }
        given
    });
    let ours: Vec<_> = (0..4)
        .map(|_| {
            let repository = Arc::clone(&repository);
            tokio::spawn(async move {
                let mut given = Vec::new();
                for _ in 0..50 {
                    let positions = append(&*repository, vec![event("ours"); 3]).await;
                    assert!(positions.windows(2).all(|pair| pair[0].get() + 1 == pair[1].get()), "{positions:?}");
                    given.extend(positions.into_iter().map(Position::get));
                }
                given
            })
        })
        .collect();
    let mut given = theirs.await.unwrap();
    for task in ours {
        given.extend(task.await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(given.len(), 800);
    assert_eq!(positions(&whole_log(&*repository).await), given);
}
