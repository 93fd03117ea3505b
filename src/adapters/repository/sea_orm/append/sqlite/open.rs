//! Connections to an `SQLite` file that call the library without a thread between.

use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};
use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use crate::adapters::repository::sea_orm::connect::{SQLITE_BUSY_TIMEOUT, SQLITE_CHECKPOINT_PAGES};

/// How many KiB of pages, as SQLite counts them, a connection keeps for itself: those of the index by key and by subject
/// that are written again and again. With more, each commit takes longer, as most of them look through all pages held.
const CACHE: i64 = -8_192;

/// Statements that stay prepared, more than there are.
const STATEMENTS: usize = 32;

/// A file that is there already, and how to open it.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: PathBuf,
    /// What `SQLite` reaches files through, if not through what it does by itself: locks are worth nothing when two
    /// connections differ in it.
    vfs: Option<String>,
}

impl File {
    /// That of `options`.
    pub(super) fn of(options: &SqliteConnectOptions) -> Self {
        let url = options.to_url_lossy();
        let vfs = url.query_pairs().find(|(name, _)| name == "vfs").map(|(_, vfs)| vfs.into_owned());
        Self { path: options.get_filename().to_owned(), vfs }
    }

    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, vfs: None }
    }

    /// Opens it to write, each commit being flushed.
    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str())?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        // What a statement has changed is noted in memory, not in a file, until it is done.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_that_of_the_url() {
        for (url, path, vfs) in [
            ("sqlite:///var/a%20b%3F.db?mode=rwc", "/var/a b?.db", None),
            ("sqlite://c.db?vfs=unix-excl&mode=rw", "c.db", Some("unix-excl")),
        ] {
            let File { path: found, vfs: found_vfs } = File::of(&url.parse().unwrap());
            assert_eq!((found.to_str(), found_vfs.as_deref()), (Some(path), vfs), "{url}");
        }
    }
}
