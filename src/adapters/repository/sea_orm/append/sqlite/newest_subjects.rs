//! The subjects of the newest events, which have no entries in `SQLite`'s index yet.

use std::collections::{HashMap, VecDeque};

use rusqlite::Connection;

use crate::adapters::repository::sea_orm::append::rows::Row;
use crate::adapters::repository::sea_orm::append::sqlite::fault::Fault;
use crate::adapters::repository::sea_orm::append::sqlite::keys::deletions;
use crate::adapters::repository::sea_orm::subject_index::BEHIND_MAX;

/// Entries that one append adds, unless it brings more events than half of that, or a single subject has more. The fewer,
/// the shorter an append is held up.
const ENTRIES_AT_ONCE: usize = 1_024;

/// What one connection knows of events without entries. Events that are gone may be here: who finds one looks for it.
///
/// All is as the transaction under way leaves it, see [`NewestSubjects::rolled_back`].
#[derive(Debug, Default)]
pub(super) struct NewestSubjects {
    /// The positions of each subject, of the events above those of the round.
    waiting: HashMap<String, Vec<i64>>,
    /// How many positions they are.
    count: i64,
    /// The place up to which events are here or have entries.
    through: i64,
    /// The place up to which all have entries, as far as this connection has seen.
    indexed: i64,
    /// The number of deletions when the first of them came.
    deletions: i64,
    round: Round,
    is_touched: bool,
}

/// Events that get their entries now, in the order of the index so that neighbours share its pages.
#[derive(Debug, Default)]
struct Round {
    left: VecDeque<(String, Vec<i64>)>,
    /// Where the last of them is.
    through: i64,
    /// The number of deletions when the first of them came.
    deletions: i64,
}

impl NewestSubjects {
    /// Takes in `rows`, each with its place above `before`, and adds entries if it is their turn; the index reaches up to
    /// `indexed`.
    pub(super) fn follow<'r, 'e: 'r>(
        &mut self,
        connection: &Connection,
        indexed: i64,
        before: i64,
        rows: impl ExactSizeIterator<Item = (i64, &'r Row<'e>)>,
    ) -> Result<(), Fault> {
        self.is_touched = true;
        self.take_in(connection, indexed, before)?;
        let events = rows.len();
        for (place, row) in rows {
            self.add(row.event.subject.as_str(), place);
        }
        if self.round.left.is_empty() && self.count >= BEHIND_MAX {
            let deletions = deletions(connection)?;
            let mut left: Vec<_> = self.waiting.drain().collect();
            left.sort_unstable();
            self.round = Round { left: left.into(), through: self.through, deletions: self.deletions };
            (self.count, self.deletions) = (0, deletions);
        }
        if self.round.left.is_empty() {
            return Ok(());
        }
        self.round.advance(connection, ENTRIES_AT_ONCE.max(2 * events))?;
        if self.round.left.is_empty() {
            let sql = "UPDATE event_head SET indexed_through = max(indexed_through, ?) WHERE id = 1";
            connection.prepare_cached(sql)?.execute([self.round.through])?;
            self.indexed = self.indexed.max(self.round.through);
        }
        Ok(())
    }

    /// Takes in what is stored up to `through`.
    pub(super) fn take_in(&mut self, connection: &Connection, indexed: i64, through: i64) -> Result<(), Fault> {
        if self.through == 0 {
            self.deletions = deletions(connection)?;
        }
        self.leave_to_index(indexed);
        let after = self.through.max(indexed);
        if after < through {
            let mut look = connection.prepare_cached("SELECT subject, id FROM events WHERE id > ? AND id <= ?")?;
            let mut rows = look.query([after, through])?;
            while let Some(row) = rows.next()? {
                self.add(row.get_ref(0)?.as_str().unwrap_or_default(), row.get(1)?);
            }
        }
        self.through = after.max(through);
        Ok(())
    }

    /// Lets go of what has entries up to `indexed`, where another process has moved the index: of the events up to there, only
    /// the index has all.
    fn leave_to_index(&mut self, indexed: i64) {
        if indexed <= self.indexed {
            return;
        }
        self.indexed = indexed;
        self.waiting.retain(|_, positions| {
            positions.retain(|position| *position > indexed);
            !positions.is_empty()
        });
        self.count = self.waiting.values().map(|positions| i64::try_from(positions.len()).unwrap_or(i64::MAX)).sum();
        if self.round.through <= indexed {
            self.round = Round::default();
        }
    }

    fn add(&mut self, subject: &str, position: i64) {
        match self.waiting.get_mut(subject) {
            Some(positions) => positions.push(position),
            None => _ = self.waiting.insert(subject.to_owned(), vec![position]),
        }
        self.count += 1;
        self.through = self.through.max(position);
    }

    /// The positions of `subject` here, the last one first.
    pub(super) fn positions(&self, subject: &str) -> impl Iterator<Item = i64> {
        let waiting = self.waiting.get(subject);
        let left = &self.round.left;
        let found = left.binary_search_by(|(other, _)| other.as_str().cmp(subject)).ok();
        let in_round = found.and_then(|index| left.get(index)).map(|(_, positions)| positions);
        waiting.into_iter().chain(in_round).flat_map(|positions| positions.iter().rev().copied())
    }

    /// What was touched is committed.
    pub(super) fn committed(&mut self) {
        self.is_touched = false;
    }

    /// What was touched has not happened: all is to be looked up again.
    pub(super) fn rolled_back(&mut self) {
        if self.is_touched {
            *self = Self::default();
        }
    }
}

impl Round {
    /// Adds entries, `count` or a few more if there are so many, but for events that are gone.
    fn advance(&mut self, connection: &Connection, count: usize) -> Result<(), Fault> {
        let mut insert = connection.prepare_cached(if deletions(connection)? == self.deletions {
            "INSERT OR IGNORE INTO event_subjects (of_subject, position) VALUES (?, ?)"
        } else {
            "INSERT OR IGNORE INTO event_subjects (of_subject, position) \
             SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?2)"
        })?;
        let mut added = 0;
        while added < count
            && let Some((subject, positions)) = self.left.pop_front()
        {
            added += positions.len();
            for position in positions {
                insert.execute((subject.as_str(), position))?;
            }
        }
        Ok(())
    }
}
