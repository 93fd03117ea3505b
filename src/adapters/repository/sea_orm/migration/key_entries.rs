//! `SQLite`'s index by key as a table of its own, so that its entries can follow behind the log.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::repository::sea_orm::key_index::start_sql;
use crate::adapters::repository::sea_orm::migration::event_keys::KEY_INDEX;
use crate::adapters::repository::sea_orm::migration::log_tables::run;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Every step may be repeated: a crash can fall between two. The old index goes last: its successor comes from it, in
    /// its order.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if manager.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        if !manager.has_column("event_head", "keyed_through").await? {
            let column = "ALTER TABLE event_head ADD COLUMN keyed_through INTEGER NOT NULL DEFAULT 0";
            db.execute_unprepared(column).await?;
        }
        let statements = [
            "CREATE TABLE IF NOT EXISTS event_keys (key_start INTEGER NOT NULL, position INTEGER NOT NULL, \
             PRIMARY KEY (key_start, position)) WITHOUT ROWID"
                .to_owned(),
            format!(
                "CREATE TRIGGER IF NOT EXISTS event_keys_follow AFTER DELETE ON events WHEN old.event_key IS NOT NULL BEGIN \
                 DELETE FROM event_keys WHERE key_start = {} AND position = old.id; END",
                start_sql("old.event_key")
            ),
            format!(
                "INSERT OR IGNORE INTO event_keys SELECT {}, id FROM events WHERE event_key IS NOT NULL ORDER BY event_key",
                start_sql("event_key")
            ),
            "UPDATE event_head SET keyed_through = max(keyed_through, (SELECT coalesce(max(id), 0) FROM events))"
                .to_owned(),
            format!("DROP INDEX IF EXISTS {KEY_INDEX}"),
        ];
        run(db, &statements).await
    }
}
