//! The append transaction: lock the head, take positions, insert, move the head, commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, IsolationLevel, SqliteTransactionMode, TransactionOptions,
    TransactionTrait, Value,
};

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::Effect;
use crate::adapters::repository::sea_orm::query::{Dialect, Engine};
use crate::domain::event::NewEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::AppendError;

/// Rows in one INSERT. Few fixed sizes, so that the prepared statements stay few and hot.
const INSERT_ROWS: [usize; 3] = [64, 8, 1];

/// How often a batch is tried when others are in the way, before the time for the call is up anyway.
const ATTEMPTS: u64 = 50;

/// Longest wait between two attempts.
const CONFLICT_WAIT_MAX: Duration = Duration::from_millis(50);

/// Appends `events`; `committing` is set while the outcome of a commit is open.
pub(super) async fn append(
    store: &Store,
    events: &[NewEvent],
    committing: &AtomicBool,
) -> Result<Vec<Position>, AppendError> {
    let mut attempt = 0;
    loop {
        let error = match attempt_append(store, events, committing).await {
            Ok(positions) => return Ok(positions),
            Err(error) => error,
        };
        match Effect::of(&error) {
            // Once a commit was sent, only a conflict is certain not to be stored.
            Effect::DuplicateKey | Effect::Refused | Effect::Lost if committing.load(Ordering::SeqCst) => {
                return Err(AppendError::OutcomeUnknown(error.into()));
            }
            // A duplicate key is a foreign writer's row: the next look at the head is past it.
            Effect::Conflict | Effect::DuplicateKey if attempt < ATTEMPTS => {
                committing.store(false, Ordering::SeqCst);
                attempt += 1;
                tokio::time::sleep(conflict_wait(attempt)).await;
            }
            Effect::Conflict | Effect::DuplicateKey | Effect::Refused | Effect::Lost => {
                committing.store(false, Ordering::SeqCst);
                return Err(AppendError::Unavailable(error.into()));
            }
        }
    }
}

/// Up to 5 ms more with each attempt, spread so that two in each other's way part.
fn conflict_wait(attempt: u64) -> Duration {
    let spread = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()) / 1_000 % 5_000);
    (Duration::from_micros(spread) * u32::try_from(attempt).unwrap_or(1)).min(CONFLICT_WAIT_MAX)
}

async fn attempt_append(store: &Store, events: &[NewEvent], committing: &AtomicBool) -> Result<Vec<Position>, DbErr> {
    let dialect = store.dialect;
    let transaction = store.writer.begin_with_options(options(dialect)).await?;
    let head = lock_head(dialect, &transaction).await?;
    let recorded = head.recorded.map_or_else(Timestamp::now, |last| last.max(Timestamp::now()));
    let positions = head.next_positions(events.len())?;
    let mut rows = positions.iter().zip(events);
    for size in INSERT_ROWS {
        while rows.len() >= size {
            insert(dialect, &transaction, rows.by_ref().take(size), size, recorded).await?;
        }
    }
    move_head(dialect, &transaction, &head, positions.last().copied(), recorded).await?;
    committing.store(true, Ordering::SeqCst);
    transaction.commit().await?;
    committing.store(false, Ordering::SeqCst);
    Ok(positions)
}

/// The head as it was locked.
struct Head {
    /// What the head row says.
    position: i64,
    /// The highest position in use: a foreign writer's rows may be above the head row.
    newest: i64,
    /// When the last commit was recorded.
    recorded: Option<Timestamp>,
}

impl Head {
    fn next_positions(&self, count: usize) -> Result<Vec<Position>, DbErr> {
        let first = self.position.max(self.newest).checked_add(1);
        let first = first.and_then(|first| Position::new(first).ok());
        let last = first.and_then(|first| first.get().checked_add(i64::try_from(count).ok()? - 1));
        match (first, last) {
            (Some(first), Some(last)) => (first.get()..=last)
                .map(|position| Position::new(position).map_err(|error| DbErr::Type(error.to_string())))
                .collect(),
            _ => Err(DbErr::Type("the log is full".to_owned())),
        }
    }
}

fn options(dialect: Dialect) -> TransactionOptions {
    match dialect.engine {
        // A transaction that starts reading and then writes fails at once when another one writes.
        Engine::Sqlite => TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        },
        // Repeatable read would show the state before the lock was won.
        Engine::MySql | Engine::MariaDb | Engine::Postgres => {
            TransactionOptions { isolation_level: Some(IsolationLevel::ReadCommitted), ..TransactionOptions::default() }
        }
    }
}

async fn lock_head(dialect: Dialect, transaction: &DatabaseTransaction) -> Result<Head, DbErr> {
    let row = transaction.query_one_raw(dialect.lock_head()).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the head row is missing".to_owned()))?;
    Ok(Head {
        position: row.try_get_by_index(0)?,
        newest: row.try_get_by_index(1)?,
        recorded: dialect.time_at(&row, 2)?,
    })
}

async fn insert(
    dialect: Dialect,
    transaction: &DatabaseTransaction,
    rows: impl Iterator<Item = (&Position, &NewEvent)>,
    count: usize,
    recorded: Timestamp,
) -> Result<(), DbErr> {
    let values: Vec<Value> = rows
        .flat_map(|(position, event)| {
            [
                position.get().into(),
                event.event_source.as_str().into(),
                event.event_type.as_str().into(),
                event.subject.as_str().into(),
                dialect.time(event.time.unwrap_or(recorded)),
                dialect.time(recorded),
                event.data.to_vec().into(),
            ]
        })
        .collect();
    let row = "(?, ?, ?, ?, ?, ?, ?)";
    let sql = format!(
        "INSERT INTO events (id, source, type, subject, time, recorded_at, data) VALUES {}",
        vec![row; count].join(", ")
    );
    transaction.execute_raw(dialect.statement(&sql, values)).await?;
    Ok(())
}

async fn move_head(
    dialect: Dialect,
    transaction: &DatabaseTransaction,
    head: &Head,
    last: Option<Position>,
    recorded: Timestamp,
) -> Result<(), DbErr> {
    let last = last.map_or(head.position, Position::get);
    let values = vec![last.into(), dialect.time(recorded), head.position.into()];
    let sql = "UPDATE event_head SET position = ?, recorded_at = ? WHERE id = 1 AND position = ?";
    let moved = transaction.execute_raw(dialect.statement(sql, values)).await?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(DbErr::RecordNotUpdated) }
}
