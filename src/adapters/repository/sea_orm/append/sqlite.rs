//! Writing to `SQLite`.
//!
//! The driver runs statements in a thread of its own, and each call there and back costs more than a row. So a transaction
//! is one call with all of it in one text, or when it is very large, some hundred rows a call.

mod checkpointer;
mod keys;
mod newest_keys;
mod parameters;
mod text;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::sqlx::error::{DatabaseError, ErrorKind};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Executor, Row as _};

use crate::adapters::repository::sea_orm::append::connection::{
    Commit, Failure, Fenced, Head, WriterConnection, WriterId, Written, fenced, last_position, recorded_after, written,
};
use crate::adapters::repository::sea_orm::append::rows::{Key, PlacedRow, Row};
use crate::adapters::repository::sea_orm::append::sqlite::checkpointer::Checkpointer;
use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::{Batch, NewestKeys};
use crate::adapters::repository::sea_orm::append::sqlite::parameters::{Parameters, ROW_COLUMNS, ROW_PARAMETERS};
use crate::adapters::repository::sea_orm::append::sqlite::text::{TEXT_ROWS_MAX, Texts};
use crate::adapters::repository::sea_orm::fault::{Effect, Noticed};
use crate::adapters::repository::sea_orm::key_index::key_start;
use crate::adapters::repository::sea_orm::row::timestamp;
use crate::adapters::repository::sea_orm::subject_index::{BEHIND_MAX, CATCH_UP};
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// Rows in one INSERT. Few fixed sizes, so that the prepared statements stay few and hot.
const INSERT_ROWS: [usize; 6] = [512, 128, 32, 8, 2, 1];

/// Subjects looked up by one statement, in few fixed sizes for the same reason.
const LOOK_UPS: [usize; 3] = [100, 10, 1];

const FENCE: &str = "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) VALUES (?, 0, 0, 0, ?) \
     ON CONFLICT (writer) DO UPDATE SET fence = fence + 1, used_at = excluded.used_at \
     RETURNING fence, commit_number, position";

/// Locks the log and takes places.
const BEGIN: &str = "\
    BEGIN IMMEDIATE; \
    UPDATE event_head SET position = position + ?1, recorded_at = max(coalesce(recorded_at, ?2), ?2) WHERE id = 1 \
        RETURNING position, recorded_at, indexed_through";

/// Notes the commit and makes it.
const NOTE: &str = "\
    INSERT INTO event_writer (writer, fence, commit_number, position, used_at) VALUES (?1, 0, ?2, ?3, ?4) \
        ON CONFLICT (writer) DO UPDATE SET commit_number = ?2, position = ?3, used_at = ?4";

pub(super) struct SqliteWriter {
    connection: SqliteConnection,
    /// Up to where events have their entries in the index by subject, as far as this connection has seen.
    indexed: i64,
    /// The head, as far as this connection has seen.
    head: i64,
    newest: NewestKeys,
    /// What the transaction under way adds.
    pending: Option<Batch>,
    texts: Texts,
    checkpointer: Checkpointer,
}

