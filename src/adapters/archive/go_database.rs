//! The database of a Go service, which is only read.

use async_trait::async_trait;
use bytes::Bytes;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, Row};

use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::NewEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::archive::{ArchiveError, ArchiveReader, ArchivedEvent, Place};
use crate::ports::event_repository::Fault;

/// Rows that are read at once: with the largest data of such a service, 64 MiB.
const PAGE_ROWS: i64 = 1_000;

/// Whatever the columns are like, a row of them. Times are in UTC on our connection, and NULLs are what a takeover makes of
/// them.
const PAGE: &str = "\
    SELECT id, COALESCE(CONVERT(source USING utf8mb4), '') AS source, COALESCE(CONVERT(type USING utf8mb4), '') AS type, \
        COALESCE(CONVERT(subject USING utf8mb4), '') AS subject, \
        CAST(ROUND(COALESCE(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', time), 1000000)) AS SIGNED) AS time, \
        CAST(COALESCE(data, '') AS BINARY) AS data \
    FROM events WHERE id > ? ORDER BY id LIMIT ?";

/// Why such a database is not read.
#[derive(Debug, thiserror::Error)]
#[error("the database to import from cannot be used")]
pub struct GoDatabaseError(#[from] sqlx::Error);

/// The events of a Go service, by their ids.
pub struct GoDatabase {
    connection: MySqlConnection,
    last: i64,
    through: i64,
}

impl GoDatabase {
    /// Opens the database at `url`, `mysql://…` or `mariadb://…`; `None` when it is one of ours.
    ///
    /// # Errors
    /// When it cannot be reached, or has no events table.
    pub async fn open(url: &str) -> Result<Option<Self>, GoDatabaseError> {
        let options: MySqlConnectOptions = url.replacen("mariadb:", "mysql:", 1).parse()?;
        let mut connection = options.disable_statement_logging().connect().await?;
        let ours = "SELECT COUNT(*) FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'event_head'";
        if sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut connection).await? > 0 {
            connection.close().await?;
            return Ok(None);
        }
        connection
            .execute(sqlx::raw_sql("SET SESSION time_zone = '+00:00'; SET SESSION TRANSACTION READ ONLY"))
            .await?;
        let through = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM events").fetch_one(&mut connection).await?;
        Ok(Some(Self { connection, last: 0, through }))
    }

    /// The last event's id, 0 when there are none.
    #[must_use]
    pub fn through(&self) -> i64 {
        self.through
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ArchiveReader for GoDatabase {
    async fn next(&mut self) -> Result<Option<Vec<ArchivedEvent>>, ArchiveError> {
        if self.last >= self.through {
            return Ok(None);
        }
        let page = sqlx::query(PAGE).bind(self.last).bind(PAGE_ROWS);
        let rows = page.fetch_all(&mut self.connection).await.map_err(unavailable)?;
        let events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let Some(position) = events.last().and_then(|event| event.position) else { return Ok(None) };
        self.last = position.get();
        Ok(Some(events))
    }
}

fn event(row: &MySqlRow) -> Result<ArchivedEvent, ArchiveError> {
    let id: i64 = row.try_get("id").map_err(unavailable)?;
    let place = Place::Position(id);
    let damaged = |problem: String| ArchiveError::Damaged { place, problem };
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| damaged(error.to_string()));
    let micros: i64 = row.try_get("time").map_err(|error| damaged(error.to_string()))?;
    let data: Vec<u8> = row.try_get("data").map_err(|error| damaged(error.to_string()))?;
    Ok(ArchivedEvent {
        place,
        position: Some(Position::new(id).map_err(|error| damaged(error.to_string()))?),
        recorded_time: None,
        event: NewEvent {
            id: None,
            event_source: EventSource::from_stored(text("source")?),
            event_type: EventType::from_stored(text("type")?),
            subject: Subject::from_stored(text("subject")?),
            time: Some(Timestamp::from_unix_micros(micros).map_err(|error| damaged(error.to_string()))?),
            data: Bytes::from(data),
            context: None,
        },
    })
}

fn unavailable(error: impl Into<Fault>) -> ArchiveError {
    ArchiveError::Unavailable(error.into())
}
