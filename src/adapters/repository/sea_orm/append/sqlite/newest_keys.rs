//! The keys of the newest events, which have no entries in `SQLite`'s index yet.

use std::collections::HashMap;

use crate::adapters::repository::sea_orm::append::rows::Row;
use crate::adapters::repository::sea_orm::key_index::{START_BITS, key_start};

/// Bits at the beginning of a key that say which part it is in.
const PART_BITS: u32 = 5;

/// Parts that a round goes through: the more, the shorter an append is held up by one.
const PARTS: usize = 1 << PART_BITS;

/// After so many events a part is due. The more, the more keys go into a page of the index at once, and the more are
/// held in memory: half of what comes in a round, at 17 bytes and room for as many again, which is some 4 MiB.
const PART_EVENTS: u64 = 4_096;

/// After so many bytes of events a part is due, too: who opens the log anew reads up to two rounds of it.
const PART_BYTES: u64 = 2 * 1024 * 1024;

/// Entries that one append adds at the most, unless a single part has more.
const ENTRIES_AT_ONCE: usize = 8_192;

/// An entry of the index: the start of a key, and the position of the event that has it.
pub(super) type Entry = (i64, i64);

/// What one connection knows of keys without entries.
///
/// Every key of the log is in the index, or here if [`NewestKeys::is_current`]. Keys of events that are gone may be here:
/// who finds one looks for the event.
#[derive(Debug, Default)]
pub(super) struct NewestKeys {
    entries: Entries,
    /// The head up to which `entries` are complete.
    through: i64,
    /// Whether nothing was seen above `through`.
    is_current: bool,
    /// The part of the round that comes next.
    part: usize,
    /// The head at the beginning of the round: at its end, all up to there is in the index.
    began_at: i64,
    /// The number of deletions when all of `entries` were known to be of stored events, and that at the beginning of the
    /// round.
    deletions: i64,
    deletions_at_begin: i64,
    /// What came since the last part that was due.
    events: u64,
    bytes: u64,
}

/// Entries, by the parts that a round goes through.
#[derive(Debug)]
struct Entries {
    /// One position for each start.
    parts: Vec<HashMap<i64, i64>>,
    /// The rare ones whose start is taken: by an event that is gone, or by chance.
    others: Vec<Entry>,
}

/// What a transaction adds, which counts once it is committed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    /// The head after it.
    head: i64,
    events: u64,
    bytes: u64,
    parts: Parts,
}

/// The parts of a round that are put into the index by one transaction.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) entries: Vec<Entry>,
    count: usize,
    /// Up to where every event is in the index then, if that is news.
    pub(super) keyed_through: Option<i64>,
    /// The number of deletions now.
    deletions: i64,
    /// Whether one of the entries may be of an event that is gone.
    pub(super) may_be_stale: bool,
}

/// What a look at the log finds, while it is locked.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The place above which it looked: up to there, all is in the index or held.
    pub(super) after: i64,
    pub(super) head: i64,
    /// The number of deletions.
    pub(super) deletions: i64,
    /// The keys of the events above that place.
    pub(super) entries: Vec<Entry>,
}

impl Batch {
    /// `rows`, each with its place.
    pub(super) fn of<'r, 'e: 'r>(rows: impl Iterator<Item = (i64, &'r Row<'e>)>) -> Self {
        let mut batch = Self::default();
        for (place, row) in rows {
            batch.head = place;
            batch.events += 1;
            batch.bytes += row.bytes() as u64;
            batch.entries.extend(row.key.as_ref().map(|key| (key_start(key), place)));
        }
        batch
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of what the producers gave.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has `parts` put into the index with it.
    pub(super) fn with(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }
}

impl Default for Entries {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| HashMap::new()).collect(), others: Vec::new() }
    }
}

impl Extend<Entry> for Entries {
    fn extend<T: IntoIterator<Item = Entry>>(&mut self, entries: T) {
        for (start, position) in entries {
            if let Some(before) = self.parts[part_of(start)].insert(start, position)
                && before != position
            {
                self.others.push((start, before));
            }
        }
    }
}

impl Entries {
    fn is_empty(&self) -> bool {
        self.parts.iter().all(HashMap::is_empty) && self.others.is_empty()
    }

    fn has(&self, start: i64) -> bool {
        self.parts[part_of(start)].contains_key(&start)
    }

    fn positions(&self, start: i64) -> impl Iterator<Item = i64> {
        let others = self.others.iter().filter(move |(other, _)| *other == start).map(|(_, position)| *position);
        self.parts[part_of(start)].get(&start).copied().into_iter().chain(others)
    }

    fn of_part(&self, part: usize) -> impl Iterator<Item = Entry> {
        let others = self.others.iter().filter(move |(start, _)| part_of(*start) == part);
        self.parts[part].iter().map(|(start, position)| (*start, *position)).chain(others.copied())
    }

    fn clear(&mut self, part: usize) {
        self.parts[part].clear();
        self.others.retain(|(start, _)| part_of(*start) != part);
    }
}

fn part_of(start: i64) -> usize {
    usize::try_from(start >> (START_BITS - PART_BITS)).unwrap_or_default()
}

