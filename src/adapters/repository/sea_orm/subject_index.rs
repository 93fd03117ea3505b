//! How far `SQLite`'s index by subject has come.
//!
//! Neighbours in the log are rarely neighbours in that index: an entry with each event would write a page of 4 KiB for
//! nearly every one of them. So the writer gathers some thousand events, adds their entries in the order of the index, a part
//! with each append, and who reads by subject walks the newest events, of which not all have entries yet.

use std::sync::atomic::{AtomicI64, Ordering};

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::pool::Lease;
use crate::adapters::repository::sea_orm::query::{Dialect, Engine};
use crate::domain::position::Position;

/// So many events without entries get theirs: more make the index cheaper to write, and reads by subject dearer.
pub(super) const BEHIND_MAX: i64 = 8_192;

/// Knows a position up to which every event has its entry. Being late is no harm but the walk.
#[derive(Debug, Default)]
pub(super) struct SubjectIndex {
    through: AtomicI64,
}

impl SubjectIndex {
    /// Up to where the index serves a read that ends at `through`; `None` for nowhere.
    pub(super) async fn serves(
        &self,
        dialect: Dialect,
        lease: &mut Lease,
        through: Position,
    ) -> Result<Option<Position>, Error> {
        if dialect.engine != Engine::Sqlite {
            return Ok(Some(through));
        }
        let mut indexed = self.through.load(Ordering::Relaxed);
        if through.get() - indexed > BEHIND_MAX {
            let sql = "SELECT indexed_through FROM event_head WHERE id = 1";
            let rows: Vec<(i64,)> = lease.all(dialect.statement(sql, Vec::new())).await?;
            if let Some((seen,)) = rows.first() {
                indexed = *seen;
                self.through.fetch_max(indexed, Ordering::Relaxed);
            }
        }
        Ok(Position::new(indexed.min(through.get())).ok())
    }
}
