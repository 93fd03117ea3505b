//! The log and its head row; a Go service's `events` table is taken over in place.
//!
//! Every step may be repeated: MySQL commits each statement by itself, and a crash can fall between two.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::repository::sea_orm::query::SUBJECT_INDEX;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match manager.get_database_backend() {
            DbBackend::Sqlite => run(db, &sqlite()).await,
            DbBackend::Postgres => run(db, &postgres()).await,
            DbBackend::MySql => mysql(manager).await,
            _ => Err(DbErr::Migration("the engine is not known".to_owned())),
        }
    }
}

pub(super) async fn run(db: &impl ConnectionTrait, statements: &[impl AsRef<str>]) -> Result<(), DbErr> {
    for statement in statements {
        db.execute_unprepared(statement.as_ref()).await?;
    }
    Ok(())
}

/// Times are whole microseconds since 1970, which SQLite reads fastest. The index carries the row's id anyway.
fn sqlite() -> Vec<String> {
    vec![
        "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, source TEXT NOT NULL, type TEXT NOT NULL, \
         subject TEXT NOT NULL, time INTEGER NOT NULL, recorded_at INTEGER, data BLOB NOT NULL)"
            .to_owned(),
        format!("CREATE INDEX IF NOT EXISTS {SUBJECT_INDEX} ON events (subject)"),
        "CREATE TABLE IF NOT EXISTS event_head (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL, \
         recorded_at INTEGER)"
            .to_owned(),
        "INSERT INTO event_head (id, position) VALUES (1, 0) ON CONFLICT DO NOTHING".to_owned(),
    ]
}

/// The head row changes with every commit: room beside it and an early vacuum keep it in one page.
fn postgres() -> Vec<String> {
    let text = "VARCHAR(255) COLLATE \"C\" NOT NULL";
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS events (id BIGINT PRIMARY KEY, source {text}, type {text}, subject {text}, \
             time TIMESTAMPTZ NOT NULL, recorded_at TIMESTAMPTZ, data BYTEA NOT NULL)"
        ),
        format!("CREATE INDEX IF NOT EXISTS {SUBJECT_INDEX} ON events (subject, id)"),
        "CREATE TABLE IF NOT EXISTS event_head (id SMALLINT PRIMARY KEY CHECK (id = 1), position BIGINT NOT NULL, \
         recorded_at TIMESTAMPTZ) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, \
         autovacuum_vacuum_threshold = 1000)"
            .to_owned(),
        "INSERT INTO event_head (id, position) VALUES (1, 0) ON CONFLICT DO NOTHING".to_owned(),
    ]
}

async fn mysql(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let text = format!("VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {} NOT NULL", binary_collation(db).await?);
    if !manager.has_table("events").await? {
        let sql = format!(
            "CREATE TABLE events (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, source {text}, type {text}, \
             subject {text}, time DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), data LONGBLOB NOT NULL, \
             recorded_at DATETIME(6) NULL, INDEX {SUBJECT_INDEX} (subject, id)) ENGINE = InnoDB"
        );
        db.execute_unprepared(&sql).await?;
    } else if !manager.has_column("events", "recorded_at").await? {
        take_over(db, &text).await?;
    }
    db.execute_unprepared(
        "CREATE TABLE IF NOT EXISTS event_head (id TINYINT NOT NULL PRIMARY KEY, position BIGINT NOT NULL, \
         recorded_at DATETIME(6) NULL) ENGINE = InnoDB",
    )
    .await?;
    // Ids that were given out and deleted again are not given out anew.
    let given_out = auto_increment(db).await?.saturating_sub(1);
    let sql = format!(
        "INSERT IGNORE INTO event_head (id, position) \
         SELECT 1, GREATEST(COALESCE(MAX(id), 0), {given_out}) FROM events"
    );
    db.execute_unprepared(&sql).await?;
    Ok(())
}

/// Alters a Go service's table in one statement, which is all or nothing. Times are in UTC on this connection, so a
/// TIMESTAMP becomes the same time as a DATETIME. Other indexes stay: the Go service may still use them.
async fn take_over(db: &impl ConnectionTrait, text: &str) -> Result<(), DbErr> {
    tracing::info!("taking over the events table of an earlier service, this rebuilds it once");
    db.execute_unprepared("SET SESSION time_zone = '+00:00'").await?;
    db.execute_unprepared(
        "UPDATE events SET source = COALESCE(source, ''), type = COALESCE(type, ''), \
         subject = COALESCE(subject, ''), time = COALESCE(time, '1970-01-01 00:00:01'), data = COALESCE(data, '') \
         WHERE source IS NULL OR type IS NULL OR subject IS NULL OR time IS NULL OR data IS NULL",
    )
    .await?;
    let sql = format!(
        "ALTER TABLE events ENGINE = InnoDB, MODIFY id BIGINT NOT NULL AUTO_INCREMENT, MODIFY source {text}, \
         MODIFY type {text}, MODIFY subject {text}, \
         MODIFY time DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), MODIFY data LONGBLOB NOT NULL, \
         ADD COLUMN recorded_at DATETIME(6) NULL, ADD INDEX {SUBJECT_INDEX} (subject, id)"
    );
    db.execute_unprepared(&sql).await?;
    Ok(())
}

/// The collation that compares by bytes and keeps trailing spaces apart, as far as the server has one.
async fn binary_collation(db: &impl ConnectionTrait) -> Result<String, DbErr> {
    let sql = "SELECT CAST(COLLATION_NAME AS CHAR) FROM information_schema.COLLATIONS \
               WHERE COLLATION_NAME IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin', 'utf8mb4_bin') \
               ORDER BY FIELD(COLLATION_NAME, 'utf8mb4_0900_bin', 'utf8mb4_nopad_bin', 'utf8mb4_bin') LIMIT 1";
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    row.map_or_else(|| Ok("utf8mb4_bin".to_owned()), |row| row.try_get_by_index(0))
}

async fn auto_increment(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    // MySQL 8 answers from a cache unless told not to; MariaDB does not know the variable and has no such cache.
    let _mariadb_refuses = db.execute_unprepared("SET SESSION information_schema_stats_expiry = 0").await;
    let sql = "SELECT CAST(COALESCE(AUTO_INCREMENT, 1) AS SIGNED) FROM information_schema.TABLES \
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'events'";
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    row.map_or(Ok(1), |row| row.try_get_by_index(0))
}
