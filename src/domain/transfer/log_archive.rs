//! Another log as an archive: nothing is lost in between.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::ports::archive::{ArchiveError, ArchiveReader, ArchivedEvent, Place};
use crate::ports::event_repository::{EventRepository, Order, Page, ReadError, ReadQuery};

/// Events in a page, and their bytes; two of them are in memory.
const PAGE_EVENTS: usize = 2_000;
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A log, from its first event up to a place.
pub struct LogArchive {
    repository: Arc<dyn EventRepository>,
    /// The page that is read while the one before it is stored elsewhere.
    next: Option<Reading>,
}

/// A query and its answer.
type Reading = AbortOnDropHandle<(ReadQuery, Result<Page, ReadError>)>;

impl LogArchive {
    /// What `repository` has up to `through`, a head that was seen before.
    #[must_use]
    pub fn new(repository: Arc<dyn EventRepository>, through: Option<Position>) -> Self {
        let mut archive = Self { repository, next: None };
        if let Some(through) = through {
            archive.read(ReadQuery {
                filter: Filter::default(),
                after: None,
                through,
                order: Order::Ascending,
                limit: PAGE_EVENTS,
                bytes_max: PAGE_BYTES,
            });
        }
        archive
    }

    fn read(&mut self, query: ReadQuery) {
        let repository = Arc::clone(&self.repository);
        let reading = async move {
            let answer = repository.read(query.clone()).await;
            (query, answer)
        };
        self.next = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
    }
}

#[async_trait]
impl ArchiveReader for LogArchive {
    async fn next(&mut self) -> Result<Option<Vec<ArchivedEvent>>, ArchiveError> {
        while let Some(reading) = self.next.take() {
            let (query, answer) = reading.await.map_err(|panic| ArchiveError::Unavailable(panic.into()))?;
            let Page { events, reached } = answer.map_err(|error| ArchiveError::Unavailable(error.into()))?;
            if let Some(query) = query.rest(reached) {
                self.read(query);
            }
            if !events.is_empty() {
                return Ok(Some(events.into_iter().map(archived).collect()));
            }
        }
        Ok(None)
    }
}

fn archived(stored: StoredEvent) -> ArchivedEvent {
    let came_without_time = stored.given_time().is_none();
    let (position, recorded_time) = (stored.position, stored.recorded_time);
    let mut event = stored.into_new();
    if came_without_time {
        event.time = None;
    }
    ArchivedEvent { place: Place::Position(position.get()), position: Some(position), recorded_time, event }
}
