//! Whether the database keeps what it acknowledges.

use sea_orm::DatabaseConnection;

use crate::adapters::repository::sea_orm::connect::{ConnectError, one};
use crate::adapters::repository::sea_orm::query::Engine;

/// The flag that lets a lazy database pass.
const FLAG: &str = "--allow-lazy-durability";

/// Checks the settings on which it depends that a commit outlives a crash of the database or its machine.
///
/// # Errors
/// [`ConnectError::Unusable`] naming every setting that is too lazy, unless `is_allowed`; then it is a warning.
pub(super) async fn check(db: &DatabaseConnection, engine: Engine, is_allowed: bool) -> Result<(), ConnectError> {
    let lazy = match engine {
        Engine::Sqlite => sqlite(db).await?,
        Engine::MySql | Engine::MariaDb => mysql(db).await?,
        Engine::Postgres => postgres(db).await?,
    };
    if lazy.is_empty() {
        return Ok(());
    }
    let lazy = lazy.join(", ");
    if is_allowed {
        tracing::warn!("acknowledged events may be lost in a crash: {lazy} ({FLAG} is given)");
        return Ok(());
    }
    Err(ConnectError::unusable(format!("it may lose acknowledged events in a crash: {lazy}; {FLAG} takes it anyway")))
}

/// Source: `SQLite`, "PRAGMA synchronous": in WAL mode only FULL (2) and EXTRA (3) make a commit durable.
async fn sqlite(db: &DatabaseConnection) -> Result<Vec<String>, ConnectError> {
    let mode: String = one(db, "PRAGMA journal_mode").await?;
    if mode != "wal" {
        return Err(ConnectError::unusable(format!("SQLite cannot keep a write-ahead log there (its mode is {mode})")));
    }
    let synchronous: i64 = one(db, "PRAGMA synchronous").await?;
    Ok(if synchronous < 2 { vec![format!("synchronous is {synchronous}, not 2")] } else { Vec::new() })
}

/// Source: `MySQL`, "`innodb_flush_log_at_trx_commit`" and "`sync_binlog`": only 1 flushes with every commit.
async fn mysql(db: &DatabaseConnection) -> Result<Vec<String>, ConnectError> {
    let flush: i64 = one(db, "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)").await?;
    let has_binlog: i64 = one(db, "SELECT CAST(@@log_bin AS SIGNED)").await?;
    let sync: i64 = one(db, "SELECT CAST(@@sync_binlog AS SIGNED)").await?;
    let mut lazy = Vec::new();
    if flush != 1 {
        lazy.push(format!("innodb_flush_log_at_trx_commit is {flush}, not 1"));
    }
    if has_binlog != 0 && sync != 1 {
        lazy.push(format!("sync_binlog is {sync}, not 1, while the binary log is on"));
    }
    Ok(lazy)
}

/// Source: `PostgreSQL`, "Write Ahead Log" settings: with these off, a commit returns before it is on disk, or a crash
/// can tear pages.
async fn postgres(db: &DatabaseConnection) -> Result<Vec<String>, ConnectError> {
    let mut lazy = Vec::new();
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = one(db, &format!("SELECT current_setting('{setting}')")).await?;
        if value == "off" {
            lazy.push(format!("{setting} is off"));
        }
    }
    Ok(lazy)
}
