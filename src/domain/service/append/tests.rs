//! Groups of requests, and what becomes of each.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::append::{LogView, Precondition, plan};
use crate::domain::attribute::Subject;
use crate::domain::service::{Failures, ServiceLimits};
use crate::domain::testing::{Scripted, new_event};
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
    service_on(picky)
}

fn service_on(
    append: impl Fn(&[AppendRequest]) -> Result<GroupAppended, AppendError> + Send + Sync + 'static,
) -> EventService {
    let limits = ServiceLimits {
        event_bytes_max: 10,
        batch_events_max: 3,
        batch_bytes_max: 30,
        queue_events_max: 100,
        queue_bytes_max: 10_000,
        subscriptions_max: 1,
        first_page_events: 1,
        client_buffer_events: 1,
        tail_bytes_max: 1_000_000,
        slow_reader_patience: Duration::from_mins(1),
    };
    let read = |query: &ReadQuery| Ok(Page { events: Vec::new(), reached: query.through });
    let store = Scripted { append, read, head: None };
    EventService::new(Arc::new(store), Arc::new(Silence), limits, CancellationToken::new())
}

fn request(event_type: &str, bytes: usize, count: usize) -> AppendRequest {
    AppendRequest { events: vec![new_event(event_type, bytes); count], preconditions: Vec::new() }
}

/// Appends all of them at once, waits for `pause`, then writes; returns the answers and the reports.
async fn write_after(pause: Duration, requests: Vec<AppendRequest>) -> (Vec<AppendAnswer>, Vec<GroupReport>) {
    write_on(&service(), pause, requests).await
}

async fn write_on(
    service: &EventService,
    pause: Duration,
    requests: Vec<AppendRequest>,
) -> (Vec<AppendAnswer>, Vec<GroupReport>) {
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
async fn rejected_request_is_found_in_few_steps() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = service_on(move |requests| {
        counted.fetch_add(1, Ordering::Relaxed);
        picky(requests)
    });
    let requests: Vec<_> = (0..64).map(|at| request(if at == 37 { "poison" } else { "good" }, 1, 1)).collect();
    let (answers, reports) = write_on(&service, Duration::ZERO, requests).await;
    let refused: Vec<_> = (0..64).filter(|at| answers[*at].is_err()).collect();
    assert_eq!((refused, reports[0].stored), (vec![37], 63));
    assert_eq!(calls.load(Ordering::Relaxed), 1 + 2 * 6);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_tried_is_given_up_with_a_store_that_goes_away() {
    let calls = AtomicUsize::new(0);
    let service = service_on(move |requests| match calls.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => picky(requests),
        _ => Err(AppendError::Unavailable("it has gone".into())),
    });
    let types = ["good", "good", "good", "good", "poison", "good", "good", "good"];
    let requests = types.map(|event_type| request(event_type, 1, 1)).to_vec();
    let (answers, reports) = write_on(&service, Duration::ZERO, requests).await;
    assert!(answers[..4].iter().all(Result::is_ok), "{answers:?}");
    assert!(answers[4..].iter().all(|answer| matches!(answer, Err(AppendEventsError::Store(_)))), "{answers:?}");
    assert_eq!((reports[0].stored, reports[0].failures.unavailable), (4, 4));

    let calls = AtomicUsize::new(0);
    let service = service_on(move |requests| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => picky(requests),
        _ => Err(AppendError::OutcomeUnknown("it has gone".into())),
    });
    let requests = types.map(|event_type| request(event_type, 1, 1)).to_vec();
    let (answers, reports) = write_on(&service, Duration::ZERO, requests).await;
    assert!(answers[..4].iter().all(|answer| matches!(answer, Err(AppendEventsError::Store(_)))), "{answers:?}");
    assert!(answers[4..].iter().all(|answer| matches!(answer, Err(AppendEventsError::Overdue))), "{answers:?}");
    let failures = Failures { outcome_unknown: 4, overdue: 4, ..Failures::default() };
    assert_eq!(reports[0].failures, failures);
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
    let assuming = |preconditions| {
        let assumed = Precondition { subject: Subject::from_stored("s".to_owned()), last: None };
        AppendRequest { preconditions: vec![assumed; preconditions], ..request("", 1, 1) }
    };
    let (answers, _) = write_after(Duration::ZERO, vec![assuming(3)]).await;
    assert!(answers[0].is_ok(), "{answers:?}");
    let too_many = refusal(assuming(4)).await;
    assert!(
        matches!(too_many, AppendEventsError::TooManyPreconditions { preconditions: 4, preconditions_max: 3 }),
        "{too_many}"
    );
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
