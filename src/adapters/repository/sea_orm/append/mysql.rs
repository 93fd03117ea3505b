//! Writing to `MySQL` and `MariaDB`.
//!
//! What needs no look before is one text, its `COMMIT` included: a single round trip, and a text ends at its first error.
//! Each statement costs more than a row, so they are few, and every statement begins a transaction where none is open.
//! Values are written as hexadecimal literals, which need no escape; a text has no shape that a statement cache would
//! have to keep, whatever the number of rows.
//!
//! The text finds out by itself whether it may go on, once the head is locked: a NULL where none may be keeps it from its
//! `COMMIT` when the last commit was recorded in our future, when somebody else has rows above the head, and, because a
//! text could arrive late, when a later connection has raised the fence.

use std::fmt::Write;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Either, Executor, FromRow, Row as _};

use crate::adapters::repository::sea_orm::append::connection::{
    Commit, Failure, Fenced, Head, WriterConnection, WriterId, Written, fenced, last_position, recorded_after,
};
use crate::adapters::repository::sea_orm::append::rows::{Key, PlacedRow, Row};
use crate::adapters::repository::sea_orm::fault::Effect;
use crate::adapters::repository::sea_orm::literal::{Hex, push_hex};
use crate::adapters::repository::sea_orm::query::{Dialect, Engine, Path, calendar};
use crate::adapters::repository::sea_orm::row::{EVENT_COLUMNS, unix_micros};
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// Bytes of statements in one packet, beyond which a transaction takes another round trip: well below the smallest
/// `max_allowed_packet` in use, 4 MiB. A single row may be larger.
const PACKET_BYTES: usize = 1024 * 1024;

/// The same over TLS. The driver leaves Nagle's algorithm on and writes each TLS record (16 KiB) by itself, so that the
/// second one of a packet would wait for the acknowledgement of the first, which a receiver may delay by 40 ms.
const TLS_PACKET_BYTES: usize = 15 * 1024;

/// Bytes of a row beside data and attributes, and of the statements around the last one.
const ROW_BYTES: usize = 512;

/// Keys or subjects looked up by one statement.
const LOOK_UPS: usize = 100;

const COMMIT: &str = "COMMIT";

const NULL: &str = "NULL";

/// Source: MySQL, "Server Error Message Reference", `ER_BAD_NULL_ERROR`.
const BAD_NULL: u16 = 1048;

/// Source: MySQL, "Server Error Message Reference", `ER_DIVISION_BY_ZERO`.
const DIVISION_BY_ZERO: u16 = 1365;

/// After this the server gives up what a lost connection holds, the head row above all.
const WAIT_TIMEOUT_SECONDS: u32 = 30;

/// The same for a connection inside a transaction, where the server knows the difference.
const IDLE_TRANSACTION_TIMEOUT_SECONDS: u32 = 5;

/// How long to wait for a lock that another writer holds.
const LOCK_WAIT_TIMEOUT_SECONDS: u32 = 2;

pub(super) struct MySqlWriter {
    dialect: Dialect,
    connection: MySqlConnection,
    packet_bytes: usize,
}

