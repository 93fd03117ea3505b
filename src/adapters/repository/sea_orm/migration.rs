//! The schema, and the takeover of a Go service's database.

mod deletion_count;
mod event_context;
mod event_keys;
mod key_entries;
mod log_tables;
mod subject_entries;

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager};

use crate::adapters::repository::sea_orm::connect::{ConnectError, one};
use crate::adapters::repository::sea_orm::query::Engine;

/// Names the lock that one migrating process holds: any constant of ours.
const LOCK_NAME: &str = "events_db_migration";
/// The same for PostgreSQL, which names locks by number.
const LOCK_NUMBER: i64 = 7_303_014_218_655_041;
/// How long a process waits for another one's migration, which may rebuild a large table.
const LOCK_WAIT_SECONDS: u32 = 3_600;

/// The library's table of the migrations that were run.
const APPLIED_IN: &str = "seaql_migrations";
/// Their names.
const APPLIED: &str = "SELECT version FROM seaql_migrations";

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(log_tables::Migration),
            Box::new(event_keys::Migration),
            Box::new(subject_entries::Migration),
            Box::new(deletion_count::Migration),
            Box::new(event_context::Migration),
            Box::new(key_entries::Migration),
        ]
    }
}

/// Brings the schema up to date over a pool of exactly one connection, which holds the lock meanwhile. Only looks when
/// there is nothing to do, so that the user of a server need not be allowed to change the schema.
pub(super) async fn migrate(db: DatabaseConnection) -> Result<Engine, ConnectError> {
    // A task of its own: a caller that gives up must not leave a migration half-way.
    let migrated = tokio::spawn(async move {
        let engine = engine(&db).await?;
        if !is_current(&db).await? {
            lock(&db).await?;
            // Another process may have done it while this one waited.
            if !is_current(&db).await? {
                Migrator::up(&db, None).await?;
            }
            unlock(&db).await?;
        }
        db.close().await?;
        Ok(engine)
    });
    migrated.await.unwrap_or_else(|panic| Err(ConnectError::Unavailable(panic.into())))
}

/// Finds the schema as it must be, without changing anything.
pub(super) async fn check(db: &DatabaseConnection) -> Result<Engine, ConnectError> {
    let engine = engine(db).await?;
    if !SchemaManager::new(db).has_table("event_head").await? {
        return Err(ConnectError::unusable("it has no log of Events DB"));
    }
    if is_current(db).await? {
        return Ok(engine);
    }
    Err(ConnectError::unusable("its schema is older than this program: run `events-db migrate` first"))
}

/// Whether all migrations of this program were run. On a server, those of a later version may have been too: replicas of
/// both work side by side while one follows the other. A file has one process, and is not opened by an older one.
async fn is_current(db: &DatabaseConnection) -> Result<bool, ConnectError> {
    if !SchemaManager::new(db).has_table(APPLIED_IN).await? {
        return Ok(false);
    }
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), APPLIED)).await?;
    let applied: HashSet<String> = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, DbErr>>()?;
    let ours: HashSet<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    if db.get_database_backend() == DbBackend::Sqlite && !applied.is_subset(&ours) {
        return Err(ConnectError::unusable("its schema is of a later version of this program"));
    }
    Ok(ours.is_subset(&applied))
}

async fn engine(db: &DatabaseConnection) -> Result<Engine, ConnectError> {
    match db.get_database_backend() {
        DbBackend::Sqlite => Ok(Engine::Sqlite),
        DbBackend::Postgres => Ok(Engine::Postgres),
        DbBackend::MySql => {
            let version: String = one(db, "SELECT VERSION()").await?;
            Ok(if version.contains("MariaDB") { Engine::MariaDb } else { Engine::MySql })
        }
        _ => Err(ConnectError::unusable("its engine is not known")),
    }
}

async fn lock(db: &DatabaseConnection) -> Result<(), ConnectError> {
    match db.get_database_backend() {
        DbBackend::MySql => {
            // Such locks belong to the whole server, and their names have at most 64 characters.
            let name = format!("CONCAT('{LOCK_NAME}_', LEFT(SHA2(DATABASE(), 256), 32))");
            let sql = format!("SELECT CAST(GET_LOCK({name}, {LOCK_WAIT_SECONDS}) AS SIGNED)");
            let won: Option<i64> = one(db, &sql).await?;
            if won != Some(1) {
                return Err(ConnectError::unusable("another process holds the lock of the migration"));
            }
        }
        DbBackend::Postgres => {
            db.execute_unprepared(&format!("SELECT pg_advisory_lock({LOCK_NUMBER})")).await?;
        }
        _ => {
            // One writer at a time, until the commit in `unlock`.
            db.execute_unprepared("BEGIN IMMEDIATE").await?;
        }
    }
    Ok(())
}

async fn unlock(db: &DatabaseConnection) -> Result<(), ConnectError> {
    match db.get_database_backend() {
        // The connection's end frees the lock.
        DbBackend::MySql | DbBackend::Postgres => {}
        _ => {
            db.execute_unprepared("COMMIT").await?;
        }
    }
    Ok(())
}
