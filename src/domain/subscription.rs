//! One reader's way through the log: catch-up and live in one loop.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::service::ServiceLimits;
use crate::ports::event_repository::{EventRepository, Page, ReadError, ReadQuery};

/// Events in a page at the most, once a reader has shown that it takes full ones.
pub const PAGE_EVENTS_MAX: usize = 1_000;

/// Bytes in a page at the most: what a reader that stopped taking costs the process.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;

/// First and longest wait before a failed read is repeated.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRequest {
    /// Which events.
    pub filter: Filter,
    /// Only events above this place; from the first one when `None`.
    pub after: Option<Position>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionItem {
    /// The next matching events, never empty, positions strictly ascending.
    Events(Vec<StoredEvent>),
    /// Once: everything stored when the subscription began has been sent; a reader may resume after this place.
    CaughtUp(Option<Position>),
}

/// Why a subscription was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// All slots are taken.
    #[error("all {subscriptions_max} streams are in use")]
    TooMany {
        /// How many may be open at once.
        subscriptions_max: usize,
    },
}

/// Why a subscription ended though its reader is still there; it resumes elsewhere after the last position it saw.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionEnded {
    /// The service is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// An event cannot be read, and skipping it would be a lie.
    #[error(transparent)]
    Corrupt(ReadError),
}

/// An open subscription. Holds its slot until it is dropped, and no more than one page in memory.
pub struct Subscription {
    repository: Arc<dyn EventRepository>,
    head: watch::Receiver<Option<Position>>,
    shutdown: CancellationToken,
    _slot: OwnedSemaphorePermit,
    filter: Filter,
    last: Option<Position>,
    page_events: usize,
    live_page_events: usize,
    /// Whether the reader was told that its history is done.
    caught_up: bool,
}

impl Subscription {
    pub(in crate::domain) fn new(
        repository: Arc<dyn EventRepository>,
        head: watch::Receiver<Option<Position>>,
        shutdown: CancellationToken,
        slot: OwnedSemaphorePermit,
        limits: &ServiceLimits,
        request: SubscriptionRequest,
    ) -> Self {
        Self {
            repository,
            head,
            shutdown,
            _slot: slot,
            filter: request.filter,
            last: request.after,
            page_events: limits.first_page_events,
            live_page_events: limits.client_buffer_events,
            caught_up: false,
        }
    }

    /// The items one after the other. The reader's pace is the pace: nothing is read ahead.
    pub fn into_stream(self) -> impl Stream<Item = Result<SubscriptionItem, SubscriptionEnded>> + Send + 'static {
        stream::unfold(Some(self), |subscription| async move {
            let mut subscription = subscription?;
            let shutdown = subscription.shutdown.clone();
            let item = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(SubscriptionEnded::ShuttingDown),
                item = subscription.next() => item,
            };
            let rest = item.is_ok().then_some(subscription);
            Some((item, rest))
        })
    }

    async fn next(&mut self) -> Result<SubscriptionItem, SubscriptionEnded> {
        let mut wait = RETRY_WAIT.0;
        loop {
            match self.look().await {
                Ok(Some(item)) => return Ok(item),
                // The store is the truth and the head only says that looking is worth while: look first, then sleep.
                Ok(None) => {
                    if self.head.changed().await.is_err() {
                        return Err(SubscriptionEnded::ShuttingDown);
                    }
                }
                Err(error @ ReadError::Corrupt(_)) => return Err(SubscriptionEnded::Corrupt(error)),
                Err(error @ ReadError::Unavailable(_)) => {
                    tracing::debug!(%error, "a subscription waits for the store");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_WAIT.1);
                }
            }
        }
    }

    /// Reads on up to the known head; `None` when there is nothing new.
    async fn look(&mut self) -> Result<Option<SubscriptionItem>, ReadError> {
        if !self.caught_up && self.head.borrow().is_none() {
            // Before the process has seen a head, ask: an empty answer must be the store's, not ours.
            let head = self.repository.head().await?;
            return self.look_through(head).await;
        }
        let head = *self.head.borrow_and_update();
        self.look_through(head).await
    }

    async fn look_through(&mut self, head: Option<Position>) -> Result<Option<SubscriptionItem>, ReadError> {
        while let Some(through) = head.filter(|head| Some(*head) > self.last) {
            let query = ReadQuery {
                filter: self.filter.clone(),
                after: self.last,
                through,
                limit: self.page_events,
                bytes_max: PAGE_BYTES_MAX,
            };
            let Page { events, through } = self.repository.read(query).await?;
            self.last = Some(through);
            if events.len() >= self.page_events && !self.caught_up {
                self.page_events = (self.page_events * 2).min(PAGE_EVENTS_MAX);
            }
            if !events.is_empty() {
                return Ok(Some(SubscriptionItem::Events(events)));
            }
        }
        if self.caught_up {
            return Ok(None);
        }
        self.caught_up = true;
        self.page_events = self.live_page_events.min(PAGE_EVENTS_MAX);
        Ok(Some(SubscriptionItem::CaughtUp(self.last)))
    }
}
