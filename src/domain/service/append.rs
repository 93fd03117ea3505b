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
        let count = requests.len();
        let error = match repository.append(Arc::clone(requests)).await {
            Ok(GroupAppended { outcomes, recorded }) => {
                return (outcomes.into_iter().map(answer_to).collect(), recorded);
            }
            Err(error) => error,
        };
        if count == 1 || !matches!(error, AppendError::Rejected(_)) {
            let error = Arc::new(error);
            return ((0..count).map(|_| Err(AppendEventsError::Store(Arc::clone(&error)))).collect(), None);
        }
        // One of them is at fault, and the others must not suffer for it.
        let mut answers = Vec::with_capacity(count);
        for request in requests.iter() {
            answers.push(match repository.append(Arc::new([request.clone()])).await {
                Ok(appended) => appended.outcomes.into_iter().map(answer_to).next().expect("a request has an outcome"),
                Err(error) => Err(AppendEventsError::Store(Arc::new(error))),
            });
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
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::StreamExt;
    use futures_util::stream::{self, BoxStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::append::{LogView, plan};
    use crate::domain::attribute::{EventSource, EventType, Subject};
    use crate::domain::event::NewEvent;
    use crate::domain::service::{Failures, ServiceLimits};
    use crate::domain::testing::Scripted;
    use crate::ports::event_repository::{Page, ReadQuery};
    use crate::ports::notifier::Notifier;

    struct Silence;

    /// Takes everything but events of the type `poison`, and forgets it.
    fn picky(requests: &[AppendRequest]) -> Result<GroupAppended, AppendError> {
        let mut events = requests.iter().flat_map(|request| &request.events);
        match events.find(|event| event.event_type.as_str() == "poison") {
            Some(_) => Err(AppendError::Rejected("poison".into())),
            None => Ok(GroupAppended {
                outcomes: plan(requests, Position::FIRST, &LogView::default()).outcomes,
                recorded: None,
            }),
        }
    }

    #[async_trait]
    impl Notifier for Silence {
        async fn notify(&self, _: LogState) {}

        fn listen(&self) -> BoxStream<'static, LogState> {
            stream::pending().boxed()
        }
    }

    fn service() -> EventService {
        let limits = ServiceLimits {
            event_bytes_max: 10,
            batch_events_max: 3,
            batch_bytes_max: 30,
            queue_events_max: 100,
            queue_bytes_max: 1_000,
            subscriptions_max: 1,
            first_page_events: 1,
            client_buffer_events: 1,
            tail_bytes_max: 1_000_000,
            slow_reader_patience: Duration::from_mins(1),
        };
        let read = |query: &ReadQuery| Page { events: Vec::new(), reached: query.through };
        let store = Scripted { append: picky, read, head: None };
        EventService::new(Arc::new(store), Arc::new(Silence), limits, CancellationToken::new())
    }

    fn request(event_type: &str, bytes: usize, count: usize) -> AppendRequest {
        let event = NewEvent {
            id: None,
            event_source: EventSource::from_stored(String::new()),
            event_type: EventType::from_stored(event_type.to_owned()),
            subject: Subject::from_stored(String::new()),
            time: None,
            data: Bytes::from(vec![0; bytes]),
            context: None,
        };
        AppendRequest { events: vec![event; count], preconditions: Vec::new() }
    }

    /// Appends all of them at once, waits for `pause`, then writes; returns the answers and the reports.
    async fn write_after(pause: Duration, requests: Vec<AppendRequest>) -> (Vec<AppendAnswer>, Vec<GroupReport>) {
        let service = service();
        let waiting: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let service = service.clone();
                tokio::spawn(async move { service.append(request).await })
            })
            .collect();
        // On one thread, they are all in the queue once this task has its turn again.
        tokio::task::yield_now().await;
        tokio::time::advance(pause).await;
        service.core.queue.close();
        let mut reports = Vec::new();
        service.write_queued(|report| reports.push(report.clone())).await;
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(answer.await.unwrap());
        }
        (answers, reports)
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_request_does_not_take_its_neighbours_along() {
        let requests = vec![request("good", 1, 1), request("poison", 1, 1), request("good", 1, 2)];
        let (answers, reports) = write_after(Duration::ZERO, requests).await;
        assert_eq!((answers[0].as_ref().unwrap().len(), answers[2].as_ref().unwrap().len()), (1, 2));
        let AppendEventsError::Store(error) = answers[1].as_ref().unwrap_err() else { panic!("{answers:?}") };
        assert!(matches!(**error, AppendError::Rejected(_)));
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        let failures = Failures { rejected: 1, ..Failures::default() };
        assert_eq!((report.stored, report.failures, report.waits.len()), (3, failures, 3));
        assert!(report.error.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn request_waits_for_its_turn_up_to_a_limit() {
        let (answers, _) = write_after(QUEUE_WAIT_MAX, vec![request("good", 1, 1)]).await;
        assert!(answers[0].is_ok());
        let late = QUEUE_WAIT_MAX + Duration::from_millis(1);
        let (answers, reports) = write_after(late, vec![request("good", 1, 1)]).await;
        assert!(matches!(answers[0], Err(AppendEventsError::Overdue)), "{answers:?}");
        let failures = Failures { overdue: 1, ..Failures::default() };
        assert_eq!((reports[0].stored, reports[0].failures), (0, failures));
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_bounded_in_events_and_bytes() {
        let refusal = async |request| service().append(request).await.unwrap_err();
        let taken = vec![request("", 10, 3), request("0123456789012345678901234567890", 10, 1)];
        let (answers, _) = write_after(Duration::ZERO, taken).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(matches!(refusal(request("", 11, 1)).await, AppendEventsError::TooLarge { bytes: 11, bytes_max: 10 }));
        let too_many = refusal(request("", 1, 4)).await;
        assert!(matches!(too_many, AppendEventsError::TooManyEvents { events: 4, events_max: 3 }), "{too_many}");
        let too_large = refusal(request("x", 10, 3)).await;
        assert!(matches!(too_large, AppendEventsError::BatchTooLarge { bytes: 33, bytes_max: 30 }), "{too_large}");
    }

    #[tokio::test]
    async fn service_that_goes_down_refuses() {
        let service = service();
        service.finish_writes().await;
        let answer = service.append(request("", 1, 1)).await;
        assert!(matches!(answer, Err(AppendEventsError::ShuttingDown)), "{answer:?}");
    }
}
