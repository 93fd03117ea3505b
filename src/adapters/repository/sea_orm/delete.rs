//! Deleting a chunk of the log.

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::{Effect, read_error};
use crate::adapters::repository::sea_orm::query::Engine;
use crate::adapters::repository::sea_orm::read;
use crate::domain::position::Position;
use crate::ports::event_repository::{ReadError, ReadQuery};

/// Events deleted in one transaction: short enough for appends to pass between.
pub(super) const CHUNK: usize = 1_000;

/// How often a chunk is tried when appends or other deletions are in its way.
const ATTEMPTS: u32 = 5;

/// Tells whoever holds events in memory that some may be gone.
const RAISE: &str = "UPDATE event_deletions SET number = number + 1 WHERE id = 1";

/// Deletes the first matches of `query`; returns how many, and the place to go on after.
pub(super) async fn chunk(store: &Store, query: ReadQuery) -> Result<(u64, Position), ReadError> {
    let (positions, through) = read::positions(store, query).await?;
    if positions.is_empty() {
        return Ok((0, through));
    }
    let list: Vec<String> = positions.iter().map(ToString::to_string).collect();
    // Numbers of ours need no parameters, whose count would make a statement of each size.
    let sql = format!("DELETE FROM events WHERE id IN ({})", list.join(", "));
    // SQLite has one writer at a time and no queue for it: so they take turns here, not in its busy loop.
    let _turn = match store.dialect.engine {
        Engine::Sqlite => Some(store.writer.turn().await),
        Engine::MySql | Engine::MariaDb | Engine::Postgres => None,
    };
    let mut attempt = 0;
    loop {
        match delete(store, &sql).await {
            Ok(deleted) => return Ok((deleted, through)),
            Err(error) if attempt < ATTEMPTS && Effect::of_driver(&error) == Effect::Conflict => attempt += 1,
            Err(error) => return Err(read_error(error)),
        }
    }
}

/// Deletes by `sql` and counts the deletion if there was one. The count comes last: all deletions wait for its row.
async fn delete(store: &Store, sql: &str) -> Result<u64, Error> {
    let begin = match store.dialect.engine {
        Engine::Sqlite => "BEGIN IMMEDIATE",
        Engine::MySql | Engine::MariaDb | Engine::Postgres => "BEGIN",
    };
    let mut lease = store.deleters.lease().await?;
    let deleted = async {
        lease.execute(begin).await?;
        let deleted = lease.execute(sql).await?;
        if deleted > 0 && lease.execute(RAISE).await? != 1 {
            return Err(Error::RowNotFound);
        }
        lease.execute("COMMIT").await?;
        Ok(deleted)
    };
    // Where it fails, the transaction ends with its connection.
    let deleted = deleted.await?;
    lease.done(Ok(deleted))
}
