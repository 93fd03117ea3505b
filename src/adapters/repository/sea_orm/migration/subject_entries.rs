//! `SQLite`'s index by subject as a table of its own, so that its entries can follow behind the log.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::repository::sea_orm::migration::log_tables::run;
use crate::adapters::repository::sea_orm::query::SUBJECT_INDEX;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Every step may be repeated: a crash can fall between two. The old index goes last, its successor comes from it.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if manager.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        if !manager.has_column("event_head", "indexed_through").await? {
            let column = "ALTER TABLE event_head ADD COLUMN indexed_through INTEGER NOT NULL DEFAULT 0";
            db.execute_unprepared(column).await?;
        }
        let drop_index = format!("DROP INDEX IF EXISTS {SUBJECT_INDEX}");
        let statements = [
            "CREATE TABLE IF NOT EXISTS event_subjects (of_subject TEXT NOT NULL, position INTEGER NOT NULL, \
             PRIMARY KEY (of_subject, position)) WITHOUT ROWID",
            "CREATE TRIGGER IF NOT EXISTS event_subjects_follow AFTER DELETE ON events BEGIN \
             DELETE FROM event_subjects WHERE of_subject = old.subject AND position = old.id; END",
            "INSERT OR IGNORE INTO event_subjects SELECT subject, id FROM events ORDER BY subject, id",
            "UPDATE event_head SET indexed_through = max(indexed_through, (SELECT coalesce(max(id), 0) FROM events))",
            &drop_index,
        ];
        run(db, &statements).await
    }
}
