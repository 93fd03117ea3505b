//! The use cases: append, read, subscribe, delete. They hold ports and know no adapter.

mod append;
mod append_queue;
mod beginning;
mod group_report;
mod read;
mod submitted;
mod types;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::log::{Log, LogReport, Protocol};
use crate::domain::position::Position;
use crate::domain::subscription::{PageLimits, SubscribeError, Subscription, SubscriptionRequest};
use crate::ports::append_observer::AppendObserver;
use crate::ports::event_repository::{EventRepository, ReadError};
use crate::ports::notifier::Notifier;

use append_queue::AppendQueue;
use types::Types;

pub use append::AppendEventsError;
pub use append_queue::QueueDepth;
pub use group_report::{Failures, GroupReport};
pub use read::{HISTORY_LIMIT_MAX, History, HistoryRequest, LatestRequest};
pub use submitted::Submitted;

/// Limits of the use cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Bytes of data and context in one event.
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
    /// Bytes of the log's newest part that are held in memory.
    pub tail_bytes_max: usize,
    /// How long a reader may take nothing of what it is given.
    pub slow_reader_patience: Duration,
}

/// The event store as its callers see it; clones are one and the same.
#[derive(Clone)]
pub struct EventService {
    core: Arc<Core>,
}

struct Core {
    log: Arc<Log>,
    notifier: Arc<dyn Notifier>,
    limits: ServiceLimits,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
    observer: OnceLock<Arc<dyn AppendObserver>>,
    /// Appends on their way to the store, which go on even when their caller is gone.
    queue: AppendQueue,
    /// Writes that go on even when their caller is gone.
    writes: TaskTracker,
    types: tokio::sync::Mutex<Types>,
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
            log: Arc::new(Log::new(repository, limits.tail_bytes_max)),
            notifier,
            limits,
            slots,
            shutdown,
            observer: OnceLock::new(),
            queue: AppendQueue::new(limits.queue_events_max, limits.queue_bytes_max),
            writes: TaskTracker::new(),
            types: tokio::sync::Mutex::default(),
        };
        Self { core: Arc::new(core) }
    }

    /// Shows every append to `observer` from now on; to be called once.
    pub fn observe_appends(&self, observer: Arc<dyn AppendObserver>) {
        // A second one would be a fault of the composition root, and is not heard.
        let _first_stays = self.core.observer.set(observer);
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> &ServiceLimits {
        &self.core.limits
    }

    /// Cancelled when the service shuts down: what is not a use case of its own ends with it.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.core.shutdown
    }

    /// How many subscriptions are open.
    #[must_use]
    pub fn open_subscriptions(&self) -> usize {
        self.core.limits.subscriptions_max - self.core.slots.available_permits()
    }

    /// Opens a subscription: what is stored from the given place on, then what comes, each matching event once and in
    /// order, until the reader leaves or the service shuts down.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`] when all slots are taken; a slot is free again as soon as its reader is dropped.
    /// [`SubscribeError::Start`] when the place to begin cannot be found out.
    pub async fn subscribe(&self, request: SubscriptionRequest) -> Result<Subscription, SubscribeError> {
        let slot = Arc::clone(&self.core.slots)
            .try_acquire_owned()
            .map_err(|_| SubscribeError::TooMany { subscriptions_max: self.core.limits.subscriptions_max })?;
        let beginning = self.beginning(request.start, request.min_position).await?;
        let pages = PageLimits {
            first_events: self.core.limits.first_page_events,
            live_events: self.core.limits.client_buffer_events,
        };
        let log = Arc::clone(&self.core.log);
        Ok(Subscription::new(log, self.core.shutdown.clone(), slot, pages, beginning, request))
    }

    /// Asks the store for its head, which is also the proof that it answers.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn refresh_head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.core.log.refresh().await?.head)
    }

    /// Begins at the head of the log. To be called once, before anything is read.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn start(&self) -> Result<(), ReadError> {
        self.core.log.start().await
    }

    /// Follows the log until shutdown, and tells the readers what comes: looks when a hint comes and every now and then
    /// regardless. Calls `on_probe` with every answer of the store. To be run once.
    pub async fn follow(&self, on_probe: impl FnMut(Result<(), &ReadError>)) {
        let following = self.core.log.follow(self.core.notifier.listen(), on_probe);
        self.core.shutdown.run_until_cancelled(following).await;
    }

    /// Ends readers that take nothing, until shutdown; calls `on_slow` with where each of them stood. To be run once.
    pub async fn end_slow_readers(&self, mut on_slow: impl FnMut(Protocol, Option<Position>)) {
        /// Looks in the time that a reader is given.
        const LOOKS: u32 = 10;
        let patience = self.core.limits.slow_reader_patience;
        let looking = async {
            loop {
                tokio::time::sleep(patience / LOOKS).await;
                for (protocol, last) in self.core.log.end_slow(patience) {
                    on_slow(protocol, last);
                }
            }
        };
        self.core.shutdown.run_until_cancelled(looking).await;
    }

    /// The log and its readers at this moment.
    #[must_use]
    pub fn log_report(&self) -> LogReport {
        self.core.log.report()
    }

    /// Waits for every write that was accepted, also those whose caller is gone, and refuses new ones.
    pub async fn finish_writes(&self) {
        self.core.queue.close();
        self.core.writes.close();
        self.core.writes.wait().await;
    }
}