impl MySqlWriter {
    pub(super) async fn connect(dialect: Dialect, options: &MySqlConnectOptions) -> Result<Self, sqlx::Error> {
        let connection = options.connect().await?;
        let mut writer = Self { dialect, connection, packet_bytes: PACKET_BYTES };
        let mut settings = format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION autocommit = 0, \
             sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO'), \
             innodb_lock_wait_timeout = {LOCK_WAIT_TIMEOUT_SECONDS}, wait_timeout = {WAIT_TIMEOUT_SECONDS}"
        );
        if dialect.engine == Engine::MariaDb {
            let _written =
                write!(settings, "; SET SESSION idle_transaction_timeout = {IDLE_TRANSACTION_TIMEOUT_SECONDS}");
        }
        writer.run(settings).await?;
        let cipher = writer.run("SHOW SESSION STATUS LIKE 'Ssl_cipher'".to_owned()).await?;
        if cipher.first().map(|row| row.try_get::<String, _>(1)).transpose()?.is_some_and(|name| !name.is_empty()) {
            writer.packet_bytes = TLS_PACKET_BYTES;
        }
        Ok(writer)
    }

    /// Runs `sql` and returns its rows. Only for SQL whose values are literals of ours.
    async fn run(&mut self, sql: String) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut results = self.connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql)));
        let mut rows = Vec::new();
        while let Some(result) = results.try_next().await? {
            match result {
                Either::Left(_) => {}
                Either::Right(row) => rows.push(row),
            }
        }
        Ok(rows)
    }

    /// Sends `script` in packets and returns all rows.
    async fn send(&mut self, script: Script) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut rows = Vec::new();
        for packet in script.packets {
            rows.extend(self.run(packet).await?);
        }
        Ok(rows)
    }

    /// Sends `script`, which moves the head first and commits last, and returns the new head.
    async fn send_to_commit(&mut self, script: Script) -> Result<Position, Failure> {
        let mut head = None;
        let mut answered = 0;
        for packet in script.packets {
            let mut results = self.connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(packet)));
            loop {
                match results.try_next().await {
                    Ok(Some(Either::Left(done))) => {
                        answered += 1;
                        head.get_or_insert(done.last_insert_id());
                    }
                    Ok(Some(Either::Right(_))) => {}
                    Ok(None) => break,
                    Err(error) => {
                        let is_commit = answered + 1 == script.statements;
                        return Err(Failure { may_be_committed: may_be_committed(&error, is_commit), error });
                    }
                }
            }
        }
        let head = head.and_then(|head| Position::new(i64::try_from(head).ok()?).ok());
        head.ok_or_else(|| Failure { error: sqlx::Error::RowNotFound, may_be_committed: true })
    }
}

