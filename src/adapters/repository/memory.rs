//! The log in memory: the port's promise in its plainest form, which the databases are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::attribute::Subject;
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{AppendError, DeleteError, EventRepository, Page, ReadError, ReadQuery};

/// The log in this process's memory, gone with it. Reads cost what they skip.
#[derive(Debug, Default)]
pub struct MemoryRepository {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    events: BTreeMap<Position, StoredEvent>,
    /// The highest position ever given, which a deletion does not lower.
    head: Option<Position>,
    /// When the last append was recorded.
    recorded: Option<Timestamp>,
}

impl MemoryRepository {
    /// Nothing under the lock can fail half-way, so what a panic left behind is whole.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn append(&mut self, events: Vec<NewEvent>) -> Result<Vec<Position>, AppendError> {
        let first = self.head.map_or(Some(Position::FIRST.get()), |head| head.get().checked_add(1));
        let positions: Option<Vec<Position>> = (0..events.len())
            .map(|index| Position::new(first?.checked_add(i64::try_from(index).ok()?)?).ok())
            .collect();
        let positions = positions.ok_or_else(|| AppendError::Unavailable("the log is full".into()))?;
        let recorded = self.recorded.map_or_else(Timestamp::now, |last| last.max(Timestamp::now()));
        for (event, position) in events.into_iter().zip(&positions) {
            let stored = StoredEvent {
                position: *position,
                event_source: event.event_source,
                event_type: event.event_type,
                subject: event.subject,
                time: event.time.unwrap_or(recorded),
                recorded_time: Some(recorded),
                data: event.data,
            };
            self.events.insert(*position, stored);
        }
        if let Some(last) = positions.last() {
            self.head = Some(*last);
            self.recorded = Some(recorded);
        }
        Ok(positions)
    }

    fn read(&self, query: &ReadQuery) -> Page {
        let mut page = Page { events: Vec::new(), through: query.through };
        let mut bytes = 0_usize;
        let above = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.events.range((above, Bound::Unbounded)).map(|(_, event)| event);
        for event in later.take_while(|event| event.position <= query.through) {
            if !query.filter.matches(event) {
                continue;
            }
            bytes = bytes.saturating_add(event.size_bytes());
            if let Some(last) = page.events.last()
                && (page.events.len() >= query.limit || bytes > query.bytes_max)
            {
                page.through = last.position;
                break;
            }
            page.events.push(event.clone());
        }
        page
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventRepository for MemoryRepository {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Position>, AppendError> {
        self.log().append(events)
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        Ok(self.log().events.get(&position).cloned())
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        Ok(self.log().read(&query))
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.log().head)
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        let log = self.log();
        let above = log.events.values().map(|event| &event.subject).filter(|subject| Some(*subject) > after.as_ref());
        let distinct: BTreeSet<&Subject> = above.collect();
        Ok(distinct.into_iter().take(limit).cloned().collect())
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        let mut log = self.log();
        let before = log.events.len();
        log.events.retain(|position, event| *position < from || *position > through || !filter.matches(event));
        Ok((before - log.events.len()) as u64)
    }
}
