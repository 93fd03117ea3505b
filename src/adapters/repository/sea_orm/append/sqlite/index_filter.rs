//! Which keys `SQLite`'s index has for sure not, told from memory.
//!
//! Nearly every key is new, and to look for one takes a walk down the whole index: the larger the log, the longer, and
//! from the disk where its pages are in no memory. A Bloom filter of the index says "not there" for nearly all of them.
//! It is made beside the appends, from what a connection and a thread of its own read; until it is whole, and whenever
//! another process may have added keys, it says "perhaps there" of each.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use fastbloom::AtomicBloomFilter;
use rusqlite::Connection;

use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::Entry;
use crate::adapters::repository::sea_orm::append::sqlite::open::File;
use crate::adapters::repository::sea_orm::key_index::START_BITS;

/// Bits for each key there is room for: at the most one key in forty is looked for in vain.
const KEY_BITS: usize = 8;

/// Bits that a key sets.
const KEY_HASHES: u32 = 4;

/// Keys that there is room for in the filter of an empty log: 512 KiB.
const KEYS_MIN: i64 = 512 * 1024;

/// Keys of the largest filter, which has 32 MiB. A longer log has none.
const KEYS_MAX: i64 = 32 * 1024 * 1024;

/// Entries read by one statement, so that the log's file is never held for long.
const ENTRIES_AT_ONCE: i64 = 65_536;

/// How long after it was in doubt the next filter is begun at the earliest: where two processes write in turns, none would
/// ever be of use.
const REST: Duration = Duration::from_mins(1);

/// What one connection knows of the index by key.
pub(super) struct IndexFilter {
    file: File,
    /// Has every key of the index.
    whole: Option<Filter>,
    /// Will have.
    gathering: Option<Gathering>,
    /// When the next one may be begun.
    begin_at: Option<Instant>,
}

struct Filter {
    bits: Arc<AtomicBloomFilter>,
    /// How many more keys there is room for.
    room: i64,
}

struct Gathering {
    filter: Filter,
    /// Told when every entry that was there at the beginning is in.
    done: Receiver<()>,
}

impl IndexFilter {
    pub(super) fn new(file: File) -> Self {
        Self { file, whole: None, gathering: None, begin_at: None }
    }

    /// Whether a key that starts with `start` may be in the index.
    pub(super) fn may_have(&self, start: i64) -> bool {
        self.whole.as_ref().is_none_or(|filter| filter.bits.contains_hash(hash(start)))
    }

    /// Notes entries that go into the index with the transaction under way.
    pub(super) fn add(&mut self, entries: &[Entry]) {
        let gathering = self.gathering.as_mut().map(|gathering| &mut gathering.filter);
        for filter in self.whole.as_mut().into_iter().chain(gathering) {
            for (start, _) in entries {
                filter.add(*start);
            }
        }
    }

    /// Takes a filter that has become whole, and begins one if there is none, or none with room. To be called with the log
    /// locked; its head is at `head`, and nobody else has moved it since the last call.
    pub(super) fn tend(&mut self, head: i64) {
        if let Some(gathering) = self.gathering.take() {
            match gathering.done.try_recv() {
                Ok(()) => self.whole = Some(gathering.filter),
                Err(TryRecvError::Empty) => self.gathering = Some(gathering),
                Err(TryRecvError::Disconnected) => self.begin_at = Some(Instant::now() + REST),
            }
        }
        let has_room = self.whole.as_ref().is_some_and(|filter| filter.room > 0);
        if has_room || self.gathering.is_some() || self.begin_at.is_some_and(|begin_at| Instant::now() < begin_at) {
            return;
        }
        if head < KEYS_MAX {
            let keys = head.saturating_mul(2).clamp(KEYS_MIN, KEYS_MAX);
            self.gathering = Gathering::start(self.file.clone(), keys, head).ok();
        } else {
            self.whole = None;
        }
    }

