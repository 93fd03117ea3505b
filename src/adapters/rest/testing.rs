//! A log in a `Vec` behind the router, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapters::rest::RestState;
use crate::domain::append::{AppendRequest, LogView, plan};
use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::domain::service::{EventService, ServiceLimits};
use crate::domain::timestamp::Timestamp;
use crate::ports::authenticator::{AuthenticationError, Authenticator};
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, GroupAppended, LatestPage, LatestQuery, Page, ReadError, ReadQuery,
    RestoreError,
};
use crate::ports::notifier::Notifier;

/// The token that [`Bearer`] lets in.
pub(super) const TOKEN: &str = "Bearer token";

#[derive(Default)]
struct VecRepository {
    events: Mutex<Vec<StoredEvent>>,
    is_down: bool,
}

struct Silence;

struct Bearer;

pub(super) fn stored_event(position: i64, subject: &str, data: &[u8]) -> StoredEvent {
    StoredEvent {
        position: Position::new(position).expect("tests give positions"),
        id: None,
        event_source: EventSource::from_stored("shop".to_owned()),
        event_type: EventType::from_stored("order.placed".to_owned()),
        subject: Subject::from_stored(subject.to_owned()),
        time: Timestamp::parse("2024-05-01T12:00:00Z").expect("a time"),
        recorded_time: None,
        data: Bytes::copy_from_slice(data),
        context: None,
    }
}

/// A state with these subjects' events stored, at positions from 1.
pub(super) fn state(subjects: &[&str]) -> RestState {
    let events = (1..).zip(subjects).map(|(position, subject)| stored_event(position, subject, b"x")).collect();
    state_over(VecRepository { events: Mutex::new(events), is_down: false })
}

/// A state whose store does not answer.
pub(super) fn state_without_store() -> RestState {
    state_over(VecRepository { is_down: true, ..VecRepository::default() })
}

fn state_over(repository: VecRepository) -> RestState {
    let limits = ServiceLimits {
        event_bytes_max: 1_000,
        batch_events_max: 10,
        batch_bytes_max: 2_000,
        queue_events_max: 10,
        queue_bytes_max: 2_000,
        subscriptions_max: 1,
        first_page_events: 10,
        client_buffer_events: 10,
        tail_bytes_max: 1_000_000,
        slow_reader_patience: Duration::from_mins(1),
    };
    let service = EventService::new(Arc::new(repository), Arc::new(Silence), limits, CancellationToken::new());
    let appender = service.clone();
    tokio::spawn(async move { appender.write_queued(|_| ()).await });
    RestState {
        service,
        authenticator: Arc::new(Bearer),
        ready: watch::Sender::new(true).subscribe(),
        metrics: Arc::new(|| "up 1\n".to_owned()),
        heartbeat: Duration::from_secs(15),
    }
}

impl VecRepository {
    fn events(&self) -> Result<MutexGuard<'_, Vec<StoredEvent>>, std::io::Error> {
        if self.is_down {
            return Err(std::io::Error::other("connection refused"));
        }
        Ok(self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl EventRepository for VecRepository {
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        let mut log = self.events().map_err(|fault| AppendError::Unavailable(fault.into()))?;
        let first = Position::new(log.last().map_or(1, |last| last.position.get() + 1)).expect("a position");
        let plan = plan(&requests, first, &LogView::default());
        for (position, event) in (first.get()..).zip(plan.new_events) {
            let mut stored = stored_event(position, event.subject.as_str(), &event.data);
            stored.time = event.time.unwrap_or(stored.time);
            log.push(stored);
        }
        Ok(GroupAppended { outcomes: plan.outcomes, recorded: None })
    }

    async fn restore(&self, _events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        Err(RestoreError::Unavailable("not asked for".into()))
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        let log = self.events().map_err(|fault| ReadError::Unavailable(fault.into()))?;
        Ok(log.iter().find(|event| event.position == position).cloned())
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        let log = self.events().map_err(|fault| ReadError::Unavailable(fault.into()))?;
        let wanted = log.iter().filter(|event| Some(event.position) > query.after && query.filter.matches(event));
        let events: Vec<_> = wanted.take(query.limit).cloned().collect();
        let is_full = events.len() == query.limit;
        let reached = events.last().filter(|_| is_full).map_or(query.through, |event| event.position);
        Ok(Page { events, reached })
    }

    async fn latest(&self, _query: LatestQuery) -> Result<LatestPage, ReadError> {
        Err(ReadError::Unavailable("not asked for".into()))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        let log = self.events().map_err(|fault| ReadError::Unavailable(fault.into()))?;
        Ok(LogState { head: log.last().map(|event| event.position), deletions: 0 })
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        let log = self.events().map_err(|fault| ReadError::Unavailable(fault.into()))?;
        let subjects: std::collections::BTreeSet<_> = log.iter().map(|event| event.subject.clone()).collect();
        Ok(subjects.into_iter().filter(|subject| Some(subject) > after.as_ref()).take(limit).collect())
    }

    async fn types(&self, _: Option<Position>, _: Position) -> Result<Vec<EventType>, ReadError> {
        let log = self.events().map_err(|fault| ReadError::Unavailable(fault.into()))?;
        Ok(log.iter().map(|event| event.event_type.clone()).collect())
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        let mut log = self.events().map_err(|fault| DeleteError::Unavailable(fault.into()))?;
        let before = log.len();
        log.retain(|event| !(filter.matches(event) && (from..=through).contains(&event.position)));
        Ok((before - log.len()) as u64)
    }
}

#[async_trait]
impl Notifier for Silence {
    async fn notify(&self, _state: LogState) {}

    fn listen(&self) -> BoxStream<'static, LogState> {
        stream::pending().boxed()
    }
}

impl Authenticator for Bearer {
    fn authenticate(&self, authorization: Option<&[u8]>) -> Result<(), AuthenticationError> {
        match authorization {
            None => Err(AuthenticationError::Missing),
            Some(token) if token == TOKEN.as_bytes() => Ok(()),
            Some(_) => Err(AuthenticationError::Invalid),
        }
    }
}
