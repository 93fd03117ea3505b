//! Moving pages from `SQLite`'s write-ahead log to its file.
//!
//! `SQLite` would do it within a commit, and everybody would wait for as long as the disk takes. So another connection does
//! it beside the commits. Only the log begins anew when all of it is in the file, so once it is long, the writer waits for
//! what came meanwhile.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::{io, thread};

use rusqlite::Connection;

use crate::adapters::repository::sea_orm::append::sqlite::open::File;

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
    file: File,
    /// Who moves pages, once there are some to be moved.
    mover: Option<Mover>,
    is_passing: bool,
    /// About how many pages were written since the last pass began.
    written: u64,
    /// How long the log was when pages were last moved.
    log: i64,
}

/// A thread with a connection. It ends when this is dropped.
struct Mover {
    begin: Sender<()>,
    /// How long the log was after each pass, in pages; `None` after one that failed.
    passed: Receiver<Option<i64>>,
}

impl Checkpointer {
    pub(super) fn new(file: File) -> Self {
        Self { file, mover: None, is_passing: false, written: 0, log: 0 }
    }

    /// So many events of so many bytes were committed.
    pub(super) fn note(&mut self, events: u64, bytes: u64) {
        self.written += COMMIT_PAGES + (bytes + events * ROW_BYTES) / PAGE_BYTES;
    }

    /// Has pages moved if there are enough, and waits for it if the log is long; no transaction may be open. Where it
    /// fails, `SQLite` does it within a commit, later.
    pub(super) fn tend(&mut self) {
        if self.is_passing {
            let passed = self.mover.as_ref().map(|mover| mover.passed.try_recv());
            match passed {
                Some(Ok(log)) => self.settle(log),
                Some(Err(TryRecvError::Empty)) => {}
                Some(Err(TryRecvError::Disconnected)) | None => self.give_up(),
            }
        }
        if !self.is_passing && self.log >= LOG_PAGES_MAX {
            self.begin();
            self.wait();
            // Readers may have kept it from its end. They will be gone when the next pages are moved.
            self.log = 0;
        }
        if !self.is_passing && self.written >= PASS_PAGES {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.written = 0;
        if self.mover.is_none() {
            self.mover = Mover::start(self.file.clone()).ok();
        }
        self.is_passing = self.mover.as_ref().is_some_and(|mover| mover.begin.send(()).is_ok());
    }

    fn wait(&mut self) {
        match self.mover.as_ref().filter(|_| self.is_passing).map(|mover| mover.passed.recv()) {
            Some(Ok(log)) => self.settle(log),
            Some(Err(_)) => self.give_up(),
            None => {}
        }
    }

    fn settle(&mut self, log: Option<i64>) {
        self.is_passing = false;
        self.log = log.unwrap_or(self.log);
    }

    /// The next pass has another thread.
    fn give_up(&mut self) {
        (self.is_passing, self.mover) = (false, None);
    }
}

impl Mover {
    fn start(file: File) -> io::Result<Self> {
        let (begin, asked) = mpsc::channel();
        let (report, passed) = mpsc::channel();
        thread::Builder::new().name("checkpointer".to_owned()).spawn(move || {
            let mut connection = None;
            for () in asked {
                let log = pass(&file, &mut connection);
                let log = log.inspect_err(|error| tracing::debug!(error = %error, "no pages were moved to the file"));
                if report.send(log.ok()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { begin, passed })
    }
}

/// Moves what it can; returns how many pages the log has.
fn pass(file: &File, connection: &mut Option<Connection>) -> rusqlite::Result<i64> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(file.open()?),
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log {
        directory: tempfile::TempDir,
        file: File,
        writer: Connection,
        checkpointer: Checkpointer,
    }

    impl Log {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("events.db");
            Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
            let file = File::at(path);
            let writer = file.open().unwrap();
            writer.pragma_update(None, "synchronous", "OFF").unwrap();
            writer.pragma_update(None, "wal_autocheckpoint", "0").unwrap();
            writer.execute("CREATE TABLE events (data)", ()).unwrap();
            let checkpointer = Checkpointer::new(file.clone());
            Self { directory, file, writer, checkpointer }
        }

        /// Commits so many pages, a MiB at a time, and waits whenever pages are moved; returns the greatest length of the
        /// log, in pages.
        fn write(&mut self, pages: i64) -> i64 {
            let mut longest = 0;
            for _ in 0..pages / 256 {
                self.checkpointer.tend();
                self.checkpointer.wait();
                self.writer.execute("INSERT INTO events VALUES (zeroblob(1 << 20))", ()).unwrap();
                self.checkpointer.note(1, 1 << 20);
                longest = longest.max(self.pages());
            }
            longest
        }

        /// How long the log has ever been: its file does not shrink.
        fn pages(&self) -> i64 {
            let log = self.directory.path().join("events.db-wal");
            i64::try_from(std::fs::metadata(log).unwrap().len() / PAGE_BYTES).unwrap()
        }
    }

    #[test]
    fn log_begins_anew_when_all_was_moved() {
        let mut log = Log::new();
        let longest = log.write(4 * LOG_PAGES_MAX);
        let pass = i64::try_from(PASS_PAGES).unwrap();
        assert!((pass..pass + 512).contains(&longest), "{longest} pages");
    }

    #[test]
    fn long_log_is_waited_for() {
        let mut log = Log::new();
        log.write(256);
        log.checkpointer.log = LOG_PAGES_MAX;
        log.checkpointer.tend();
        assert!(!log.checkpointer.is_passing && log.checkpointer.mover.is_some(), "pages were moved");
        let before = log.pages();
        log.write(256);
        assert_eq!(log.pages(), before);
    }

    #[test]
    fn reader_delays_it_and_holds_nobody_up() {
        let mut log = Log::new();
        let reader = log.file.open().unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM events").unwrap();
        let longest = log.write(2 * LOG_PAGES_MAX);
        assert!(longest >= 2 * LOG_PAGES_MAX - 256, "{longest} pages");
        reader.execute_batch("COMMIT").unwrap();
        let before = log.pages();
        let after = log.write(2 * LOG_PAGES_MAX);
        assert!(after < before + 2 * i64::try_from(PASS_PAGES).unwrap(), "{after} pages after {before}");
    }

    #[test]
    fn pass_that_fails_leaves_it_to_the_commits() {
        let mut log = Log::new();
        log.checkpointer = Checkpointer::new(File::at(log.directory.path().join("nowhere").join("events.db")));
        log.write(2 * LOG_PAGES_MAX);
        assert_eq!(log.checkpointer.log, 0);
    }
}
