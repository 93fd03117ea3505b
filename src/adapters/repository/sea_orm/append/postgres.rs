//! Writing to `PostgreSQL`.
//!
//! What needs no look before is one statement that commits by itself: a single round trip, the values of several rows
//! bound as arrays, so that one prepared statement serves any number of them. Because such a statement could arrive late, it
//! checks its connection's fence in the same breath, and fails by a division by zero when a later connection has raised
//! it.

use async_trait::async_trait;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgRow};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Executor, FromRow, Row as _};
use time::OffsetDateTime;

use crate::adapters::repository::sea_orm::append::connection::{
    Commit, Failure, Fenced, Head, WriterConnection, WriterId, Written, fenced, last_position, recorded_after, written,
};
use crate::adapters::repository::sea_orm::append::rows::{Key, PlacedRow, Row};
use crate::adapters::repository::sea_orm::fault::Effect;
use crate::adapters::repository::sea_orm::query::utc;
use crate::adapters::repository::sea_orm::row::EVENT_COLUMNS;
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// What the server gives up on, so that a lost connection cannot hold the head row for long.
const SETTINGS: &str = "SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '5s'; \
     SET default_transaction_isolation = 'read committed'";

const FENCE: &str = "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) VALUES ($1, 0, 0, 0, $2) \
     ON CONFLICT (writer) DO UPDATE SET fence = event_writer.fence + 1, used_at = $2 \
     RETURNING fence, commit_number, position";

/// The head first, which all writers queue for; the writer's row tells the commit, and whether the fence still stands;
/// the division at the end is for a writer's row that is gone.
const APPEND_NEW: &str = "\
    WITH head AS ( \
        UPDATE event_head SET position = position + $1, \
            recorded_at = GREATEST(recorded_at, $2) WHERE id = 1 RETURNING position - $1 AS before, recorded_at), \
    writer AS ( \
        UPDATE event_writer SET commit_number = $3 / (fence = $4)::int, position = head.before + $1, used_at = $5 \
        FROM head WHERE writer = $6 RETURNING 1), \
    inserted AS ( \
        INSERT INTO events (id, source, type, subject, time, recorded_at, data, event_key, event_id, context) \
        SELECT head.before + given.place, given.source, given.type, given.subject, \
            COALESCE(given.time, head.recorded_at), head.recorded_at, given.data, given.event_key, given.event_id, \
            given.context \
        FROM head, unnest($7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::bytea[], $12::bytea[], \
            $13::text[], $14::bytea[]) WITH ORDINALITY \
            AS given (source, type, subject, time, data, event_key, event_id, context, place)) \
    SELECT (head.before + $1) / (SELECT count(*) FROM writer), recorded_at FROM head";

/// The same for a lone row, which needs no arrays: the server takes a quarter less time. Without a writer's row there is
/// no position.
const APPEND_ONE: &str = "\
    WITH head AS ( \
        UPDATE event_head SET position = position + 1, \
            recorded_at = GREATEST(recorded_at, $1) WHERE id = 1 RETURNING position, recorded_at), \
    writer AS ( \
        UPDATE event_writer SET commit_number = $2 / (fence = $3)::int, position = head.position, used_at = $4 \
        FROM head WHERE writer = $5 RETURNING event_writer.position) \
    INSERT INTO events (id, source, type, subject, time, recorded_at, data, event_key, event_id, context) \
    SELECT (SELECT position FROM writer), $6::text, $7::text, $8::text, COALESCE($9::timestamptz, recorded_at), \
        recorded_at, $10::bytea, $11::bytea, $12::text, $13::bytea \
    FROM head RETURNING id, recorded_at";

const INSERT: &str = "\
    INSERT INTO events (id, source, type, subject, time, recorded_at, data, event_key, event_id, context) \
    SELECT $1 + given.place - 1, given.source, given.type, given.subject, COALESCE(given.time, $2), $2, given.data, \
        given.event_key, given.event_id, given.context \
    FROM unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[], $8::bytea[], $9::text[], \
        $10::bytea[]) WITH ORDINALITY AS given (source, type, subject, time, data, event_key, event_id, context, place)";

const INSERT_PLACED: &str = "\
    INSERT INTO events (id, recorded_at, source, type, subject, time, data, event_key, event_id, context) \
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], \
        $7::bytea[], $8::bytea[], $9::text[], $10::bytea[])";

const MOVE_HEAD: &str = "UPDATE event_head SET position = $1, recorded_at = $2 WHERE id = 1 AND position = $3";

const NOTE: &str = "UPDATE event_writer SET commit_number = $1 / (fence = $2)::int, position = $3, used_at = $4 \
     WHERE writer = $5";

/// Bytes of rows in one statement over TLS. The driver leaves Nagle's algorithm on and writes each TLS record (16 KiB)
/// by itself, so that the second one of a statement would wait for the acknowledgement of the first, which a receiver
/// may delay by 40 ms.
const TLS_STATEMENT_BYTES: usize = 14 * 1024;