    /// Somebody else may have added keys.
    pub(super) fn doubt(&mut self) {
        let (whole, gathering) = (self.whole.take(), self.gathering.take());
        if whole.is_some() || gathering.is_some() {
            self.begin_at = Some(Instant::now() + REST);
        }
    }
}

impl Filter {
    fn add(&mut self, start: i64) {
        self.bits.insert_hash(hash(start));
        self.room -= 1;
    }
}

impl Gathering {
    /// Begins a filter with room for `keys`, of which the index has up to `head`.
    fn start(file: File, keys: i64, head: i64) -> io::Result<Self> {
        let bits = usize::try_from(keys).unwrap_or_default() * KEY_BITS;
        let bits = Arc::new(AtomicBloomFilter::with_num_bits(bits).hashes(KEY_HASHES));
        let (wanted, (whole, done)) = (Arc::downgrade(&bits), mpsc::channel());
        thread::Builder::new().name("key-filter".to_owned()).spawn(move || match gather(&file, &wanted) {
            Ok(true) => {
                let _no_longer_wanted = whole.send(());
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(error = %error, "the index by key was not read into memory"),
        })?;
        Ok(Self { filter: Filter { bits, room: keys - head }, done })
    }
}

/// Adds every entry there is; returns whether it was wanted to the end.
fn gather(file: &File, wanted: &Weak<AtomicBloomFilter>) -> rusqlite::Result<bool> {
    let connection = file.open()?;
    let mut last = -1;
    loop {
        let Some(filter) = wanted.upgrade() else { return Ok(false) };
        let starts = starts(&connection, last)?;
        for start in &starts {
            filter.insert_hash(hash(*start));
        }
        match starts.last() {
            Some(start) => last = *start,
            None => return Ok(true),
        }
    }
}

/// The next starts in the index above `last`.
fn starts(connection: &Connection, last: i64) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT DISTINCT key_start FROM event_keys WHERE key_start > ? ORDER BY key_start LIMIT ?";
    connection.prepare_cached(sql)?.query_map([last, ENTRIES_AT_ONCE], |row| row.get(0))?.collect()
}

