//! Writing to `SQLite`.
//!
//! Statements are carried out one by one, by the library itself and on the writer's own thread. The driver that reads hands
//! each statement to a thread and each row back, which costs more than a row does.

mod checkpointer;
mod fault;
mod index_filter;
mod keys;
mod newest_keys;
mod newest_subjects;
mod open;

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, Params, Row as Found, params};
use sea_orm::sqlx;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use crate::adapters::repository::sea_orm::append::connection::{
    Commit, Failure, Fenced, Head, WriterConnection, WriterId, Written, fenced, last_position, log_is_full,
    recorded_after, written,
};
use crate::adapters::repository::sea_orm::append::rows::{Key, PlacedRow, Row};
use crate::adapters::repository::sea_orm::append::sqlite::checkpointer::Checkpointer;
use crate::adapters::repository::sea_orm::append::sqlite::fault::Fault;
use crate::adapters::repository::sea_orm::append::sqlite::index_filter::IndexFilter;
use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::{Batch, NewestKeys};
use crate::adapters::repository::sea_orm::append::sqlite::newest_subjects::NewestSubjects;
use crate::adapters::repository::sea_orm::append::sqlite::open::File;
use crate::adapters::repository::sea_orm::fault::Noticed;
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

const FENCE: &str = "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) VALUES (?, 0, 0, 0, ?) \
     ON CONFLICT (writer) DO UPDATE SET fence = fence + 1, used_at = excluded.used_at \
     RETURNING fence, commit_number, position";

const HEAD: &str = "SELECT position, (SELECT coalesce(max(id), 0) FROM events), recorded_at, indexed_through FROM event_head \
     WHERE id = 1";

const INSERT: &str = "INSERT INTO events (id, recorded_at, source, type, subject, time, data, event_key, event_id, context) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Moves the head from where it was found.
const MOVE_HEAD: &str = "UPDATE event_head SET position = ?, recorded_at = ? WHERE id = 1 AND position = ?";

/// Notes the commit.
const NOTE: &str = "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) VALUES (?1, 0, ?2, ?3, ?4) \
     ON CONFLICT (writer) DO UPDATE SET commit_number = ?2, position = ?3, used_at = ?4";

const LAST_INDEXED: &str = "SELECT max(position) FROM event_subjects WHERE of_subject = ?";

pub(super) struct SqliteWriter {
    connection: Connection,
    /// Up to where events have their entries in the index by subject, as far as this connection has seen.
    indexed: i64,
    /// The head, as far as this connection has seen.
    head: i64,
    /// The highest place in use: a foreign writer's rows may be above the head.
    highest: i64,
    newest: NewestKeys,
    indexed_keys: IndexFilter,
    subjects: NewestSubjects,
    /// What the transaction under way adds.
    pending: Option<Batch>,
    checkpointer: Checkpointer,
}

impl SqliteWriter {
    pub(super) fn connect(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let file = File::of(options);
        Ok(Self {
            connection: file.open().map_err(Fault::from)?,
            indexed: 0,
            head: 0,
            highest: 0,
            newest: NewestKeys::default(),
            indexed_keys: IndexFilter::new(file.clone()),
            subjects: NewestSubjects::default(),
            pending: None,
            checkpointer: Checkpointer::new(file),
        })
    }

    fn begin(&mut self) -> Result<Head, Fault> {
        self.checkpointer.tend();
        self.execute("BEGIN IMMEDIATE", ())?;
        let (head, indexed) = one(&self.connection, HEAD, (), |row| {
            let recorded: Option<i64> = row.get(2)?;
            let recorded = recorded.and_then(|micros| Timestamp::from_unix_micros(micros).ok());
            Ok((Head { position: row.get(0)?, newest: row.get(1)?, recorded }, row.get(3)?))
        })?;
        (self.head, self.highest, self.indexed) = (head.position, head.position.max(head.newest), indexed);
        if head.newest > head.position {
            // A foreign writer's rows, which the next events step over.
            self.newest.doubt();
        }
        self.newest.meet(head.position);
        if self.newest.is_current() {
            self.indexed_keys.tend(head.position);
        } else {
            self.indexed_keys.doubt();
        }
        Ok(head)
    }

