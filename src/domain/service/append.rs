//! Appending events: many callers, one writer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::append::{AppendOutcome, AppendRefusal, AppendRequest, Appended};
use crate::domain::log::FreshEvents;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::domain::service::append_queue::{QueueDepth, Waiting};
use crate::domain::service::group_report::GroupReport;
use crate::domain::service::submitted::Submitted;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{AppendError, GroupAppended};

/// How long a request waits for its turn before it is given up unstored. Together with the time that the store may
/// take for one group, clients hear of an outage within some seconds.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Why events were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendEventsError {
    /// Refused: an event has more data and context than allowed. Nothing is stored.
    #[error("data and extensions have {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Bytes of data and context in the event.
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
    /// Refused: more preconditions than a request may have. Nothing is stored.
    #[error("the request has {preconditions} preconditions, at most {preconditions_max} are allowed")]
    TooManyPreconditions {
        /// Preconditions in the request.
        preconditions: usize,
        /// Preconditions allowed: as many as events.
        preconditions_max: usize,
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

/// A group that the store is done with, and whose callers do not know yet.
struct WrittenGroup {
    requests: Arc<[AppendRequest]>,
    callers: Vec<oneshot::Sender<AppendAnswer>>,
    answers: Vec<AppendAnswer>,
    recorded: Option<Timestamp>,
    /// That of the log before it was stored.
    epoch: u64,
    report: GroupReport,
}

impl EventService {
    /// Appends the events of `request` next to each other, or none of them, and says where each is, in their order.
    ///
    /// The work goes on when the caller stops waiting, so that a client that leaves cannot tear a transaction.
    ///
    /// # Errors
    /// As [`AppendEventsError`] says.
    pub async fn append(&self, request: AppendRequest) -> AppendAnswer {
        self.submit(request).await
    }

    /// The same in two parts: takes `request` in at once, so that requests are stored in the order in which they are
    /// submitted, and answers later.
    #[must_use]
    pub fn submit(&self, request: AppendRequest) -> Submitted {
        if let Err(refused) = self.check(&request) {
            return Submitted::answered(Err(refused));
        }
        if request.events.is_empty() && request.preconditions.is_empty() {
            return Submitted::answered(Ok(Vec::new()));
        }
        let wait = self.core.observer.get().map(|observer| observer.queued(&request));
        match self.core.queue.push(request, wait) {
            Ok(answer) => Submitted::queued(answer),
            Err(refused) => Submitted::answered(Err(refused)),
        }
    }

    /// How full the queue of appends is.
    #[must_use]
    pub fn queue_depth(&self) -> QueueDepth {
        self.core.queue.depth()
    }

    /// Writes what is appended, one group after the other, until [`EventService::finish_writes`]. Calls `on_group`
    /// after each, before its callers are answered. To be run once.
    pub async fn write_queued(&self, mut on_group: impl FnMut(&GroupReport)) {
        let _writing = self.core.writes.token();
        let mut written = None;
        loop {
            let group = if let Some(group) = self.core.queue.waiting_group() {
                group
            } else {
                self.tell(written.take(), &mut on_group).await;
                let Some(group) = self.core.queue.next_group().await else { return };
                group
            };
            // The store is at work again before those of the group before are answered.
            let (stored, ()) = tokio::join!(self.write(group), self.tell(written.take(), &mut on_group));
            written = Some(stored);
        }
    }

    /// Carries out `group`.
    async fn write(&self, group: Vec<Waiting>) -> WrittenGroup {
        let started = Instant::now();
        let mut report = GroupReport::default();
        let mut requests = Vec::with_capacity(group.len());
        let mut callers = Vec::with_capacity(group.len());
        let mut waits = Vec::new();
        for waiting in group {
            waits.extend(waiting.wait);
            let wait = started.duration_since(waiting.since);
            report.waits.push(wait);
            if wait > QUEUE_WAIT_MAX {
                report.failures.overdue += 1;
                let _caller_left = waiting.answer.send(Err(AppendEventsError::Overdue));
            } else {
                requests.push(waiting.request);
                callers.push(waiting.answer);
            }
        }
        if let Some(observer) = self.core.observer.get() {
            observer.taken(waits);
        }
        let epoch = self.core.log.epoch();
        let requests: Arc<[AppendRequest]> = requests.into();
        let (answers, recorded) = self.store(&requests).await;
        report.store_time = started.elapsed();
        WrittenGroup { requests, callers, answers, recorded, epoch, report }
    }

    /// Hands the events of `written` to the readers, and answers those who appended them.
    async fn tell(&self, written: Option<WrittenGroup>, on_group: &mut impl FnMut(&GroupReport)) {
        let Some(WrittenGroup { mut requests, callers, answers, recorded, epoch, mut report }) = written else {
            return;
        };
        for answer in &answers {
            report.count(answer);
        }
        // First, so that whoever is answered finds its event counted.
        on_group(&report);
        let head = answers.iter().filter_map(last_stored).max();
        if let Some(head) = head {
            // The store has let go of the requests, so that their events can go on as they are.
            let requests = Arc::get_mut(&mut requests).unwrap_or_default();
            let fresh = recorded.and_then(|recorded| fresh_events(requests, &answers, recorded, epoch));
            self.core.log.feed(fresh, head);
        }
        for (caller, answer) in callers.into_iter().zip(answers) {
            let _caller_left = caller.send(answer);
        }
        // Whoever was answered goes first and may send more, which shares the next commit. Waking anybody else before
        // that would hand those who were answered over to another thread.
        tokio::task::yield_now().await;
        if let Some(head) = head {
            self.core.notifier.notify(LogState { head: Some(head), ..self.core.log.known() }).await;
        }
    }

    /// The answers to `requests`, and when their new events were recorded, if all of them were at once.
    async fn store(&self, requests: &Arc<[AppendRequest]>) -> (Vec<AppendAnswer>, Option<Timestamp>) {
        if requests.is_empty() {
            return (Vec::new(), None);
        }
        let repository = self.core.log.repository();
        let mut answers = Vec::with_capacity(requests.len());
        let mut left = vec![Arc::clone(requests)];
        while let Some(part) = left.pop() {
            match repository.append(Arc::clone(&part)).await {
                Ok(GroupAppended { outcomes, recorded }) => {
                    answers.extend(outcomes.into_iter().map(answer_to));
                    if part.len() == requests.len() {
                        return (answers, recorded);
                    }
                }
                // One of them is at fault, and the others must not suffer for it.
                Err(AppendError::Rejected(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second.into(), first.into()]);
                }
                Err(error) => {
                    let is_rejected = matches!(error, AppendError::Rejected(_));
                    let error = Arc::new(error);
                    answers.extend(part.iter().map(|_| Err(AppendEventsError::Store(Arc::clone(&error)))));
                    if !is_rejected {
                        // Nothing of the others was tried, and they have waited long enough.
                        let others = left.drain(..).map(|part| part.len()).sum();
                        answers.extend(std::iter::repeat_n(Err(AppendEventsError::Overdue), others));
                    }
                }
            }
        }
        (answers, None)
    }

    fn check(&self, request: &AppendRequest) -> Result<(), AppendEventsError> {
        let limits = &self.core.limits;
        let too_large = request.events.iter().find(|event| event.content_bytes() > limits.event_bytes_max);
        if let Some(event) = too_large {
            let (bytes, bytes_max) = (event.content_bytes(), limits.event_bytes_max);
            return Err(AppendEventsError::TooLarge { bytes, bytes_max });
        }
        let (events, events_max) = (request.events.len(), limits.batch_events_max);
        if events > events_max {
            return Err(AppendEventsError::TooManyEvents { events, events_max });
        }
        let (preconditions, preconditions_max) = (request.preconditions.len(), limits.batch_events_max);
        if preconditions > preconditions_max {
            return Err(AppendEventsError::TooManyPreconditions { preconditions, preconditions_max });
        }
        let (bytes, bytes_max) = (request.event_bytes(), limits.batch_bytes_max);
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

/// The new events of a commit, taken out of `requests`. They lie next to each other in the order of the requests.
fn fresh_events(
    requests: &mut [AppendRequest],
    answers: &[AppendAnswer],
    recorded: Timestamp,
    epoch: u64,
) -> Option<FreshEvents> {
    let mut first = None;
    let mut events = Vec::with_capacity(requests.len());
    for (request, answer) in requests.iter_mut().zip(answers) {
        let Ok(appended) = answer else { continue };
        for (event, appended) in request.events.drain(..).zip(appended) {
            if !appended.is_duplicate {
                first.get_or_insert(appended.position);
                events.push(event);
            }
        }
    }
    first.map(|first| FreshEvents { first, events, recorded, epoch })
}

fn last_stored(answer: &AppendAnswer) -> Option<Position> {
    answer.as_ref().ok()?.iter().map(|appended| appended.position).max()
}

#[cfg(test)]
mod tests;
