//! Others who write to the same tables.

use std::sync::Arc;

use events_db::domain::append::AppendRequest;
use events_db::domain::event::NewEvent;
use events_db::domain::position::Position;
use events_db::ports::event_repository::AppendError;
use sea_orm::{ConnectionTrait, DatabaseConnection, SqlErr, TransactionTrait};

use crate::append::race;
use crate::groups::{expecting, group, request};
use crate::reading::{append, event, event_type, events, position, positions, whole_log};
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
    race(store, |_| None).await;
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
        assert_eq!(repository.state().await.unwrap().head.map(Position::get), given.last().copied());
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

pub(crate) async fn rows_above_the_head_are_stepped_over(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, events(&["a"])).await;
    // Further above than our events reach, so that no key tells.
    for (theirs, ours) in [(100, vec!["b"]), (200, vec!["c", "d"])] {
        let sql =
            format!("INSERT INTO events (id, source, type, subject, data) VALUES ({theirs}, 'go', 't', 'f', 'x')");
        foreign.execute_unprepared(&sql).await.unwrap();
        let expected: Vec<_> = (theirs + 1..).take(ours.len()).map(position).collect();
        assert_eq!(append(&*repository, events(&ours)).await, expected);
    }
    assert_eq!(positions(&whole_log(&*repository).await), [1, 100, 101, 200, 201, 202]);
}

pub(crate) async fn recorded_time_follows_a_clock_that_is_ahead(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, events(&["a"])).await;
    let ahead = "UPDATE event_head SET recorded_at = TIMESTAMP '2100-01-01 00:00:00'";
    foreign.execute_unprepared(ahead).await.unwrap();
    append(&*repository, events(&["b"])).await;
    append(&*repository, events(&["c", "d"])).await;
    let log = whole_log(&*repository).await;
    assert_eq!(positions(&log), [1, 2, 3, 4]);
    let recorded: Vec<_> = log.iter().map(|event| event.recorded_time.unwrap()).collect();
    assert!(recorded[0] < recorded[1] && recorded[1..].iter().all(|time| *time == recorded[1]), "{recorded:?}");
    assert!(log[1..].iter().all(|event| event.time == recorded[1]), "{log:?}");
}

pub(crate) async fn nothing_is_stored_without_a_head(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    append(&*repository, events(&["a", "b"])).await;
    // What a connection remembers of its last commit must not stand in for the head.
    for sql in ["DELETE FROM event_head", "DELETE FROM events WHERE id = 2"] {
        foreign.execute_unprepared(sql).await.unwrap();
    }
    repository.append(Arc::new([request(events(&["c"]))])).await.unwrap_err();
    foreign.execute_unprepared("INSERT INTO event_head (id, position) VALUES (1, 2)").await.unwrap();
    assert_eq!(positions(&whole_log(&*repository).await), [1]);
    assert_eq!(append(&*repository, events(&["d"])).await, [position(3)]);
}

pub(crate) async fn connection_that_was_fenced_off_commits_no_more(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    let fence_is = async |fence: i64, next: i64| {
        let sql = format!("UPDATE event_writer SET fence = {next} WHERE fence = {fence}");
        assert_eq!(foreign.execute_unprepared(&sql).await.unwrap().rows_affected(), 1, "the fence is not {fence}");
    };
    append(&*repository, events(&["a"])).await;
    // Whoever goes on raises the fence for himself first.
    fence_is(0, 10).await;
    append(&*repository, events(&["b"])).await;
    fence_is(11, 20).await;
    let checked = group(&*repository, vec![expecting(None, event("c"))]).await;
    assert!(checked[0].is_ok(), "{checked:?}");
    fence_is(21, 21).await;
    assert_eq!(positions(&whole_log(&*repository).await), [1, 2, 3]);
}

/// A request for one event of this type.
pub(crate) fn typed(name: &str) -> AppendRequest {
    request(vec![NewEvent { event_type: event_type(name), ..event("s") }])
}

/// Has the database refuse the connection that inserts an event of this type, from then on.
pub(crate) async fn forbid_connection_of(event_type: &str, store: &Store) {
    let foreign = store.foreign().await;
    foreign.execute_unprepared("CREATE TABLE read_only (connection BIGINT)").await.unwrap();
    for statement in store.rule_for_the_connection_of(event_type, "read_only") {
        foreign.execute_unprepared(&statement).await.unwrap();
    }
}

/// As after a switch-over, when the old server is read-only and its connections stay open.
pub(crate) async fn connection_that_is_refused_is_not_used_again(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["before"])).await;
    forbid_connection_of("first", store).await;
    assert!(group(&*repository, vec![typed("first")]).await[0].is_ok());
    let refused = repository.append(Arc::new([typed("later")])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(group(&*repository, vec![typed("later")]).await[0].is_ok(), "another connection is let in");
}
