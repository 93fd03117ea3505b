//! Appending events: many callers, one writer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::append::{AppendOutcome, AppendRefusal, AppendRequest, Appended};
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::domain::service::append_queue::{QueueDepth, Waiting};
use crate::ports::event_repository::AppendError;

/// How long a request waits for its turn before it is given up unstored. Together with the time that the store may
/// take for one group, clients hear of an outage within some seconds.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Why events were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendEventsError {
    /// Refused: an event has more data than allowed. Nothing is stored.
    #[error("data has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Bytes of data in the event.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Refused: more events than a request may have. Nothing is stored.
    #[error("the request has {events} events, at most {events_max} are allowed")]
    TooManyEvents {
        /// Events in the request.
        events: usize,
        /// Events allowed.
        events_max: usize,
    },
    /// Refused: the events together have more bytes than a request may have. Nothing is stored.
    #[error("the events of the request have {bytes} bytes, at most {bytes_max} are allowed")]
    BatchTooLarge {
        /// Bytes of the events: data and attributes.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Refused: too much waits already. Nothing is stored.
    #[error("{events_max} events or {bytes_max} bytes wait to be stored already, nothing is stored")]
    QueueFull {
        /// Events that may wait.
        events_max: usize,
        /// Bytes that may wait.
        bytes_max: usize,
    },
    /// Given up before its turn came: the store is slow or away. Nothing is stored.
    #[error("the event store is too slow to take the events in time, nothing is stored")]
    Overdue,
    /// Refused: the service goes down. Nothing is stored.
    #[error("the service is shutting down, nothing is stored")]
    ShuttingDown,
    /// Refused by the state of the log. Nothing is stored.
    #[error(transparent)]
    Refused(#[from] AppendRefusal),
    /// The store did not acknowledge; shared by all requests of the transaction.
    #[error(transparent)]
    Store(Arc<AppendError>),
}

/// What a caller is told.
pub(super) type AppendAnswer = Result<Vec<Appended>, AppendEventsError>;

/// What became of a group of requests, for those who watch.
#[derive(Debug, Default)]
pub struct GroupReport {
    /// How long each request waited for its turn.
    pub waits: Vec<Duration>,
    /// How long the store took.
    pub store_time: Duration,
    /// Events stored by the group's commit.
    pub stored: usize,
    /// Events that were stored before.
    pub duplicates: usize,
    /// Requests refused by a precondition.
    pub failed_preconditions: usize,
    /// Requests refused because a source and id are taken.
    pub id_conflicts: usize,
    /// Requests that the store did not acknowledge.
    pub failures: usize,
}

impl EventService {
    /// Appends the events of `request` next to each other, or none of them, and says where each is, in their order.
    ///
    /// The work goes on when the caller stops waiting, so that a client that leaves cannot tear a transaction.
    ///
    /// # Errors
    /// As [`AppendEventsError`] says.
    pub async fn append(&self, request: AppendRequest) -> AppendAnswer {
        self.check(&request)?;
        if request.events.is_empty() && request.preconditions.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.core.queue.push(request)?;
        answer
            .await
            .unwrap_or_else(|gone| Err(AppendEventsError::Store(Arc::new(AppendError::OutcomeUnknown(gone.into())))))
    }

    /// How full the queue of appends is.
    #[must_use]
    pub fn queue_depth(&self) -> QueueDepth {
        self.core.queue.depth()
    }

    /// Writes what is appended, one group after the other, until [`EventService::finish_writes`]. Calls `on_group`
    /// after each. To be run once.
    pub async fn write_queued(&self, mut on_group: impl FnMut(&GroupReport)) {
        let _writing = self.core.writes.token();
        while let Some(group) = self.core.queue.next_group().await {
            on_group(&self.write(group).await);
            // Whoever was answered may send more: what comes now shares the next commit.
            tokio::task::yield_now().await;
        }
    }

    async fn write(&self, group: Vec<Waiting>) -> GroupReport {
        let started = Instant::now();
        let mut report = GroupReport::default();
        let mut requests = Vec::with_capacity(group.len());
        let mut callers = Vec::with_capacity(group.len());
        for waiting in group {
            let wait = started.duration_since(waiting.since);
            report.waits.push(wait);
            if wait > QUEUE_WAIT_MAX {
                report.failures += 1;
                let _caller_left = waiting.answer.send(Err(AppendEventsError::Overdue));
            } else {
                requests.push(waiting.request);
                callers.push(waiting.answer);
            }
        }
        let answers = self.store(requests.into()).await;
        report.store_time = started.elapsed();
        for answer in &answers {
            report.count(answer);
        }
        let head = answers.iter().filter_map(last_stored).max();
        self.advance_head(head);
        for (caller, answer) in callers.into_iter().zip(answers) {
            let _caller_left = caller.send(answer);
        }
        if let Some(head) = head {
            self.core.notifier.notify(head).await;
        }
        report
    }

    async fn store(&self, requests: Arc<[AppendRequest]>) -> Vec<AppendAnswer> {
        if requests.is_empty() {
            return Vec::new();
        }
        let count = requests.len();
        let error = match self.core.repository.append(Arc::clone(&requests)).await {
            Ok(outcomes) => return outcomes.into_iter().map(answer_to).collect(),
            Err(error) => error,
        };
        if count == 1 || !matches!(error, AppendError::Rejected(_)) {
            let error = Arc::new(error);
            return (0..count).map(|_| Err(AppendEventsError::Store(Arc::clone(&error)))).collect();
        }
        // One of them is at fault, and the others must not suffer for it.
        let mut answers = Vec::with_capacity(count);
        for request in requests.iter() {
            answers.push(match self.core.repository.append(Arc::new([request.clone()])).await {
                Ok(outcomes) => outcomes.into_iter().map(answer_to).next().expect("a request has an outcome"),
                Err(error) => Err(AppendEventsError::Store(Arc::new(error))),
            });
        }
        answers
    }

    fn check(&self, request: &AppendRequest) -> Result<(), AppendEventsError> {
        let limits = &self.core.limits;
        let too_large = request.events.iter().find(|event| event.data_bytes() > limits.event_bytes_max);
        if let Some(event) = too_large {
            let (bytes, bytes_max) = (event.data_bytes(), limits.event_bytes_max);
            return Err(AppendEventsError::TooLarge { bytes, bytes_max });
        }
        let (events, events_max) = (request.events.len(), limits.batch_events_max);
        if events > events_max {
            return Err(AppendEventsError::TooManyEvents { events, events_max });
        }
        let (bytes, bytes_max) = (request.size_bytes(), limits.batch_bytes_max);
        // A lone event has a limit of its own.
        if events > 1 && bytes > bytes_max {
            return Err(AppendEventsError::BatchTooLarge { bytes, bytes_max });
        }
        Ok(())
    }
}

fn answer_to(outcome: AppendOutcome) -> AppendAnswer {
    Ok(outcome?)
}

fn last_stored(answer: &AppendAnswer) -> Option<Position> {
    answer.as_ref().ok()?.iter().map(|appended| appended.position).max()
}

impl GroupReport {
    fn count(&mut self, answer: &AppendAnswer) {
        match answer {
            Ok(appended) => {
                let duplicates = appended.iter().filter(|appended| appended.is_duplicate).count();
                self.duplicates += duplicates;
                self.stored += appended.len() - duplicates;
            }
            Err(AppendEventsError::Refused(AppendRefusal::Precondition { .. })) => self.failed_preconditions += 1,
            Err(AppendEventsError::Refused(AppendRefusal::IdConflict { .. })) => self.id_conflicts += 1,
            Err(_) => self.failures += 1,
        }
    }
}
