//! Faults of `SQLite`, told like those of the other drivers.

use sea_orm::sqlx;

use crate::adapters::repository::sea_orm::append::connection::Failure;
use crate::adapters::repository::sea_orm::fault::{Effect, Noticed};

/// Why a step of an append failed.
#[derive(Debug)]
pub(super) struct Fault(pub(super) sqlx::Error);

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self(sqlx::Error::AnyDriverError(error.into()))
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl From<Noticed> for Fault {
    fn from(noticed: Noticed) -> Self {
        Self(noticed.into())
    }
}

impl From<Fault> for sqlx::Error {
    fn from(Fault(error): Fault) -> Self {
        error
    }
}

impl Fault {
    /// It struck before the commit.
    pub(super) fn uncommitted(self) -> Failure {
        Failure { error: self.0, may_be_committed: false }
    }

    /// It struck the commit: what was refused for its values or for another writer is not stored.
    pub(super) fn unsettled(self) -> Failure {
        let may_be_committed = match Effect::of_driver(&self.0) {
            Effect::Conflict | Effect::DuplicateKey | Effect::Rejected => false,
            Effect::Refused | Effect::Lost => true,
        };
        Failure { error: self.0, may_be_committed }
    }
}