#[async_trait]
impl WriterConnection for MySqlWriter {
    async fn fence(&mut self, writer: WriterId, unix_seconds: i64) -> Result<Fenced, sqlx::Error> {
        let writer = Hex(&writer.0);
        let sql = format!(
            "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) \
             VALUES ({writer}, 0, 0, 0, {unix_seconds}) \
             ON DUPLICATE KEY UPDATE fence = fence + 1, used_at = {unix_seconds}; \
             SELECT fence, commit_number, position FROM event_writer WHERE writer = {writer}; \
             COMMIT"
        );
        let rows = self.run(sql).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(fenced(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }

    async fn append_new(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure> {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let now = Timestamp::now();
        let recorded = literal(now);
        let (writer, Commit { fence, number, .. }) = (Hex(&commit.writer.0), commit);
        let mut script = Script::begin(self.packet_bytes);
        script.statement(&format!(
            "UPDATE event_head SET position = LAST_INSERT_ID(IF(recorded_at > {recorded}, NULL, position + {count})), \
             recorded_at = {recorded} WHERE id = 1"
        ));
        // A head row that is gone leaves an old LAST_INSERT_ID(). Rows above the head are somebody else's.
        script.statement(&format!(
            "UPDATE event_writer SET commit_number = {number}, position = LAST_INSERT_ID(), \
             used_at = UNIX_TIMESTAMP() WHERE writer = {writer} AND fence = {fence} AND position < LAST_INSERT_ID() \
             AND COALESCE((SELECT MAX(id) FROM events), 0) <= LAST_INSERT_ID() - {count}"
        ));
        script.insert(None, &recorded, rows);
        script.statement(COMMIT);
        match self.send_to_commit(script).await {
            Err(Failure { error, .. }) if number_of(&error) == Some(BAD_NULL) => {
                let not_committed = |error| Failure { error, may_be_committed: false };
                self.rollback().await.map_err(not_committed)?;
                self.append_in_steps(commit, rows).await
            }
            answer => answer.map(|last| Written { last, recorded: now }),
        }
    }

    async fn lock_head(&mut self) -> Result<Head, sqlx::Error> {
        // Two statements: what is read along with a lock may be older than the lock.
        let sql = "SELECT position FROM event_head WHERE id = 1 FOR UPDATE; \
                   SELECT position, recorded_at, (SELECT MAX(id) FROM events) FROM event_head WHERE id = 1";
        let rows = self.run(sql.to_owned()).await?;
        let [_, row] = rows.as_slice() else { return Err(sqlx::Error::RowNotFound) };
        head(row)
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let mut events = Vec::new();
        for keys in keys.chunks(LOOK_UPS) {
            let list: Vec<String> = keys.iter().map(|key| Hex(key).to_string()).collect();
            let list = list.join(", ");
            let rows = self.run(format!("SELECT {EVENT_COLUMNS} FROM events WHERE event_key IN ({list})")).await?;
            for row in rows {
                events.push(StoredEvent::from_row(&row)?);
            }
        }
        Ok(events)
    }

    async fn last_positions(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, sqlx::Error> {
        let table = self.dialect.events_by(Path::Subject);
        let mut lasts = Vec::with_capacity(subjects.len());
        for subjects in subjects.chunks(LOOK_UPS) {
            let look_ups: Vec<String> = subjects
                .iter()
                .map(|subject| {
                    let subject = Hex(subject.as_str().as_bytes());
                    format!("(SELECT id FROM {table} WHERE subject = _utf8mb4 {subject} ORDER BY id DESC LIMIT 1)")
                })
                .collect();
            let rows = self.run(format!("SELECT {}", look_ups.join(", "))).await?;
            let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            for index in 0..subjects.len() {
                lasts.push(row.try_get::<Option<i64>, _>(index)?.and_then(|last| Position::new(last).ok()));
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
        let time = recorded_after(head.recorded);
        let recorded = literal(time);
        let last = last_position(first, rows.len());
        let mut script = Script::begin(self.packet_bytes);
        script.insert(Some(first), &recorded, rows);
        script.move_head(head, last, &recorded);
        script.note(commit, last);
        let answer = self.send(script).await.map_err(told_apart)?;
        let moved: Option<i64> = answer.first().map(|row| row.try_get(0)).transpose()?;
        if moved == Some(1) { Ok(time) } else { Err(sqlx::Error::RowNotFound) }
    }

    async fn insert_placed(
        &mut self,
        head: &Head,
        rows: &[PlacedRow<'_>],
        recorded: Option<Timestamp>,
    ) -> Result<(), sqlx::Error> {
        let last = rows.last().map_or(head.position, |row| row.place);
        let recorded = recorded.map_or_else(|| NULL.to_owned(), literal);
        let mut script = Script::begin(self.packet_bytes);
        script.insert_placed(rows);
        script.move_head(head, last, &recorded);
        let moved: Option<i64> = self.send(script).await?.first().map(|row| row.try_get(0)).transpose()?;
        if moved == Some(1) { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let committed = self.run(COMMIT.to_owned()).await;
        committed.map(|_| ()).map_err(|error| Failure { may_be_committed: may_be_committed(&error, true), error })
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.run("ROLLBACK".to_owned()).await.map(|_| ())
    }
}

/// Whether a text that ended with `error` may have committed, `is_commit` when it is its `COMMIT` that failed.
fn may_be_committed(error: &sqlx::Error, is_commit: bool) -> bool {
    match Effect::of_driver(error) {
        Effect::Lost => true,
        Effect::Conflict => false,
        Effect::DuplicateKey | Effect::Rejected | Effect::Refused => is_commit,
    }
}

fn number_of(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// A division by zero says that the fence has fallen: the connection is of no more use.
fn told_apart(error: sqlx::Error) -> sqlx::Error {
    match number_of(&error) {
        Some(DIVISION_BY_ZERO) => sqlx::Error::Protocol("the writer was fenced off".to_owned()),
        Some(_) | None => error,
    }
}

/// Statements of one transaction, in packets of bounded size.
struct Script {
    packets: Vec<String>,
    packet_bytes: usize,
    /// How many there are.
    statements: usize,
}

impl Script {
    fn begin(packet_bytes: usize) -> Self {
        Self { packets: vec![String::new()], packet_bytes, statements: 0 }
    }

    /// Adds a statement that is whole.
    fn statement(&mut self, sql: &str) {
        self.separate();
        self.push(sql);
    }

    /// Ends the statement before, if there is one in this packet.
    fn separate(&mut self) {
        self.statements += 1;
        if !self.packet().is_empty() {
            self.push("; ");
        }
    }

    fn push(&mut self, sql: &str) {
        self.packet().push_str(sql);
    }

    fn packet(&mut self) -> &mut String {
        self.packets.last_mut().expect("there is always a packet")
    }

    /// Moves the head from where it was found, and selects how many rows that were.
    fn move_head(&mut self, from: &Head, to: i64, recorded: &str) {
        self.statement(&format!(
            "UPDATE event_head SET position = {to}, recorded_at = {recorded} WHERE id = 1 AND position = {}",
            from.position
        ));
        self.statement("SELECT CAST(ROW_COUNT() AS SIGNED)");
    }

    /// Inserts `rows` at their places.
    fn insert_placed(&mut self, rows: &[PlacedRow<'_>]) {
        let mut is_open = false;
        for PlacedRow { place, recorded, row } in rows {
            is_open = self.begin_row(row, is_open);
            let _written = write!(self.packet(), "{place}, ");
            let recorded = recorded.map_or_else(|| NULL.to_owned(), literal);
            self.row(&recorded, row, false);
        }
    }

    /// Inserts `rows`, recorded at the literal `recorded`, from `first` on; without it, up to `LAST_INSERT_ID()`, and only
    /// if the statement before has changed one row.
    fn insert(&mut self, first: Option<Position>, recorded: &str, rows: &[Row<'_>]) {
        let mut is_open = false;
        for (index, row) in rows.iter().enumerate() {
            is_open = self.begin_row(row, is_open);
            let _written = match first {
                Some(first) => write!(self.packet(), "{}, ", last_position(first, index + 1)),
                None => write!(self.packet(), "LAST_INSERT_ID() - {}, ", rows.len() - 1 - index),
            };
            self.row(recorded, row, first.is_none() && index == 0);
        }
    }

    /// Begins the next row of an INSERT, a new one unless one is open in this packet and has room. One is open then.
    fn begin_row(&mut self, row: &Row<'_>, is_open: bool) -> bool {
        let has_room = self.packet().len() + row.bytes() * 2 + ROW_BYTES <= self.packet_bytes;
        if is_open && has_room {
            self.push(", (");
            return true;
        }
        if is_open {
            self.packets.push(String::with_capacity(self.packet_bytes));
        }
        self.separate();
        self.push(
            "INSERT INTO events \
             (id, source, type, subject, time, recorded_at, data, event_key, event_id, context) VALUES (",
        );
        true
    }

    fn row(&mut self, recorded: &str, row: &Row<'_>, is_conditional: bool) {
        let event = row.event;
        let sql = self.packet();
        sql.push_str(if is_conditional { "IF(ROW_COUNT() = 1, " } else { "" });
        push_hex(sql, event.event_source.as_str().as_bytes());
        sql.push_str(if is_conditional { ", NULL), " } else { ", " });
        for text in [event.event_type.as_str(), event.subject.as_str()] {
            push_hex(sql, text.as_bytes());
            sql.push_str(", ");
        }
        match event.time {
            Some(time) => sql.push_str(&literal(time)),
            None => sql.push_str(recorded),
        }
        sql.push_str(", ");
        sql.push_str(recorded);
        sql.push_str(", ");
        push_hex(sql, &event.data);
        for value in [row.key.as_ref().map(Key::as_slice), row.id().map(str::as_bytes), row.context.as_deref()] {
            sql.push_str(", ");
            match value {
                Some(bytes) => push_hex(sql, bytes),
                None => sql.push_str(NULL),
            }
        }
        sql.push(')');
    }

    /// Notes the commit, whose last event is at `last`; divides by zero when the fence has been raised.
    fn note(&mut self, commit: &Commit, last: i64) {
        let (writer, Commit { fence, number, .. }) = (Hex(&commit.writer.0), commit);
        self.statement(&format!(
            "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) \
             VALUES ({writer}, {fence}, {number}, {last}, UNIX_TIMESTAMP()) \
             ON DUPLICATE KEY UPDATE commit_number = {number} DIV (fence = {fence}), position = {last}, \
             used_at = UNIX_TIMESTAMP()"
        ));
    }
}

/// Reads a row of the head: what it says, when it was recorded, and the newest event.
fn head(row: &MySqlRow) -> Result<Head, sqlx::Error> {
    let recorded: Option<time::PrimitiveDateTime> = row.try_get(1)?;
    let recorded = recorded.and_then(|time| Timestamp::from_unix_micros(unix_micros(time.date(), time.time())).ok());
    let newest: Option<i64> = row.try_get(2)?;
    Ok(Head { position: row.try_get(0)?, newest: newest.unwrap_or(0), recorded })
}

/// A time as a literal.
fn literal(time: Timestamp) -> String {
    format!("TIMESTAMP'{}'", calendar(time))
}
