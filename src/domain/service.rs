//! The use cases: append, read, subscribe, delete. They hold ports and know no adapter.

mod append;
mod append_queue;
mod read;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::position::Position;
use crate::domain::subscription::{SubscribeError, Subscription, SubscriptionRequest};
use crate::ports::event_repository::{EventRepository, ReadError};
use crate::ports::notifier::Notifier;

use append_queue::AppendQueue;

pub use append::{AppendEventsError, GroupReport};
pub use append_queue::QueueDepth;
pub use read::{HISTORY_LIMIT_MAX, History, HistoryRequest};

/// How often an idle process looks for what other processes appended when no hint comes.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// How often it looks while other processes append, so that a lost hint costs little.
const POLL_BUSY: Duration = Duration::from_millis(10);

/// Limits of the use cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Bytes of data in one event.
    pub event_bytes_max: usize,
    /// Events in one request.
    pub batch_events_max: usize,
    /// Bytes of the events in one request.
    pub batch_bytes_max: usize,
    /// Events that wait for their commit; at least those of a request.
    pub queue_events_max: usize,
    /// Bytes of events that wait for their commit; at least those of a request.
    pub queue_bytes_max: usize,
    /// Open subscriptions in this process.
    pub subscriptions_max: usize,
    /// Events in the first page of a subscription; pages double while they come back full.
    pub first_page_events: usize,
    /// Events held for one reader at the live end.
    pub client_buffer_events: usize,
}

/// The event store as its callers see it; clones are one and the same.
#[derive(Clone)]
pub struct EventService {
    core: Arc<Core>,
}

struct Core {
    repository: Arc<dyn EventRepository>,
    notifier: Arc<dyn Notifier>,
    limits: ServiceLimits,
    /// The highest position known to be committed; readers look no further, and sleep on it.
    head: watch::Sender<Option<Position>>,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
    /// Appends on their way to the store, which go on even when their caller is gone.
    queue: AppendQueue,
    /// Writes that go on even when their caller is gone.
    writes: TaskTracker,
}

impl EventService {
    /// The use cases over `repository`, waking readers through `notifier`; `shutdown` ends every subscription. Appends
    /// wait for whoever runs [`EventService::write_queued`].
    #[must_use]
    pub fn new(
        repository: Arc<dyn EventRepository>,
        notifier: Arc<dyn Notifier>,
        limits: ServiceLimits,
        shutdown: CancellationToken,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.subscriptions_max));
        let core = Core {
            repository,
            notifier,
            limits,
            head: watch::Sender::new(None),
            slots,
            shutdown,
            queue: AppendQueue::new(limits.queue_events_max, limits.queue_bytes_max),
            writes: TaskTracker::new(),
        };
        Self { core: Arc::new(core) }
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> &ServiceLimits {
        &self.core.limits
    }

    /// How many subscriptions are open.
    #[must_use]
    pub fn open_subscriptions(&self) -> usize {
        self.core.limits.subscriptions_max - self.core.slots.available_permits()
    }

    /// Opens a subscription: what is stored after the given place, then what comes, each matching event once and in
    /// order, until the reader leaves or the service shuts down.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`] when all slots are taken; a slot is free again as soon as its reader is dropped.
    pub fn subscribe(&self, request: SubscriptionRequest) -> Result<Subscription, SubscribeError> {
        let slot = Arc::clone(&self.core.slots)
            .try_acquire_owned()
            .map_err(|_| SubscribeError::TooMany { subscriptions_max: self.core.limits.subscriptions_max })?;
        Ok(Subscription::new(
            Arc::clone(&self.core.repository),
            self.core.head.subscribe(),
            self.core.shutdown.clone(),
            slot,
            &self.core.limits,
            request,
        ))
    }

    /// Asks the store for its head, which is also the proof that it answers.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn refresh_head(&self) -> Result<Option<Position>, ReadError> {
        let head = self.core.repository.head().await?;
        self.advance_head(head);
        Ok(head)
    }

    /// Follows the head of the log until shutdown: looks when a hint comes and every now and then regardless. Calls
    /// `on_probe` with every answer of the store.
    pub async fn follow_head(&self, mut on_probe: impl FnMut(Result<(), &ReadError>)) {
        let mut hints = self.core.notifier.listen();
        let mut pause = POLL_IDLE;
        loop {
            tokio::select! {
                () = self.core.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Some(hint) = hints.next() => {
                    if Some(hint) <= *self.core.head.borrow() {
                        continue;
                    }
                }
            }
            let before = *self.core.head.borrow();
            let answer = self.refresh_head().await;
            let grown = *self.core.head.borrow() > before;
            pause = if grown { POLL_BUSY } else { (pause * 2).min(POLL_IDLE) };
            on_probe(answer.as_ref().map(|_| ()));
        }
    }

    /// Waits for every write that was accepted, also those whose caller is gone, and refuses new ones.
    pub async fn finish_writes(&self) {
        self.core.queue.close();
        self.core.writes.close();
        self.core.writes.wait().await;
    }

    /// Lets readers look up to `head`, which must be committed.
    fn advance_head(&self, head: Option<Position>) {
        self.core.head.send_if_modified(|known| {
            let grows = head > *known;
            if grows {
                *known = head;
            }
            grows
        });
    }
}