impl SqliteWriter {
    pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: options.connect().await?,
            indexed: 0,
            head: 0,
            newest: NewestKeys::default(),
            pending: None,
            texts: Texts::default(),
            checkpointer: Checkpointer::new(options),
        })
    }

    /// Appends `rows` by one call. Given up half-way it goes no further than the statement it is in: the driver's thread
    /// stops when nobody takes its results any more. So it cannot commit after a later connection's fence, which waits for
    /// the write lock.
    async fn append_at_once(&mut self, commit: &Commit, rows: &[Row<'_>], batch: Batch) -> Result<Written, Failure> {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let catches_up = self.head + count - self.indexed >= BEHIND_MAX;
        let query = self.texts.query(commit, rows, &batch, self.newest.through(), catches_up);
        let query = query.map_err(|error| Failure { error, may_be_committed: false })?;
        let appended = async {
            let rows = query.fetch_all(&mut self.connection).await?;
            let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            (self.head, self.indexed) = (row.try_get(0)?, row.try_get(1)?);
            written(self.head, recorded_at(row, 2)?)
        };
        match appended.await {
            Ok(written) => {
                self.newest.meet(self.head - count);
                self.committed(batch.up_to(self.head));
                Ok(written)
            }
            Err(error) if batch.has_keys() && is_null_violation(&error) => {
                self.newest.doubt();
                Err(Failure { error: Noticed::Overtaken.into(), may_be_committed: false })
            }
            Err(error) => Err(unsettled(error)),
        }
    }

    fn committed(&mut self, batch: Batch) {
        self.checkpointer.note(batch.events(), batch.bytes());
        self.newest.commit(batch);
    }

    /// Makes the indexes ready for `batch`, whose keys are new, with the head at `head` and locked.
    async fn prepare(&mut self, head: i64, batch: Batch) -> Result<(), sqlx::Error> {
        self.newest.meet(head);
        let batch = if self.newest.is_due(&batch) {
            keys::catch_up(&mut self.connection, &mut self.newest, head).await?;
            let deletions = keys::deletions(&mut self.connection).await?;
            let parts = self.newest.due(&batch, deletions);
            keys::index(&mut self.connection, &parts).await?;
            batch.with(parts)
        } else {
            batch
        };
        self.pending = Some(batch);
        Ok(())
    }

    /// Whether one of `rows` is stored, with the head at `head` and locked.
    async fn has_any(&mut self, head: i64, rows: impl Iterator<Item = Key>) -> Result<bool, sqlx::Error> {
        let keys: Vec<Key> = rows.collect();
        if keys.is_empty() {
            return Ok(false);
        }
        keys::catch_up(&mut self.connection, &mut self.newest, head).await?;
        Ok(!keys::stored(&mut self.connection, &self.newest, &keys).await?.is_empty())
    }

    /// Inserts rows, each with its place and when it was recorded.
    async fn insert_rows(&mut self, rows: &[(i64, Option<i64>, &Row<'_>)]) -> Result<(), sqlx::Error> {
        let insert = format!("INSERT INTO events (id, recorded_at, {ROW_COLUMNS}) VALUES ");
        insert_all(
            &mut self.connection,
            (&insert, ""),
            ROW_PARAMETERS + 2,
            rows,
            |parameters, (place, recorded, row)| {
                parameters.add(place)?;
                parameters.add(recorded)?;
                parameters.add_row(row, row.event.time.map(Timestamp::unix_micros).or(*recorded))
            },
        )
        .await
    }

    /// Inserts `rows` next to each other, from `first` on.
    async fn insert_run(&mut self, first: i64, recorded: Timestamp, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
        let recorded = Some(recorded.unix_micros());
        let rows: Vec<_> = (first..).zip(rows).map(|(place, row)| (place, recorded, row)).collect();
        self.insert_rows(&rows).await
    }

    /// Lets the index by subject catch up if it is due.
    async fn index_through(&mut self, last: i64) -> Result<(), sqlx::Error> {
        self.head = last;
        if self.head - self.indexed >= BEHIND_MAX {
            self.connection.execute(sqlx::raw_sql(CATCH_UP)).await?;
            self.indexed = last;
        }
        Ok(())
    }

    /// Moves the head from where it was found.
    async fn move_head(&mut self, from: &Head, to: i64, recorded: Option<Timestamp>) -> Result<(), sqlx::Error> {
        let move_head = "UPDATE event_head SET position = ?, recorded_at = ? WHERE id = 1 AND position = ?";
        let query = sqlx::query(move_head).bind(to).bind(recorded.map(Timestamp::unix_micros)).bind(from.position);
        let moved = query.execute(&mut self.connection).await?.rows_affected();
        if moved == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }

    /// Lets the index by subject catch up if it is due, and notes the commit, whose last event is at `last`.
    async fn finish(&mut self, commit: &Commit, last: i64) -> Result<(), sqlx::Error> {
        self.index_through(last).await?;
        let now = Timestamp::now().unix_micros() / 1_000_000;
        let query = sqlx::query(NOTE).bind(commit.writer.0.as_slice()).bind(commit.number).bind(last).bind(now);
        query.execute(&mut self.connection).await.map(|_| ())
    }
}

#[async_trait]
impl WriterConnection for SqliteWriter {
    async fn fence(&mut self, writer: WriterId, unix_seconds: i64) -> Result<Fenced, sqlx::Error> {
        let fence = sqlx::query(FENCE).bind(writer.0.as_slice()).bind(unix_seconds);
        let row = fence.fetch_one(&mut self.connection).await?;
        Ok(fenced(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }

    fn must_look(&self, rows: &[Row<'_>]) -> bool {
        let mut keys = rows.iter().filter_map(|row| row.key.as_ref());
        keys.any(|key| !self.newest.is_current() || self.newest.has(key_start(key)))
    }

    async fn append_new(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure> {
        self.checkpointer.tend().await;
        let batch = Batch::of((self.newest.through() + 1..).zip(rows));
        if rows.len() <= TEXT_ROWS_MAX && !self.newest.is_due(&batch) {
            return self.append_at_once(commit, rows, batch).await;
        }
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let inserted = async {
            let begin = sqlx::query(BEGIN).bind(count).bind(Timestamp::now().unix_micros());
            let head = begin.fetch_all(&mut self.connection).await?;
            let head = head.first().ok_or(sqlx::Error::RowNotFound)?;
            let last: i64 = head.try_get(0)?;
            self.indexed = head.try_get(2)?;
            let recorded = recorded_at(head, 1)?;
            if self.has_any(last - count, rows.iter().filter_map(|row| row.key)).await? {
                return Err(Noticed::Stored.into());
            }
            self.prepare(last - count, Batch::of((last - count + 1..).zip(rows))).await?;
            self.insert_run(last - count + 1, recorded, rows).await?;
            self.finish(commit, last).await?;
            written(last, recorded)
        };
        let written = inserted.await.map_err(|error| Failure { error, may_be_committed: false })?;
        self.commit().await?;
        Ok(written)
    }

    async fn lock_head(&mut self) -> Result<Head, sqlx::Error> {
        self.checkpointer.tend().await;
        self.connection.execute(sqlx::raw_sql("BEGIN IMMEDIATE")).await?;
        let sql = "SELECT position, (SELECT coalesce(max(id), 0) FROM events), recorded_at, indexed_through FROM event_head \
             WHERE id = 1";
        let head = sqlx::query(sql).fetch_one(&mut self.connection).await?;
        let recorded = head.try_get::<Option<i64>, _>(2)?.and_then(|micros| Timestamp::from_unix_micros(micros).ok());
        (self.head, self.indexed) = (head.try_get(0)?, head.try_get(3)?);
        let newest = head.try_get(1)?;
        if newest > self.head {
            // A foreign writer's rows, which the next events step over.
            self.newest.doubt();
        }
        Ok(Head { position: self.head, newest, recorded })
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<Vec<StoredEvent>, sqlx::Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        keys::catch_up(&mut self.connection, &mut self.newest, self.head).await?;
        keys::stored(&mut self.connection, &self.newest, keys).await
    }

    async fn last_positions(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, sqlx::Error> {
        let unindexed = "SELECT subject, max(id) FROM events WHERE id > ? GROUP BY subject";
        let unindexed = sqlx::query(unindexed).bind(self.indexed).fetch_all(&mut self.connection).await?;
        let newest = unindexed.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let newest: HashMap<&str, i64> = newest.collect::<Result<_, sqlx::Error>>()?;
        let mut lasts = Vec::with_capacity(subjects.len());
        let mut left = subjects;
        for size in LOOK_UPS {
            while left.len() >= size {
                let (chunk, others) = left.split_at(size);
                left = others;
                let look_up = "(SELECT max(position) FROM event_subjects WHERE of_subject = ?)";
                let sql = format!("SELECT {}", vec![look_up; size].join(", "));
                let query =
                    chunk.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, subject| query.bind(subject.as_str()));
                let row = query.fetch_one(&mut self.connection).await?;
                for (index, subject) in chunk.iter().enumerate() {
                    let indexed: Option<i64> = row.try_get(index)?;
                    let last = newest.get(subject.as_str()).copied().max(indexed);
                    lasts.push(last.and_then(|last| Position::new(last).ok()));
                }
            }
        }
        Ok(lasts)
    }

    async fn insert(
        &mut self,
        commit: &Commit,
        head: &Head,
        first: Position,
        rows: &[Row<'_>],
    ) -> Result<Timestamp, sqlx::Error> {
        let recorded = recorded_after(head.recorded);
        let last = last_position(first, rows.len());
        self.prepare(head.position, Batch::of((first.get()..).zip(rows))).await?;
        self.insert_run(first.get(), recorded, rows).await?;
        self.move_head(head, last, Some(recorded)).await?;
        self.finish(commit, last).await.map(|()| recorded)
    }

    async fn insert_placed(
        &mut self,
        head: &Head,
        rows: &[PlacedRow<'_>],
        recorded: Option<Timestamp>,
    ) -> Result<(), sqlx::Error> {
        let last = rows.last().map_or(head.position, |row| row.place);
        let mut keys = HashSet::new();
        let is_repeated = rows.iter().filter_map(|row| row.row.key).any(|key| !keys.insert(key));
        if is_repeated || self.has_any(head.position, keys.into_iter()).await? {
            return Err(Noticed::Stored.into());
        }
        self.prepare(head.position, Batch::of(rows.iter().map(|row| (row.place, &row.row)))).await?;
        let rows: Vec<_> = rows.iter().map(|it| (it.place, it.recorded.map(Timestamp::unix_micros), &it.row)).collect();
        self.insert_rows(&rows).await?;
        self.move_head(head, last, recorded).await?;
        self.index_through(last).await
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(unsettled)?;
        if let Some(batch) = self.pending.take() {
            self.committed(batch);
        }
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.pending = None;
        match self.connection.execute(sqlx::raw_sql("ROLLBACK")).await {
            Ok(_) => Ok(()),
            // Some errors end the transaction themselves, and then there is none to roll back.
            Err(error) if error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "1") => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether there was no value for a column that must have one.
fn is_null_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(error.kind(), ErrorKind::NotNullViolation))
}

fn recorded_at(row: &SqliteRow, index: usize) -> Result<Timestamp, sqlx::Error> {
    timestamp(row.try_get(index)?)
}

/// What was refused for its values or for another writer is not stored; anything else may have struck the commit.
fn unsettled(error: sqlx::Error) -> Failure {
    let may_be_committed = match Effect::of_driver(&error) {
        Effect::Conflict | Effect::DuplicateKey | Effect::Rejected => false,
        Effect::Refused | Effect::Lost => true,
    };
    Failure { error, may_be_committed }
}

/// Inserts `rows` of so many `columns` by statements that are `before` and `after` their values. The parameters of a
/// statement are made while the one before is under way.
async fn insert_all<T: Sync>(
    connection: &mut SqliteConnection,
    (before, after): (&str, &str),
    columns: usize,
    rows: &[T],
    add: impl Fn(&mut Parameters, &T) -> Result<(), sqlx::Error> + Sync,
) -> Result<(), sqlx::Error> {
    let arguments_of = |chunk: &[T]| {
        let mut parameters = Parameters::with_capacity(chunk.len() * columns);
        chunk.iter().try_for_each(|row| add(&mut parameters, row)).map(|()| parameters.into_arguments())
    };
    let row = format!("({})", vec!["?"; columns].join(", "));
    let mut left = rows;
    for size in INSERT_ROWS {
        let mut chunks = left.chunks_exact(size);
        left = chunks.remainder();
        let Some(chunk) = chunks.next() else { continue };
        let sql: Arc<str> = format!("{before}{}{after}", vec![row.as_str(); size].join(", ")).into();
        let mut ready = Some(arguments_of(chunk)?);
        while let Some(arguments) = ready {
            let executing = sqlx::query_with(AssertSqlSafe(Arc::clone(&sql)), arguments).execute(&mut *connection);
            let preparing = async { chunks.next().map(arguments_of).transpose() };
            // The first to be polled is under way while the other one is made.
            (_, ready) = futures_util::try_join!(executing, preparing)?;
        }
    }
    Ok(())
}
