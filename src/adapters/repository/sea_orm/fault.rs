//! What a database fault means, by its code and never by its text.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

use crate::ports::event_repository::ReadError;

/// What a fault says about the transaction it struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Somebody else was in the way; certainly not committed, worth repeating.
    Conflict,
    /// A key is there already; certainly not committed.
    DuplicateKey,
    /// The database does not take what it was given and never will; not committed.
    Rejected,
    /// The database refused in so many words; not committed, unless it was the commit that it refused.
    Refused,
    /// The connection is gone or never came: at a commit, nobody knows.
    Lost,
}

/// What a writer sees by itself before it commits.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Noticed {
    /// An event is stored already.
    #[error("the source and id of an event are stored already")]
    Stored,
}

impl Effect {
    pub(super) fn of(error: &DbErr) -> Self {
        driver_error(error).map_or(Self::Lost, Self::of_driver)
    }

    pub(super) fn of_driver(error: &sqlx::Error) -> Self {
        if let Some(code) = sqlite_code(error) {
            return Self::of_sqlite(code);
        }
        match error.as_database_error() {
            Some(error) if error.is_unique_violation() => Self::DuplicateKey,
            Some(error) if is_conflict(error) => Self::Conflict,
            Some(error) if is_going_away(error) => Self::Lost,
            Some(error) if is_rejection(error) => Self::Rejected,
            Some(_) => Self::Refused,
            None => Noticed::of(error).map_or(Self::Lost, Self::from),
        }
    }

    /// Source: `SQLite`, "Result and Error Codes"; the low byte of an extended code is the primary one.
    fn of_sqlite(extended: i32) -> Self {
        match (extended, extended & 0xFF) {
            (SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID | SQLITE_CONSTRAINT_UNIQUE, _) => {
                Self::DuplicateKey
            }
            (_, SQLITE_BUSY) => Self::Conflict,
            (_, SQLITE_IOERR) => Self::Lost,
            (_, SQLITE_TOOBIG | SQLITE_CONSTRAINT | SQLITE_MISMATCH) => Self::Rejected,
            (_, _) => Self::Refused,
        }
    }
}

impl From<Noticed> for Effect {
    fn from(noticed: Noticed) -> Self {
        match noticed {
            Noticed::Stored => Self::DuplicateKey,
        }
    }
}

impl From<Noticed> for sqlx::Error {
    fn from(noticed: Noticed) -> Self {
        Self::AnyDriverError(noticed.into())
    }
}

impl Noticed {
    fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::AnyDriverError(cause) => cause.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// A read cannot tell a lost connection from a refusal: both may pass. What cannot be decoded will not.
pub(super) fn read_error(error: sqlx::Error) -> ReadError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ReadError::Corrupt(error.into()),
        _ => ReadError::Unavailable(error.into()),
    }
}

/// Whether a read failed because its connection had been closed meanwhile.
pub(super) fn is_stale_connection(error: &ReadError) -> bool {
    let ReadError::Unavailable(fault) = error else { return false };
    match fault.downcast_ref() {
        Some(sqlx::Error::Io(_)) => true,
        Some(error) => match sqlite_code(error) {
            Some(code) => Effect::of_sqlite(code) == Effect::Lost,
            None => error.as_database_error().is_some_and(is_going_away),
        },
        None => false,
    }
}

/// Whether no connection came in time.
pub(super) fn is_timeout(error: &DbErr) -> bool {
    matches!(error, DbErr::ConnectionAcquire(_)) || matches!(driver_error(error), Some(sqlx::Error::PoolTimedOut))
}

fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

fn is_conflict(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // Deadlock, lock wait timeout, snapshot conflict (MariaDB), and TiDB's write conflicts.
        return matches!(error.number(), 1213 | 1205 | 1020 | 8002 | 8005 | 9007);
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // serialization_failure, deadlock_detected, lock_not_available.
        return matches!(error.code(), "40001" | "40P01" | "55P03");
    }
    false
}

/// The values are at fault, not the moment.
fn is_rejection(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // Data exceptions and integrity constraints; a check of somebody else's; a packet that is too large.
        let is_of_values = error.code().is_some_and(|state| state.starts_with("22") || state.starts_with("23"));
        return is_of_values || matches!(error.number(), 3819 | 4025 | 1153);
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // Data exception, integrity constraint violation, program limit exceeded, raised by somebody's trigger.
        return ["22", "23", "54"].contains(&&error.code()[..2]) || error.code() == "P0001";
    }
    false
}

/// The server says goodbye: whether the statement took effect is not known.
fn is_going_away(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // Server shutdown, connection killed, Galera node not ready.
        return matches!(error.number(), 1053 | 1927 | 1047 | 3169);
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // Connection exceptions, statement_completion_unknown, admin and crash shutdown.
        return error.code().starts_with("08") || matches!(error.code(), "40003" | "57P01" | "57P02" | "57P03");
    }
    false
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_IOERR: i32 = 10;
const SQLITE_TOOBIG: i32 = 18;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_MISMATCH: i32 = 20;
const SQLITE_CONSTRAINT_PRIMARYKEY: i32 = 1555;
const SQLITE_CONSTRAINT_UNIQUE: i32 = 2067;
const SQLITE_CONSTRAINT_ROWID: i32 = 2579;

/// The extended code of a fault of `SQLite`, of either way to it.
fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref::<SqliteError>()?.code()?.parse().ok(),
        sqlx::Error::AnyDriverError(error) => {
            Some(error.downcast_ref::<rusqlite::Error>()?.sqlite_error()?.extended_code)
        }
        _ => None,
    }
}
