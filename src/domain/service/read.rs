//! Reading what is stored, and deleting it.

use std::sync::Arc;

use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log::{LogEvent, LogPage};
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::domain::subscription::{Start, StartError};
use crate::ports::event_repository::{DeleteError, LatestPage, LatestQuery, Order, ReadError, ReadQuery};

/// How many events a client may ask for at once.
pub const HISTORY_LIMIT_MAX: usize = 1_000;

/// A request for stored events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Which events.
    pub filter: Filter,
    /// Where to begin; for falling positions, `Start::After` begins below its place, or at the head without one, and
    /// `Start::Time` with the last event recorded before.
    pub start: Start,
    /// From which end.
    pub order: Order,
    /// Where to end before: only events below this, or for falling positions, above it.
    pub until: Option<Position>,
    /// Read when the log has come this far.
    pub min_position: Option<Position>,
    /// How many events at the most, from 1 to [`HISTORY_LIMIT_MAX`].
    pub limit: usize,
    /// How many bytes of events at the most; a larger single event is returned alone.
    pub bytes_max: usize,
}

/// A request for the last event of each subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestRequest {
    /// Which events; of each subject the last one of these counts.
    pub filter: Filter,
    /// Only subjects above this one, by bytes.
    pub after: Option<Subject>,
    /// Read when the log has come this far.
    pub min_position: Option<Position>,
    /// How many events at the most, from 1 to [`HISTORY_LIMIT_MAX`].
    pub limit: usize,
    /// How many bytes of events at the most; a larger single event is returned alone.
    pub bytes_max: usize,
}

/// Stored events, and whether there are more behind them.
#[derive(Debug, Clone)]
pub struct History {
    /// Matching events in the order that was asked for.
    pub events: Vec<Arc<LogEvent>>,
    /// Exactly whether another event matched when this was read.
    pub has_more: bool,
}

/// Events that fit into an answer.
struct Answer {
    history: History,
    limit: usize,
    bytes_left: usize,
}

impl Answer {
    fn new(limit: usize, bytes_max: usize) -> Self {
        Self { history: History { events: Vec::new(), has_more: false }, limit, bytes_left: bytes_max }
    }

    /// Adds `event` if it fits; from then on there is more behind it.
    fn push(&mut self, event: Arc<LogEvent>) -> bool {
        let events = &mut self.history.events;
        let bytes = event.stored().size_bytes();
        if events.len() == self.limit || (bytes > self.bytes_left && !events.is_empty()) {
            self.history.has_more = true;
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        events.push(event);
        true
    }

    /// What still fits, and one event beyond it, which tells whether there are more.
    fn limit_left(&self) -> usize {
        self.limit + 1 - self.history.events.len()
    }
}

impl EventService {
    /// The event at `position`, if it is there.
    ///
    /// # Errors
    /// As [`StartError`] says, when the log has to come to `min_position` before.
    pub async fn get(
        &self,
        position: Position,
        min_position: Option<Position>,
    ) -> Result<Option<StoredEvent>, StartError> {
        self.wait_for(min_position).await?;
        // Never from memory: to make sure that another process has not deleted it costs as much.
        Ok(self.core.log.repository().get(position).await?)
    }

    /// How far the log has come, `min_position` at least.
    ///
    /// # Errors
    /// As [`StartError`] says, when the log has to come to `min_position` before.
    pub async fn head(&self, min_position: Option<Position>) -> Result<Option<Position>, StartError> {
        self.wait_for(min_position).await?;
        Ok(self.refresh_head().await?)
    }

    /// Stored events that match, from the given place on.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub async fn history(&self, request: HistoryRequest) -> Result<History, StartError> {
        let mut answer = Answer::new(request.limit, request.bytes_max);
        self.wait_for(request.min_position).await?;
        let head = self.refresh_head().await?;
        let mut query = self.history_query(request, head).await?;
        while let Some(mut asked) = query {
            asked.limit = answer.limit_left();
            asked.bytes_max = answer.bytes_left;
            let LogPage { events, reached, .. } = self.core.log.read(&asked).await?;
            if !events.into_iter().all(|event| answer.push(event)) {
                break;
            }
            query = asked.rest(reached);
        }
        Ok(answer.history)
    }

    /// The last event of each subject, as far as it matches; subjects ascending by bytes.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub async fn latest(&self, request: LatestRequest) -> Result<History, StartError> {
        let mut answer = Answer::new(request.limit, request.bytes_max);
        self.wait_for(request.min_position).await?;
        let Some(through) = self.refresh_head().await? else { return Ok(answer.history) };
        let mut after = request.after;
        loop {
            let query = LatestQuery {
                filter: request.filter.clone(),
                after,
                through,
                limit: answer.limit_left(),
                bytes_max: answer.bytes_left,
            };
            let LatestPage { events, reached } = self.core.log.repository().latest(query).await?;
            let mut events = events.into_iter().map(|event| Arc::new(LogEvent::alone(event)));
            if !events.all(|event| answer.push(event)) || reached.is_none() {
                return Ok(answer.history);
            }
            after = reached;
        }
    }

    /// Up to `limit` of the distinct subjects above `after`, ascending by bytes.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        self.core.log.repository().subjects(after, limit).await
    }

    /// Deletes what matches `filter` at or above `from` and is stored by now; says how many events that were. Nobody who
    /// asks this process afterwards gets any of them.
    ///
    /// # Errors
    /// [`DeleteError::Unavailable`]: a part may be deleted.
    pub async fn delete(&self, filter: Filter, from: Position) -> Result<u64, DeleteError> {
        let head = self.refresh_head().await.map_err(|error| DeleteError::Unavailable(error.into()))?;
        let Some(head) = head.filter(|head| from <= *head) else { return Ok(0) };
        let service = self.clone();
        let deletion = self.core.writes.spawn(async move {
            let deleted = service.core.log.repository().delete(filter, from, head).await;
            service.core.log.note_deletion();
            // Others learn of it by the store's count: at once if the hint reaches them.
            if service.refresh_head().await.is_ok() {
                service.core.notifier.notify(service.core.log.known()).await;
            }
            deleted
        });
        deletion.await.unwrap_or_else(|fault| Err(DeleteError::Unavailable(fault.into())))
    }

    /// What `request` selects of the log up to `head`; `None` for nothing.
    async fn history_query(
        &self,
        request: HistoryRequest,
        head: Option<Position>,
    ) -> Result<Option<ReadQuery>, ReadError> {
        let HistoryRequest { filter, start, order, until, limit, bytes_max, .. } = request;
        let (after, through) = match (order, start) {
            (Order::Ascending, Start::After(after)) => (after, head),
            (Order::Ascending, Start::Head) => (head, head),
            (Order::Ascending, Start::Time(time)) => (self.last_before(time, head).await?, head),
            (Order::Descending, Start::After(None) | Start::Head) => (None, head),
            (Order::Descending, Start::After(Some(before))) => (None, before.previous().min(head)),
            (Order::Descending, Start::Time(time)) => (None, self.last_before(time, head).await?),
        };
        let (after, through) = match (order, until) {
            (_, None) => (after, through),
            (Order::Ascending, Some(until)) => (after, through.min(until.previous())),
            (Order::Descending, Some(until)) => (Some(until), through),
        };
        Ok(through.filter(|through| after < Some(*through)).map(|through| ReadQuery {
            filter,
            after,
            through,
            order,
            limit,
            bytes_max,
        }))
    }
}
