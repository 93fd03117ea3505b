//! What appends are made safe with: the producers' ids, their keys, and a row per running writer.
//!
//! Every step may be repeated: `MySQL` commits each statement by itself, and a crash can fall between two.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

/// The index that keeps an event from being stored twice. Events without an id cost it nothing where the engine can
/// leave them out, and an entry in its first leaf where it cannot.
pub(super) const KEY_INDEX: &str = "events_by_key";

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let types = match manager.get_database_backend() {
            DbBackend::Sqlite => Types { id: "TEXT", key: "BLOB", number: "INTEGER", table: "WITHOUT ROWID" },
            DbBackend::Postgres => Types {
                id: "VARCHAR(255) COLLATE \"C\"",
                key: "BYTEA",
                number: "BIGINT",
                table: "WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
            },
            DbBackend::MySql => Types {
                id: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
                key: "BINARY(16)",
                number: "BIGINT",
                table: "ENGINE = InnoDB",
            },
            _ => return Err(DbErr::Migration("the engine is not known".to_owned())),
        };
        columns(manager, &types).await?;
        let db = manager.get_connection();
        if !manager.has_index("events", KEY_INDEX).await? {
            let partial = match manager.get_database_backend() {
                DbBackend::MySql => "",
                _ => " WHERE event_key IS NOT NULL",
            };
            let sql = format!("CREATE UNIQUE INDEX {KEY_INDEX} ON events (event_key){partial}");
            db.execute_unprepared(&sql).await?;
        }
        let Types { key, number, table, .. } = types;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS event_writer (writer {key} NOT NULL PRIMARY KEY, fence {number} NOT NULL, \
             commit_number {number} NOT NULL, position {number} NOT NULL, used_at {number} NOT NULL) {table}"
        );
        db.execute_unprepared(&sql).await?;
        Ok(())
    }
}

/// What the columns are called in the engine's SQL.
struct Types {
    id: &'static str,
    key: &'static str,
    number: &'static str,
    table: &'static str,
}

async fn columns(manager: &SchemaManager<'_>, types: &Types) -> Result<(), DbErr> {
    for (column, kind) in [("event_id", types.id), ("event_key", types.key)] {
        if !manager.has_column("events", column).await? {
            let sql = format!("ALTER TABLE events ADD COLUMN {column} {kind} NULL");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
    }
    Ok(())
}
