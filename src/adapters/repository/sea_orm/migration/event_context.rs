//! What a `CloudEvent` says beside the attributes that every event has: a column that plain events leave NULL.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// A column without a default is added without a rewrite of the table.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let bytes = match manager.get_database_backend() {
            DbBackend::Sqlite => "BLOB",
            DbBackend::Postgres => "BYTEA",
            DbBackend::MySql => "LONGBLOB",
            _ => return Err(DbErr::Migration("the engine is not known".to_owned())),
        };
        if !manager.has_column("events", "context").await? {
            let sql = format!("ALTER TABLE events ADD COLUMN context {bytes} NULL");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }
}