/// A digest already. Neighbours in the index set neighbouring bits first, which share the processor's cache.
fn hash(start: i64) -> u64 {
    start.cast_unsigned() << (u64::BITS - START_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Index {
        _directory: tempfile::TempDir,
        connection: Connection,
        filter: IndexFilter,
    }

    impl Index {
        /// An index that has the first `count` keys.
        fn of(count: i64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("events.db");
            Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
            let file = File::at(path);
            let mut connection = file.open().unwrap();
            connection
                .execute_batch(
                    "CREATE TABLE event_keys (key_start INTEGER NOT NULL, position INTEGER NOT NULL, \
                     PRIMARY KEY (key_start, position)) WITHOUT ROWID",
                )
                .unwrap();
            let transaction = connection.transaction().unwrap();
            for number in 0..count {
                transaction.execute("INSERT INTO event_keys VALUES (?, ?)", [start(number), number + 1]).unwrap();
            }
            transaction.commit().unwrap();
            Self { _directory: directory, connection, filter: IndexFilter::new(file) }
        }

        /// Begins a filter, and waits until all is in that was there.
        fn gather(&mut self, head: i64) {
            self.filter.tend(head);
            self.finish(head);
        }

        /// Waits until all is in that was there when the filter was begun.
        fn finish(&mut self, head: i64) {
            let gathering = self.filter.gathering.as_mut().expect("a filter was begun");
            gathering.done.recv().expect("the index can be read");
            let (told, done) = mpsc::channel();
            told.send(()).unwrap();
            gathering.done = done;
            self.filter.tend(head);
        }

        /// Of the keys of `numbers`, how many may be in the index.
        fn perhaps(&self, numbers: std::ops::Range<i64>) -> usize {
            numbers.filter(|number| self.filter.may_have(start(*number))).count()
        }
    }

    /// Spreads `number` over all starts.
    fn start(number: i64) -> i64 {
        let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed());
        (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9_u64.cast_signed()) & ((1 << START_BITS) - 1)
    }

    #[test]
    fn every_key_is_perhaps_there_until_the_index_was_read() {
        let mut index = Index::of(100);
        assert_eq!(index.perhaps(0..200), 200);
        index.filter.tend(100);
        assert_eq!(index.perhaps(0..200), 200);
        let mut index = Index::of(100);
        index.gather(100);
        assert_eq!((index.perhaps(0..100), index.perhaps(100..200)), (100, 0));
    }

    #[test]
    fn index_is_read_to_its_end() {
        let count = ENTRIES_AT_ONCE + 10;
        let mut index = Index::of(count);
        index.gather(count);
        assert_eq!(index.perhaps(0..count), usize::try_from(count).unwrap());
    }

    #[test]
    fn key_that_goes_into_the_index_meanwhile_is_there() {
        let mut index = Index::of(10);
        index.filter.tend(10);
        index.filter.add(&[(start(10), 11)]);
        index.finish(11);
        index.filter.add(&[(start(11), 12)]);
        assert_eq!((index.perhaps(0..12), index.perhaps(12..100)), (12, 0));
    }

    #[test]
    fn filter_in_doubt_says_nothing_and_rests() {
        let mut index = Index::of(10);
        index.gather(10);
        index.filter.doubt();
        assert_eq!(index.perhaps(0..20), 20);
        index.filter.tend(10);
        assert!(index.filter.gathering.is_none(), "it rests");
        index.filter.begin_at = Some(Instant::now());
        index.gather(10);
        assert_eq!((index.perhaps(0..10), index.perhaps(10..20)), (10, 0));
    }

    #[test]
    fn full_filter_serves_until_the_next_one_is_whole() {
        let mut index = Index::of(10);
        index.gather(10);
        index.filter.whole.as_mut().unwrap().room = 1;
        index.filter.tend(KEYS_MIN);
        assert!(index.filter.gathering.is_none(), "there is room for one more");
        index.connection.execute("INSERT INTO event_keys VALUES (?, 11)", [start(10)]).unwrap();
        index.filter.add(&[(start(10), 11)]);
        index.filter.tend(KEYS_MIN);
        assert_eq!((index.perhaps(0..11), index.perhaps(11..100)), (11, 0));
        index.finish(KEYS_MIN);
        assert_eq!((index.perhaps(0..11), index.perhaps(11..100)), (11, 0));
        assert_eq!(index.filter.whole.as_ref().unwrap().room, KEYS_MIN);
    }

    #[test]
    fn log_with_too_many_keys_has_no_filter() {
        let mut index = Index::of(10);
        index.gather(KEYS_MAX - 1);
        assert_eq!(index.perhaps(10..20), 0);
        index.filter.whole.as_mut().unwrap().room = 0;
        index.filter.tend(KEYS_MAX);
        assert!(index.filter.gathering.is_none());
        assert_eq!(index.perhaps(10..20), 10);
    }

    #[test]
    fn few_keys_are_looked_for_in_vain() {
        let filter = AtomicBloomFilter::with_num_bits(100_000 * KEY_BITS).hashes(KEY_HASHES);
        for number in 0..100_000 {
            filter.insert_hash(hash(start(number)));
        }
        let in_vain = (100_000..200_000).filter(|number| filter.contains_hash(hash(start(*number)))).count();
        assert!(in_vain < 100_000 / 40, "{in_vain} of 100,000");
    }

    #[test]
    fn index_that_cannot_be_read_is_left_alone_for_a_while() {
        let nowhere = File::at(std::env::temp_dir().join("nowhere").join("events.db"));
        let mut filter = IndexFilter::new(nowhere);
        filter.tend(10);
        assert!(filter.gathering.as_ref().unwrap().done.recv().is_err());
        filter.tend(10);
        assert!(filter.may_have(1) && filter.gathering.is_none());
    }
}
