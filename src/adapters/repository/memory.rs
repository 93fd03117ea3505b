//! The log in memory: the port's promise in its plainest form, which the databases are compared with.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::append::{AppendRequest, LogView, plan};
use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, GroupAppended, LatestPage, LatestQuery, Order, Page, ReadError,
    ReadQuery, RestoreError,
};

/// The log in this process's memory, gone with it. Reads cost what they skip.
#[derive(Debug, Default)]
pub struct MemoryRepository {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    events: BTreeMap<Position, StoredEvent>,
    /// Its head is the highest position ever given, which a deletion does not lower.
    state: LogState,
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
    fn append(&mut self, requests: &[AppendRequest]) -> Result<GroupAppended, AppendError> {
        let count: usize = requests.iter().map(|request| request.events.len()).sum();
        let first = self.state.head.map_or(Some(Position::FIRST.get()), |head| head.get().checked_add(1));
        let first = first.filter(|first| i64::try_from(count).is_ok_and(|count| first.checked_add(count).is_some()));
        let first = first.and_then(|first| Position::new(first).ok());
        let first = first.ok_or_else(|| AppendError::Unavailable("the log is full".into()))?;
        let plan = plan(requests, first, &self.view(requests));
        let recorded = self.recorded.map_or_else(Timestamp::now, |last| last.max(Timestamp::now()));
        for (position, event) in (first.get()..).zip(&plan.new_events) {
            let position = Position::new(position).expect("positions above the first are positions");
            self.events.insert(position, (*event).clone().stored(position, recorded));
            self.state.head = Some(position);
            self.recorded = Some(recorded);
        }
        let recorded = (!plan.new_events.is_empty()).then_some(recorded);
        Ok(GroupAppended { outcomes: plan.outcomes, recorded })
    }

    fn restore(&mut self, events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        let first = events.first().map(|event| event.position);
        if let Some(head) = self.state.head.filter(|head| first.is_some_and(|first| first <= *head)) {
            return Err(RestoreError::Passed { head });
        }
        let recorded = events.iter().find_map(|event| event.recorded_time);
        if recorded.is_some() && recorded < self.recorded {
            return Err(RestoreError::Earlier);
        }
        let mut keys: HashSet<_> = self.events.values().filter_map(StoredEvent::key).collect();
        if events.iter().filter_map(StoredEvent::key).any(|key| !keys.insert(key)) {
            return Err(RestoreError::Duplicate("the log in memory has it".into()));
        }
        for event in events {
            self.state.head = Some(event.position);
            self.recorded = self.recorded.max(event.recorded_time);
            self.events.insert(event.position, event);
        }
        Ok(())
    }

    fn view(&self, requests: &[AppendRequest]) -> LogView {
        let keys: HashSet<_> = requests.iter().flat_map(|request| &request.events).filter_map(NewEvent::key).collect();
        let is_wanted = |event: &&StoredEvent| event.key().is_some_and(|key| keys.contains(&key));
        let last_of = |subject: &Subject| {
            self.events.values().rev().find(|event| event.subject == *subject).map(|event| event.position)
        };
        let preconditions = requests.iter().flat_map(|request| &request.preconditions);
        LogView {
            stored: self.events.values().filter(is_wanted).cloned().collect(),
            last_positions: preconditions.map(|it| (it.subject.clone(), last_of(&it.subject))).collect(),
        }
    }

    fn read(&self, query: &ReadQuery) -> Page {
        let above = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let selected = self.events.range((above, Bound::Unbounded)).map(|(_, event)| event);
        let selected = selected.take_while(|event| event.position <= query.through);
        match query.order {
            Order::Ascending => page(query, selected, query.through),
            Order::Descending => {
                let selected: Vec<&StoredEvent> = selected.collect();
                let lowest = query.after.and_then(|after| Position::new(after.get() + 1).ok());
                page(query, selected.into_iter().rev(), lowest.unwrap_or(Position::FIRST))
            }
        }
    }

    fn latest(&self, query: &LatestQuery) -> LatestPage {
        let through = self.events.range(..=query.through).map(|(_, event)| event);
        let wanted = through.filter(|event| query.filter.matches(event) && Some(&event.subject) > query.after.as_ref());
        let latest: BTreeMap<&Subject, &StoredEvent> = wanted.map(|event| (&event.subject, event)).collect();
        let mut found = LatestPage { events: Vec::new(), reached: None };
        let mut bytes = 0_usize;
        for event in latest.into_values() {
            bytes = bytes.saturating_add(event.size_bytes());
            if let Some(last) = found.events.last()
                && (found.events.len() >= query.limit || bytes > query.bytes_max)
            {
                found.reached = Some(last.subject.clone());
                break;
            }
            found.events.push(event.clone());
        }
        found
    }
}

/// The first matches that fit; `end` is reached when all of them do.
fn page<'a>(query: &ReadQuery, events: impl Iterator<Item = &'a StoredEvent>, end: Position) -> Page {
    let mut page = Page { events: Vec::new(), reached: end };
    let mut bytes = 0_usize;
    for event in events.filter(|event| query.filter.matches(event)) {
        bytes = bytes.saturating_add(event.size_bytes());
        if let Some(last) = page.events.last()
            && (page.events.len() >= query.limit || bytes > query.bytes_max)
        {
            page.reached = last.position;
            break;
        }
        page.events.push(event.clone());
    }
    page
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventRepository for MemoryRepository {
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        self.log().append(&requests)
    }

    async fn restore(&self, events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        self.log().restore(events)
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        Ok(self.log().events.get(&position).cloned())
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        Ok(self.log().read(&query))
    }

    async fn latest(&self, query: LatestQuery) -> Result<LatestPage, ReadError> {
        Ok(self.log().latest(&query))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        Ok(self.log().state)
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        let log = self.log();
        let above = log.events.values().map(|event| &event.subject).filter(|subject| Some(*subject) > after.as_ref());
        let distinct: BTreeSet<&Subject> = above.collect();
        Ok(distinct.into_iter().take(limit).cloned().collect())
    }

    async fn types(&self, after: Option<Position>, through: Position) -> Result<Vec<EventType>, ReadError> {
        let log = self.log();
        let above = log.events.values().filter(|event| Some(event.position) > after && event.position <= through);
        let distinct: BTreeSet<&EventType> = above.map(|event| &event.event_type).collect();
        Ok(distinct.into_iter().cloned().collect())
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        let mut log = self.log();
        let before = log.events.len();
        log.events.retain(|position, event| *position < from || *position > through || !filter.matches(event));
        let deleted = (before - log.events.len()) as u64;
        log.state.deletions += u64::from(deleted > 0);
        Ok(deleted)
    }
}