impl NewestKeys {
    /// Whether this is all that the index does not have.
    pub(super) fn is_current(&self) -> bool {
        self.is_current
    }

    /// The head when this was current.
    pub(super) fn through(&self) -> i64 {
        self.through
    }

    /// The head is found at `head`: somebody else may have moved it.
    pub(super) fn meet(&mut self, head: i64) {
        self.is_current &= head == self.through;
    }

    /// Somebody else has moved the head.
    pub(super) fn doubt(&mut self) {
        self.is_current = false;
    }

    /// Takes in what was found, and is current.
    pub(super) fn catch_up(&mut self, found: Found) {
        let Found { after, head, deletions, entries } = found;
        if self.entries.is_empty() {
            (self.deletions, self.deletions_at_begin) = (deletions, deletions);
        }
        if self.through == 0 {
            self.began_at = head;
        }
        // Once round is enough, however many they are.
        let events = u64::try_from(head.saturating_sub(after)).unwrap_or(0);
        self.events = (self.events + events).min(PARTS as u64 * PART_EVENTS);
        self.entries.extend(entries);
        (self.through, self.is_current) = (head, true);
    }

    /// Whether a key that starts with `start` is here.
    pub(super) fn has(&self, start: i64) -> bool {
        self.entries.has(start)
    }

    /// The positions of the keys that start with `start`.
    pub(super) fn positions(&self, start: i64) -> impl Iterator<Item = i64> {
        self.entries.positions(start)
    }

    /// Whether a part is to be put into the index with `batch`.
    pub(super) fn is_due(&self, batch: &Batch) -> bool {
        self.parts_due(batch) > 0
    }

    /// What is to be put into the index with `batch`, after so many deletions; this must be current.
    pub(super) fn due(&self, batch: &Batch, deletions: i64) -> Parts {
        let mut parts = Parts { deletions, may_be_stale: deletions != self.deletions, ..Parts::default() };
        while parts.count < self.parts_due(batch) && parts.entries.len() < ENTRIES_AT_ONCE {
            let part = self.part + parts.count;
            if part == PARTS {
                break;
            }
            parts.entries.extend(self.entries.of_part(part));
            parts.count += 1;
        }
        // In their order, neighbours share the pages that they go into.
        parts.entries.sort_unstable();
        parts.keyed_through = (self.part + parts.count == PARTS).then_some(self.began_at);
        parts
    }

    fn parts_due(&self, batch: &Batch) -> usize {
        let of_events = (self.events + batch.events) / PART_EVENTS;
        let of_bytes = (self.bytes + batch.bytes) / PART_BYTES;
        usize::try_from(of_events.max(of_bytes)).unwrap_or(PARTS)
    }

    /// `batch` is committed.
    pub(super) fn commit(&mut self, batch: Batch) {
        let Batch { entries, head, events, bytes, parts } = batch;
        self.events += events;
        self.bytes += bytes;
        if !self.is_current {
            return;
        }
        (self.part..self.part + parts.count).for_each(|part| self.entries.clear(part));
        self.events = self.events.saturating_sub(parts.count as u64 * PART_EVENTS);
        self.bytes = self.bytes.saturating_sub(parts.count as u64 * PART_BYTES);
        self.entries.extend(entries);
        self.through = head;
        self.part += parts.count;
        if self.part == PARTS {
            (self.part, self.began_at) = (0, head);
            if parts.deletions == self.deletions_at_begin {
                // What was held at the beginning has gone into the index, what came since was not deleted.
                self.deletions = parts.deletions;
            }
            self.deletions_at_begin = parts.deletions;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A log, and an index as the database holds it.
    #[derive(Default)]
    struct Log {
        entries: BTreeSet<Entry>,
        index: BTreeSet<Entry>,
        keyed_through: i64,
        head: i64,
        deletions: i64,
    }

    /// Spreads what `number` says over all starts.
    fn start(number: i64) -> i64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()) & ((1 << START_BITS) - 1)
    }

    impl Log {
        fn batch(&self, count: i64, bytes: u64) -> Batch {
            let entries = (self.head + 1..=self.head + count).map(|place| (start(place), place)).collect();
            Batch { entries, head: self.head + count, events: count.unsigned_abs(), bytes, parts: Parts::default() }
        }

        /// Commits as the writer does; returns how many entries that added.
        fn commit(&mut self, newest: &mut NewestKeys, batch: Batch) -> usize {
            let before = self.index.len();
            let batch = if newest.is_due(&batch) {
                let parts = newest.due(&batch, self.deletions);
                let is_stale = |entry: &&Entry| !self.entries.contains(entry);
                assert!(parts.may_be_stale || !parts.entries.iter().any(|entry| is_stale(&entry)));
                self.index.extend(parts.entries.iter().filter(|entry| !is_stale(entry)));
                self.keyed_through = self.keyed_through.max(parts.keyed_through.unwrap_or(0));
                batch.with(parts)
            } else {
                batch
            };
            self.entries.extend(&batch.entries);
            self.head = batch.head;
            newest.commit(batch);
            self.index.len() - before
        }