    fn append(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Fault> {
        let head = self.begin()?;
        if rows.iter().any(|row| row.key.is_some()) {
            keys::catch_up(&self.connection, &mut self.newest, head.position)?;
            let keys = rows.iter().filter_map(|row| row.key.as_ref());
            if keys::may_be_stored(&self.connection, &self.newest, &self.indexed_keys, keys)? {
                return Err(Noticed::Stored.into());
            }
        }
        let first = head.first_free(rows.len()).ok_or_else(log_is_full)?;
        let recorded = self.insert_run(commit, &head, first, rows)?;
        Ok(written(last_position(first, rows.len()), recorded)?)
    }

    /// Whether one of `keys` is stored.
    fn has_any(&mut self, head: &Head, keys: impl Iterator<Item = Key>) -> Result<bool, Fault> {
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Ok(false);
        }
        keys::catch_up(&self.connection, &mut self.newest, head.position)?;
        Ok(!keys::stored(&self.connection, &self.newest, &self.indexed_keys, &keys)?.is_empty())
    }

    /// Makes the indexes ready for `batch`, whose keys are new.
    fn prepare(&mut self, head: &Head, batch: Batch) -> Result<(), Fault> {
        let batch = if self.newest.is_due(&batch) {
            keys::catch_up(&self.connection, &mut self.newest, head.position)?;
            let parts = self.newest.due(&batch, keys::deletions(&self.connection)?);
            keys::index(&self.connection, &parts)?;
            self.indexed_keys.add(&parts.entries);
            batch.with(parts)
        } else {
            batch
        };
        self.pending = Some(batch);
        Ok(())
    }

