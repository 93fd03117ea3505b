//! Reading what is stored, and deleting it.

use std::sync::Arc;

use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::ports::event_repository::{DeleteError, Page, ReadError, ReadQuery};

/// How many events a client may ask for at once.
pub const HISTORY_LIMIT_MAX: usize = 1_000;

/// A request for stored events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Which events.
    pub filter: Filter,
    /// Only events above this place.
    pub after: Option<Position>,
    /// How many events at the most, from 1 to [`HISTORY_LIMIT_MAX`].
    pub limit: usize,
    /// How many bytes of events at the most; a larger single event is returned alone.
    pub bytes_max: usize,
}

/// Stored events, and whether there are more behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Matching events, positions strictly ascending.
    pub events: Vec<StoredEvent>,
    /// Exactly whether another event matched when this was read.
    pub has_more: bool,
}

impl EventService {
    /// The event at `position`, if it is there.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        self.core.repository.get(position).await
    }

    /// Stored events that match, from the place after `request.after` on.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn history(&self, request: HistoryRequest) -> Result<History, ReadError> {
        let nothing = History { events: Vec::new(), has_more: false };
        let Some(head) = self.refresh_head().await? else {
            return Ok(nothing);
        };
        // One event beyond the limit tells whether there are more.
        let mut query = ReadQuery {
            filter: request.filter,
            after: request.after,
            through: head,
            limit: request.limit + 1,
            bytes_max: request.bytes_max,
        };
        let mut history = nothing;
        while query.after < Some(head) {
            let Page { events, through } = self.core.repository.read(query.clone()).await?;
            for event in events {
                let fits = history.events.is_empty() || event.size_bytes() <= query.bytes_max;
                if history.events.len() == request.limit || !fits {
                    history.has_more = true;
                    return Ok(history);
                }
                query.bytes_max = query.bytes_max.saturating_sub(event.size_bytes());
                history.events.push(event);
            }
            query.after = Some(through);
            query.limit = request.limit + 1 - history.events.len();
        }
        Ok(history)
    }

    /// Up to `limit` of the distinct subjects above `after`, ascending by bytes.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        self.core.repository.subjects(after, limit).await
    }

    /// Deletes what matches `filter` at or above `from` and is stored by now; says how many events that were.
    ///
    /// # Errors
    /// [`DeleteError::Unavailable`]: a part may be deleted.
    pub async fn delete(&self, filter: Filter, from: Position) -> Result<u64, DeleteError> {
        let head = self.refresh_head().await.map_err(|error| DeleteError::Unavailable(error.into()))?;
        match head {
            Some(head) if from <= head => {
                let repository = Arc::clone(&self.core.repository);
                let deletion = self.core.writes.spawn(async move { repository.delete(filter, from, head).await });
                deletion.await.unwrap_or_else(|fault| Err(DeleteError::Unavailable(fault.into())))
            }
            Some(_) | None => Ok(0),
        }
    }
}
