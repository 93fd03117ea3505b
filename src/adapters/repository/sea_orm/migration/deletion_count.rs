//! How many transactions have deleted events, in a table of its own: a deletion that holds its row must not hold up
//! appends, which lock the head.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::repository::sea_orm::migration::log_tables::run;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Every step may be repeated: `MySQL` commits each statement by itself, and a crash can fall between two.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let row = "INTO event_deletions (id, number) VALUES (1, 0)";
        let (table, insert) = match manager.get_database_backend() {
            DbBackend::Sqlite => (
                "(id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL)",
                format!("INSERT {row} ON CONFLICT DO NOTHING"),
            ),
            DbBackend::Postgres => (
                "(id SMALLINT PRIMARY KEY CHECK (id = 1), number BIGINT NOT NULL) WITH (fillfactor = 10)",
                format!("INSERT {row} ON CONFLICT DO NOTHING"),
            ),
            DbBackend::MySql => (
                "(id TINYINT NOT NULL PRIMARY KEY, number BIGINT NOT NULL) ENGINE = InnoDB",
                format!("INSERT IGNORE {row}"),
            ),
            _ => return Err(DbErr::Migration("the engine is not known".to_owned())),
        };
        let create = format!("CREATE TABLE IF NOT EXISTS event_deletions {table}");
        run(manager.get_connection(), &[create, insert]).await
    }
}