/// Bytes of a row beside data and attributes: lengths, times, the key.
const ROW_BYTES: usize = 64;

pub(super) struct PostgresWriter {
    connection: PgConnection,
    statement_bytes: usize,
    /// Whether a BEGIN was sent that nothing has ended: a ROLLBACK without one is logged as a warning.
    is_in_transaction: bool,
}

impl PostgresWriter {
    pub(super) async fn connect(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = options.connect().await?;
        connection.execute(sqlx::raw_sql(SETTINGS)).await?;
        let is_tls = "SELECT COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";
        let is_tls: bool = sqlx::query_scalar(is_tls).fetch_one(&mut connection).await?;
        let statement_bytes = if is_tls { TLS_STATEMENT_BYTES } else { usize::MAX };
        Ok(Self { connection, statement_bytes, is_in_transaction: false })
    }
}

#[async_trait]
impl WriterConnection for PostgresWriter {
    async fn fence(&mut self, writer: WriterId, unix_seconds: i64) -> Result<Fenced, sqlx::Error> {
        let fence = sqlx::query(FENCE).bind(writer.0.as_slice()).bind(unix_seconds);
        let row = fence.fetch_one(&mut self.connection).await?;
        Ok(fenced(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }

    async fn append_new(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure> {
        if part(rows, self.statement_bytes) < rows.len() {
            return self.append_in_steps(commit, rows).await;
        }
        let query = if let [row] = rows { append_one(commit, row) } else { append_many(commit, rows) };
        let appended = query.fetch_one(&mut self.connection).await;
        match appended.map(|row| written(row.try_get(0)?, recorded_at(&row, 1)?)) {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => Err(Failure { error, may_be_committed: true }),
            // An error in so many words undid the statement.
            Err(error) => {
                let may_be_committed = Effect::of_driver(&error) == Effect::Lost;
                Err(Failure { error: told_apart(error), may_be_committed })
            }
        }
    }

    async fn lock_head(&mut self) -> Result<Head, sqlx::Error> {
        self.is_in_transaction = true;
        self.connection.execute(sqlx::raw_sql("BEGIN")).await?;
        let lock = sqlx::query("SELECT position, recorded_at FROM event_head WHERE id = 1 FOR UPDATE");
        let head = lock.fetch_one(&mut self.connection).await?;
        // A statement of its own: what is read along with a lock may be older than the lock.
        let newest = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM events").fetch_one(&mut self.connection).await?;
        let recorded = recorded_at(&head, 1).ok();
        Ok(Head { position: head.try_get(0)?, newest: newest.try_get(0)?, recorded })
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<Vec<StoredEvent>, sqlx::Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&[u8]> = keys.iter().map(Key::as_slice).collect();
        // The index holds no rows without a key, and must be sure that none is asked for.
        let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE event_key = ANY($1) AND event_key IS NOT NULL");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(keys).fetch_all(&mut self.connection).await?;
        rows.iter().map(StoredEvent::from_row).collect()
    }

    async fn last_positions(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, sqlx::Error> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let subjects: Vec<&str> = subjects.iter().map(|subject| subject.as_str()).collect();
        // A range of pairs in the order of the index, so that no other one is taken.
        let sql = "SELECT (SELECT e.id FROM events AS e WHERE (e.subject, e.id) > (asked.subject, 0) \
                   AND (e.subject, e.id) <= (asked.subject, 9223372036854775807) \
                   ORDER BY e.subject DESC, e.id DESC LIMIT 1) \
                   FROM unnest($1::text[]) WITH ORDINALITY AS asked (subject, place) ORDER BY asked.place";
        let rows = sqlx::query(sql).bind(subjects).fetch_all(&mut self.connection).await?;
        rows.iter().map(|row| Ok(row.try_get::<Option<i64>, _>(0)?.and_then(|last| Position::new(last).ok()))).collect()
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
        let (mut left, mut place) = (rows, first.get());
        while !left.is_empty() {
            let (rows, others) = left.split_at(part(left, self.statement_bytes));
            let rows: Vec<&Row<'_>> = rows.iter().collect();
            bind_rows(sqlx::query(INSERT).bind(place).bind(utc(recorded)), &rows).execute(&mut self.connection).await?;
            place += i64::try_from(rows.len()).unwrap_or(i64::MAX);
            left = others;
        }
        let query = sqlx::query(MOVE_HEAD).bind(last).bind(utc(recorded)).bind(head.position);
        let moved = query.execute(&mut self.connection).await?.rows_affected();
        let query = sqlx::query(NOTE).bind(commit.number).bind(commit.fence).bind(last);
        let query = query.bind(Timestamp::now().unix_micros() / 1_000_000).bind(commit.writer.0.as_slice());
        let noted = query.execute(&mut self.connection).await.map_err(told_apart)?.rows_affected();
        if (moved, noted) == (1, 1) { Ok(recorded) } else { Err(sqlx::Error::RowNotFound) }
    }

    async fn insert_placed(
        &mut self,
        head: &Head,
        rows: &[PlacedRow<'_>],
        recorded: Option<Timestamp>,
    ) -> Result<(), sqlx::Error> {
        let last = rows.last().map_or(head.position, |row| row.place);
        let mut left = rows;
        while !left.is_empty() {
            let (rows, others) = left.split_at(part(left.iter().map(|placed| &placed.row), self.statement_bytes));
            let places: Vec<i64> = rows.iter().map(|placed| placed.place).collect();
            let times: Vec<_> = rows.iter().map(|placed| placed.recorded.map(utc)).collect();
            let rows: Vec<&Row<'_>> = rows.iter().map(|placed| &placed.row).collect();
            bind_rows(sqlx::query(INSERT_PLACED).bind(places).bind(times), &rows).execute(&mut self.connection).await?;
            left = others;
        }
        let query = sqlx::query(MOVE_HEAD).bind(last).bind(recorded.map(utc)).bind(head.position);
        let moved = query.execute(&mut self.connection).await?.rows_affected();
        if moved == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        match self.connection.execute(sqlx::raw_sql("COMMIT")).await {
            Ok(_) => {
                self.is_in_transaction = false;
                Ok(())
            }
            Err(error) => {
                let may_be_committed = Effect::of_driver(&error) != Effect::Conflict;
                Err(Failure { error, may_be_committed })
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        if self.is_in_transaction {
            self.connection.execute(sqlx::raw_sql("ROLLBACK")).await?;
            self.is_in_transaction = false;
        }
        Ok(())
    }
}

fn recorded_at(row: &PgRow, index: usize) -> Result<Timestamp, sqlx::Error> {
    let micros = row.try_get::<OffsetDateTime, _>(index)?.unix_timestamp_nanos().div_euclid(1_000);
    let recorded = i64::try_from(micros).map(Timestamp::from_unix_micros);
    recorded.map_err(|error| sqlx::Error::Decode(error.into()))?.map_err(|error| sqlx::Error::Decode(error.into()))
}

/// How many of `rows`, but at least one, have no more than `bytes_max` together.
fn part<'r>(rows: impl IntoIterator<Item = &'r Row<'r>>, bytes_max: usize) -> usize {
    let mut bytes = 0_usize;
    let fitting = rows.into_iter().take_while(|row| {
        bytes += row.bytes() + ROW_BYTES;
        bytes <= bytes_max
    });
    fitting.count().max(1)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn append_one<'q>(commit: &'q Commit, row: &'q Row<'_>) -> Query<'q> {
    let now = Timestamp::now();
    let (event, key) = (row.event, row.key.as_ref().map(Key::as_slice));
    bind_commit(sqlx::query(APPEND_ONE).bind(utc(now)), commit, now)
        .bind(event.event_source.as_str())
        .bind(event.event_type.as_str())
        .bind(event.subject.as_str())
        .bind(event.time.map(utc))
        .bind(event.data.as_ref())
        .bind(key)
        .bind(row.id())
        .bind(row.context.as_deref())
}

fn append_many<'q>(commit: &'q Commit, rows: &[Row<'_>]) -> Query<'q> {
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let now = Timestamp::now();
    let rows: Vec<&Row<'_>> = rows.iter().collect();
    bind_rows(bind_commit(sqlx::query(APPEND_NEW).bind(count).bind(utc(now)), commit, now), &rows)
}

/// Binds what the writer's row needs.
fn bind_commit<'q>(query: Query<'q>, commit: &'q Commit, now: Timestamp) -> Query<'q> {
    let query = query.bind(commit.number).bind(commit.fence).bind(now.unix_micros() / 1_000_000);
    query.bind(commit.writer.0.as_slice())
}

/// Binds a parameter per column, each an array over the rows.
fn bind_rows<'q>(query: Query<'q>, rows: &[&Row<'_>]) -> Query<'q> {
    query
        .bind(column(rows, |row| row.event.event_source.as_str()))
        .bind(column(rows, |row| row.event.event_type.as_str()))
        .bind(column(rows, |row| row.event.subject.as_str()))
        .bind(column(rows, |row| row.event.time.map(utc)))
        .bind(column(rows, |row| row.event.data.as_ref()))
        .bind(column(rows, |row| row.key.as_ref().map(Key::as_slice)))
        .bind(column(rows, |row| row.id()))
        .bind(column(rows, |row| row.context.as_deref()))
}

fn column<'r, T>(rows: &[&'r Row<'_>], value: impl Fn(&'r Row<'_>) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// A division by zero says that the fence has fallen or the writer's row is gone, and so does a row without a position:
/// the connection is of no more use.
fn told_apart(error: sqlx::Error) -> sqlx::Error {
    let fault = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match fault.map(|fault| (fault.code(), fault.column())) {
        Some(("22012", _) | ("23502", Some("id"))) => sqlx::Error::Protocol("the writer was fenced off".to_owned()),
        Some(_) | None => error,
    }
}
