//! The rows that this server reads, by the driver alone.

use std::str::FromStr;
use std::time::Instant;

use futures_util::{Stream, TryStreamExt};
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{
    self, ColumnIndex, ConnectOptions, Decode, MySqlConnection, PgConnection, Row, SqliteConnection, Type, query,
    query_scalar,
};

use crate::Outcome;
use crate::clock::nanoseconds;
use crate::engine::Engine;
use crate::results::per_second;

/// What a reader of one subject needs of each event.
const BY_SUBJECT: &str = "SELECT id, source, type, subject, time, data FROM events WHERE subject = ? ORDER BY id";

/// A connection of the driver.
#[allow(clippy::large_enum_variant)] // There is one.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

impl Raw {
    pub(crate) async fn connect(engine: Engine, url: &str) -> Outcome<Self> {
        Ok(match engine {
            Engine::Sqlite => {
                Self::Sqlite(SqliteConnectOptions::from_str(url)?.disable_statement_logging().connect().await?)
            }
            Engine::Mariadb | Engine::Mysql => {
                let options = MySqlConnectOptions::from_str(url)?.ssl_mode(MySqlSslMode::Disabled);
                Self::MySql(options.disable_statement_logging().connect().await?)
            }
            Engine::Postgres => {
                Self::Postgres(PgConnectOptions::from_str(url)?.disable_statement_logging().connect().await?)
            }
        })
    }

    pub(crate) async fn version(&mut self) -> Outcome<String> {
        Ok(match self {
            Self::Sqlite(connection) => query_scalar("SELECT sqlite_version()").fetch_one(connection).await?,
            Self::MySql(connection) => query_scalar("SELECT VERSION()").fetch_one(connection).await?,
            Self::Postgres(connection) => query_scalar("SHOW server_version").fetch_one(connection).await?,
        })
    }

    /// Reads all events of `subject` by one statement; events per second.
    pub(crate) async fn read(&mut self, subject: &str) -> Outcome<f64> {
        let started = Instant::now();
        let count = match self {
            Self::Sqlite(connection) => count(query(BY_SUBJECT).bind(subject).fetch(connection)).await?,
            Self::MySql(connection) => count(query(BY_SUBJECT).bind(subject).fetch(connection)).await?,
            Self::Postgres(connection) => {
                let sql = "SELECT id, source, type, subject, time, data FROM events WHERE subject = $1 ORDER BY id";
                count(query(sql).bind(subject).fetch(connection)).await?
            }
        };
        Ok(per_second(count, nanoseconds(started.elapsed())))
    }

    /// The subjects of a log in `SQLite`, each found by a look-up above the one before.
    pub(crate) async fn subjects(&mut self) -> Outcome<Vec<String>> {
        let Self::Sqlite(connection) = self else { return Err("this is only done on SQLite".into()) };
        let sql = "SELECT of_subject FROM event_subjects WHERE of_subject > ? ORDER BY of_subject LIMIT 1";
        let mut subjects: Vec<String> = Vec::new();
        loop {
            let last = subjects.last().cloned().unwrap_or_default();
            match query_scalar(sql).bind(last).fetch_optional(&mut *connection).await? {
                Some(subject) => subjects.push(subject),
                None => return Ok(subjects),
            }
        }
    }
}

/// Takes the id and the data of every row.
async fn count<R>(mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin) -> Outcome<u64>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        let (_id, _data): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(5)?);
        count += 1;
    }
    Ok(count)
}