    /// Inserts `rows` next to each other, from `first` on.
    fn insert_run(
        &mut self,
        commit: &Commit,
        head: &Head,
        first: Position,
        rows: &[Row<'_>],
    ) -> Result<Timestamp, Fault> {
        let recorded = recorded_after(head.recorded);
        self.prepare(head, Batch::of((first.get()..).zip(rows)))?;
        self.insert_rows((first.get()..).zip(rows).map(|(place, row)| (place, Some(recorded), row)))?;
        let last = last_position(first, rows.len());
        self.move_head(head, last, Some(recorded))?;
        let placed = rows.iter().enumerate().map(|(index, row)| (last_position(first, index + 1), row));
        self.subjects.follow(&self.connection, self.indexed, first.get() - 1, placed)?;
        let now = Timestamp::now().unix_micros() / 1_000_000;
        self.execute(NOTE, params![commit.writer.0, commit.number, last, now])?;
        Ok(recorded)
    }

    /// Inserts rows, each with its place and when it was recorded.
    fn insert_rows<'r, 'e: 'r>(
        &self,
        rows: impl Iterator<Item = (i64, Option<Timestamp>, &'r Row<'e>)>,
    ) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(INSERT)?;
        for (place, recorded, row) in rows {
            let event = row.event;
            insert.execute(params![
                place,
                recorded.map(Timestamp::unix_micros),
                event.event_source.as_str(),
                event.event_type.as_str(),
                event.subject.as_str(),
                event.time.or(recorded).map(Timestamp::unix_micros),
                event.data.as_ref(),
                row.key,
                row.id(),
                row.context,
            ])?;
        }
        Ok(())
    }

    /// Moves the head from where it was found.
    fn move_head(&self, from: &Head, to: i64, recorded: Option<Timestamp>) -> Result<(), Fault> {
        let moved = self.execute(MOVE_HEAD, (to, recorded.map(Timestamp::unix_micros), from.position))?;
        if moved == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound.into()) }
    }

    /// Inserts `rows` where they have their places.
    fn insert_at(&mut self, head: &Head, rows: &[PlacedRow<'_>], recorded: Option<Timestamp>) -> Result<(), Fault> {
        let last = rows.last().map_or(head.position, |row| row.place);
        let mut keys = HashSet::new();
        let is_repeated = rows.iter().filter_map(|row| row.row.key).any(|key| !keys.insert(key));
        if is_repeated || self.has_any(head, keys.into_iter())? {
            return Err(Noticed::Stored.into());
        }
        self.prepare(head, Batch::of(rows.iter().map(|row| (row.place, &row.row))))?;
        self.insert_rows(rows.iter().map(|row| (row.place, row.recorded, &row.row)))?;
        self.move_head(head, last, recorded)?;
        let before = rows.first().map_or(head.position, |row| row.place - 1);
        self.subjects.follow(&self.connection, self.indexed, before, rows.iter().map(|row| (row.place, &row.row)))
    }

    fn last_position_of(&self, subject: &Subject) -> rusqlite::Result<Option<Position>> {
        let mut stored = self.connection.prepare_cached("SELECT 1 FROM events WHERE id = ?")?;
        for position in self.subjects.positions(subject.as_str()) {
            if stored.exists([position])? {
                return Ok(Position::new(position).ok());
            }
        }
        let indexed: Option<i64> = one(&self.connection, LAST_INDEXED, [subject.as_str()], |row| row.get(0))?;
        Ok(indexed.and_then(|last| Position::new(last).ok()))
    }

    fn last_positions_of(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, Fault> {
        if !subjects.is_empty() {
            self.subjects.take_in(&self.connection, self.indexed, self.highest)?;
        }
        Ok(subjects.iter().map(|subject| self.last_position_of(subject)).collect::<Result<_, _>>()?)
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.execute("COMMIT", ())?;
        self.subjects.committed();
        if let Some(batch) = self.pending.take() {
            self.checkpointer.note(batch.events(), batch.bytes());
            self.newest.commit(batch);
        }
        Ok(())
    }

    fn execute(&self, sql: &'static str, parameters: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(parameters)
    }
}

/// The one row that `sql` finds, read by `read`. The statement is carried out to its end.
fn one<T>(
    connection: &Connection,
    sql: &'static str,
    parameters: impl Params,
    read: impl FnOnce(&Found<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let value = read(rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?)?;
    while rows.next()?.is_some() {}
    Ok(value)
}

/// Nothing in here waits but for the disk and for another process's write, which has a limit.
#[async_trait]
impl WriterConnection for SqliteWriter {
    async fn fence(&mut self, writer: WriterId, unix_seconds: i64) -> Result<Fenced, sqlx::Error> {
        let fence = one(&self.connection, FENCE, params![writer.0, unix_seconds], |row| {
            Ok(fenced(row.get(0)?, row.get(1)?, row.get(2)?))
        });
        Ok(fence.map_err(Fault::from)?)
    }

    async fn append_new(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure> {
        let written = self.append(commit, rows).map_err(Fault::uncommitted)?;
        self.end().map_err(Fault::unsettled)?;
        Ok(written)
    }

    async fn lock_head(&mut self) -> Result<Head, sqlx::Error> {
        Ok(self.begin()?)
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<Vec<StoredEvent>, sqlx::Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        keys::catch_up(&self.connection, &mut self.newest, self.head)?;
        Ok(keys::stored(&self.connection, &self.newest, &self.indexed_keys, keys)?)
    }

    async fn last_positions(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, sqlx::Error> {
        Ok(self.last_positions_of(subjects)?)
    }

    async fn insert(
        &mut self,
        commit: &Commit,
        head: &Head,
        first: Position,
        rows: &[Row<'_>],
    ) -> Result<Timestamp, sqlx::Error> {
        Ok(self.insert_run(commit, head, first, rows)?)
    }

    async fn insert_placed(
        &mut self,
        head: &Head,
        rows: &[PlacedRow<'_>],
        recorded: Option<Timestamp>,
    ) -> Result<(), sqlx::Error> {
        Ok(self.insert_at(head, rows, recorded)?)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.end().map_err(Fault::unsettled)
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.pending = None;
        self.subjects.rolled_back();
        // Some errors end the transaction themselves, and then there is none to roll back.
        if !self.connection.is_autocommit() {
            self.execute("ROLLBACK", ()).map_err(Fault::from)?;
        }
        Ok(())
    }
}
