//! Moving pages from `SQLite`'s write-ahead log to its file.
//!
//! `SQLite` would do it within a commit, and everybody would wait for as long as the disk takes. So another connection does
//! it beside the commits. Only the log begins anew when all of it is in the file, so once it is long, the writer waits for
//! what came meanwhile.

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, ConnectOptions};
use tokio::task::JoinHandle;

/// Pages that are worth moving. Those of the index by subject are written again and again: the longer one waits, the fewer
/// times each is moved.
const PASS_PAGES: u64 = 4_000;

/// Pages of 4 KiB in the log after which it is to begin anew. A server that was killed reads all of them when it starts.
const LOG_PAGES_MAX: i64 = 12_000;

/// Pages that the smallest commit writes: of the log's end, of the head and of the writer.
const COMMIT_PAGES: u64 = 3;

const PAGE_BYTES: u64 = 4_096;

/// What a row takes beside what the producer gave.
const ROW_BYTES: u64 = 64;

/// Has pages moved for the one connection that appends.
pub(super) struct Checkpointer {
    options: SqliteConnectOptions,
    /// The connection that moves pages, when it is not at it.
    idle: Option<SqliteConnection>,
    passing: Option<JoinHandle<Option<Passed>>>,
    /// About how many pages were written since it began.
    written: u64,
    /// How long the log was when pages were last moved.
    log: i64,
}

/// Pages were moved.
struct Passed {
    connection: SqliteConnection,
    /// Pages in the log.
    log: i64,
}

impl Checkpointer {
    pub(super) fn new(options: &SqliteConnectOptions) -> Self {
        Self { options: options.clone(), idle: None, passing: None, written: 0, log: 0 }
    }

    /// So many events of so many bytes were committed.
    pub(super) fn note(&mut self, events: u64, bytes: u64) {
        self.written += COMMIT_PAGES + (bytes + events * ROW_BYTES) / PAGE_BYTES;
    }

    /// Has pages moved if there are enough, and waits for it if the log is long; no transaction may be open. Where it
    /// fails, `SQLite` does it within a commit, later.
    pub(super) async fn tend(&mut self) {
        if self.passing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle().await;
        }
        if self.passing.is_none() && self.log >= LOG_PAGES_MAX {
            self.begin();
            self.settle().await;
            // Readers may have kept it from its end. They will be gone when the next pages are moved.
            self.log = 0;
        }
        if self.passing.is_none() && self.written >= PASS_PAGES {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.written = 0;
        self.passing = Some(tokio::spawn(pass(self.idle.take(), self.options.clone())));
    }

    async fn settle(&mut self) {
        let Some(passing) = &mut self.passing else { return };
        let passed = passing.await.ok().flatten();
        self.passing = None;
        if let Some(Passed { connection, log }) = passed {
            (self.idle, self.log) = (Some(connection), log);
        }
    }
}

async fn pass(idle: Option<SqliteConnection>, options: SqliteConnectOptions) -> Option<Passed> {
    let moved = async {
        let mut connection = match idle {
            Some(connection) => connection,
            None => options.connect().await?,
        };
        let pass = sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)");
        let (_is_busy, log, _moved): (i64, i64, i64) = pass.fetch_one(&mut connection).await?;
        Ok(Passed { connection, log })
    };
    let moved: Result<Passed, sqlx::Error> = moved.await;
    moved.inspect_err(|error| tracing::debug!(error = %error, "no pages were moved to the file")).ok()
}

#[cfg(test)]
mod tests {
    use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

    use super::*;

    struct File {
        directory: tempfile::TempDir,
        options: SqliteConnectOptions,
        writer: SqliteConnection,
        checkpointer: Checkpointer,
    }

    impl File {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = SqliteConnectOptions::new()
                .filename(directory.path().join("events.db"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Off)
                .pragma("wal_autocheckpoint", "0");
            let mut writer = options.connect().await.unwrap();
            sqlx::query("CREATE TABLE events (data)").execute(&mut writer).await.unwrap();
            let checkpointer = Checkpointer::new(&options);
            Self { directory, options, writer, checkpointer }
        }

        /// Commits so many pages, a MiB at a time, and waits whenever pages are moved; returns the greatest length of the
        /// log, in pages.
        async fn write(&mut self, pages: i64) -> i64 {
            let mut longest = 0;
            for _ in 0..pages / 256 {
                self.checkpointer.tend().await;
                self.checkpointer.settle().await;
                let insert = sqlx::query("INSERT INTO events VALUES (zeroblob(1 << 20))");
                insert.execute(&mut self.writer).await.unwrap();
                self.checkpointer.note(1, 1 << 20);
                longest = longest.max(self.log_pages());
            }
            longest
        }

        /// How long the log has ever been: its file does not shrink.
        fn log_pages(&self) -> i64 {
            let log = self.directory.path().join("events.db-wal");
            i64::try_from(std::fs::metadata(log).unwrap().len() / PAGE_BYTES).unwrap()
        }
    }

    #[tokio::test]
    async fn log_begins_anew_when_all_was_moved() {
        let mut file = File::new().await;
        let longest = file.write(4 * LOG_PAGES_MAX).await;
        let pass = i64::try_from(PASS_PAGES).unwrap();
        assert!((pass..pass + 512).contains(&longest), "{longest} pages");
    }

    #[tokio::test]
    async fn long_log_is_waited_for() {
        let mut file = File::new().await;
        file.write(256).await;
        file.checkpointer.log = LOG_PAGES_MAX;
        file.checkpointer.tend().await;
        assert!(file.checkpointer.idle.is_some(), "pages were moved");
        let before = file.log_pages();
        file.write(256).await;
        assert_eq!(file.log_pages(), before);
    }

    #[tokio::test]
    async fn reader_delays_it_and_holds_nobody_up() {
        let mut file = File::new().await;
        let mut reader = file.options.connect().await.unwrap();
        sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
        sqlx::query("SELECT * FROM events").fetch_all(&mut reader).await.unwrap();
        let longest = file.write(2 * LOG_PAGES_MAX).await;
        assert!(longest >= 2 * LOG_PAGES_MAX - 256, "{longest} pages");
        sqlx::query("COMMIT").execute(&mut reader).await.unwrap();
        let before = file.log_pages();
        let after = file.write(2 * LOG_PAGES_MAX).await;
        assert!(after < before + 2 * i64::try_from(PASS_PAGES).unwrap(), "{after} pages after {before}");
    }
}
