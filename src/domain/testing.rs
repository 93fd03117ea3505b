//! What the tests of the domain share.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::append::AppendRequest;
use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, GroupAppended, LatestPage, LatestQuery, Page, ReadError, ReadQuery,
    RestoreError,
};

/// A plain event of this type with so many bytes of data.
pub(in crate::domain) fn new_event(event_type: &str, bytes: usize) -> NewEvent {
    NewEvent {
        id: None,
        event_source: EventSource::from_stored(String::new()),
        event_type: EventType::from_stored(event_type.to_owned()),
        subject: Subject::from_stored(String::new()),
        time: None,
        data: Bytes::from(vec![0; bytes]),
        context: None,
    }
}

/// A store that appends and reads as a test says, and is empty otherwise.
pub(in crate::domain) struct Scripted<A, R> {
    pub(in crate::domain) append: A,
    pub(in crate::domain) read: R,
    pub(in crate::domain) head: Option<Position>,
}

/// A store that is only read, see [`Scripted::to_read`].
type ToRead<R> = Scripted<fn(&[AppendRequest]) -> Result<GroupAppended, AppendError>, R>;

impl<R> ToRead<R> {
    /// A store with events up to `head`, which takes no more.
    pub(in crate::domain) fn to_read(head: Position, read: R) -> Self {
        Self { append: |_| Err(AppendError::Unavailable("it is only read".into())), read, head: Some(head) }
    }
}

#[async_trait]
impl<A, R> EventRepository for Scripted<A, R>
where
    A: Fn(&[AppendRequest]) -> Result<GroupAppended, AppendError> + Send + Sync,
    R: Fn(&ReadQuery) -> Result<Page, ReadError> + Send + Sync,
{
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        (self.append)(&requests)
    }

    async fn restore(&self, _: Vec<StoredEvent>) -> Result<(), RestoreError> {
        Ok(())
    }

    async fn get(&self, _: Position) -> Result<Option<StoredEvent>, ReadError> {
        Ok(None)
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        (self.read)(&query)
    }

    async fn latest(&self, _: LatestQuery) -> Result<LatestPage, ReadError> {
        Ok(LatestPage { events: Vec::new(), reached: None })
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        Ok(LogState { head: self.head, deletions: 0 })
    }

    async fn subjects(&self, _: Option<Subject>, _: usize) -> Result<Vec<Subject>, ReadError> {
        Ok(Vec::new())
    }

    async fn types(&self, _: Option<Position>, _: Position) -> Result<Vec<EventType>, ReadError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: Filter, _: Position, _: Position) -> Result<u64, DeleteError> {
        Ok(0)
    }
}