        fn delete(&mut self, place: i64) {
            let entry = (start(place), place);
            if self.entries.remove(&entry) {
                self.index.remove(&entry);
                self.deletions += 1;
            }
        }

        fn check(&self, newest: &NewestKeys) {
            for (start, place) in &self.entries {
                let is_indexed = self.index.contains(&(*start, *place));
                assert!(is_indexed || newest.positions(*start).any(|held| held == *place), "{place} is nowhere");
                assert!(is_indexed || *place > self.keyed_through, "{place} is not below {}", self.keyed_through);
            }
        }
    }

    #[test]
    fn every_key_is_in_the_index_or_held() {
        let (mut log, mut newest) = (Log::default(), NewestKeys::default());
        newest.catch_up(Found::default());
        let round = i64::try_from(PART_EVENTS * PARTS as u64).unwrap();
        let mut largest = 0;
        for turn in 0.. {
            if log.head > 3 * round {
                break;
            }
            if turn % 10 == 0 {
                // What is rolled back leaves no trace.
                let _rolled_back = newest.due(&log.batch(turn % 7_000, 0), log.deletions);
            }
            largest = largest.max(log.commit(&mut newest, log.batch(turn % 2_000 + 1, 100)));
            if turn % 300 == 0 {
                log.delete(log.head - 100_000 * (turn / 300 % 2));
                log.check(&newest);
            }
        }
        log.check(&newest);
        assert!(largest < ENTRIES_AT_ONCE, "{largest} entries at once");
        assert!(log.keyed_through > log.head - 2 * round - 2_000, "{} of {}", log.keyed_through, log.head);
        let held: usize = newest.entries.parts.iter().map(HashMap::len).sum();
        let round = usize::try_from(round).unwrap();
        assert!(held < round / 2 + round / 10, "{held} are held");
    }

    #[test]
    fn entries_are_looked_after_until_a_round_without_deletions() {
        let (mut log, mut newest) = (Log::default(), NewestKeys::default());
        newest.catch_up(Found::default());
        let part = i64::try_from(PART_EVENTS).unwrap();
        let is_looked_after = |log: &mut Log, newest: &mut NewestKeys| {
            log.commit(newest, log.batch(part, 0));
            newest.due(&log.batch(part, 0), log.deletions).may_be_stale
        };
        assert!((0..PARTS + 5).all(|_| !is_looked_after(&mut log, &mut newest)));
        log.delete(log.head - part);
        // The rest of this round, and the next one.
        assert!((5..2 * PARTS - 1).all(|_| is_looked_after(&mut log, &mut newest)));
        assert!((0..PARTS).all(|_| !is_looked_after(&mut log, &mut newest)));
    }

    #[test]
    fn large_events_take_the_index_round_as_well() {
        let (mut log, mut newest) = (Log::default(), NewestKeys::default());
        newest.catch_up(Found::default());
        for _ in 0..3 * PARTS {
            log.commit(&mut newest, log.batch(2, PART_BYTES));
        }
        log.check(&newest);
        assert!(log.keyed_through >= 2 * i64::try_from(PARTS).unwrap(), "{} of {}", log.keyed_through, log.head);
    }

    #[test]
    fn what_was_found_at_the_start_goes_into_the_index_first() {
        let mut log = Log::default();
        let found: Vec<Entry> = (1..=300_000).map(|place| (start(place), place)).collect();
        (log.entries, log.head) = (found.iter().copied().collect(), 300_000);
        let mut newest = NewestKeys::default();
        newest.catch_up(Found { head: log.head, entries: found, ..Found::default() });
        for _ in 0..60 {
            let added = log.commit(&mut newest, log.batch(1, 1));
            assert!(added < 2 * ENTRIES_AT_ONCE, "{added} entries at once");
        }
        log.check(&newest);
        assert_eq!(log.keyed_through, 300_000);
    }

    #[test]
    fn index_comes_along_without_keys() {
        let mut log = Log { head: 200_000, ..Log::default() };
        let mut newest = NewestKeys::default();
        newest.catch_up(Found { head: log.head, ..Found::default() });
        log.commit(&mut newest, log.batch(1, 1));
        assert_eq!(log.keyed_through, 200_000, "whoever begins next has nothing of that to read");
    }

    #[test]
    fn doubt_lasts_until_the_log_was_read() {
        let mut newest = NewestKeys::default();
        newest.catch_up(Found { head: 7, entries: vec![(1, 7)], ..Found::default() });
        newest.meet(7);
        assert!(newest.is_current());
        newest.meet(8);
        newest.meet(7);
        assert!(!newest.is_current());
        // What came meanwhile is not known, and the next look must begin where knowledge ends.
        newest.commit(Batch { entries: vec![(2, 9)], head: 9, events: 1, ..Batch::default() });
        assert_eq!((newest.through(), newest.has(2)), (7, false));
        newest.catch_up(Found { after: 7, head: 9, entries: vec![(3, 8), (2, 9)], ..Found::default() });
        assert!(newest.is_current() && newest.has(1) && newest.has(2) && newest.has(3) && !newest.has(4));
    }
}
