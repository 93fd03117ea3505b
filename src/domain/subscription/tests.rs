//! How much a reader takes at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::*;
use crate::domain::append::AppendRequest;
use crate::domain::attribute::EventType;
use crate::domain::event::StoredEvent;
use crate::domain::log::testing::{position, stored};
use crate::domain::log_state::LogState;
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, GroupAppended, Page, ReadQuery, RestoreError,
};

/// A log of so many events, each of which is data of so many bytes; notes how many are asked for.
struct Row {
    events: i64,
    event_bytes: usize,
    asked: Mutex<Vec<usize>>,
    /// Whether the events at even positions are gone.
    has_gaps: AtomicBool,
}

#[async_trait]
impl EventRepository for Row {
    async fn append(&self, _: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        Err(AppendError::Unavailable("it is only read".into()))
    }

    async fn restore(&self, _: Vec<StoredEvent>) -> Result<(), RestoreError> {
        Ok(())
    }

    async fn get(&self, _: Position) -> Result<Option<StoredEvent>, ReadError> {
        Ok(None)
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        self.asked.lock().unwrap().push(query.limit);
        let after = query.after.map_or(0, Position::get);
        let data = Bytes::from(vec![0; self.event_bytes]);
        let event = |at| StoredEvent { data: data.clone(), ..stored(at, "row") };
        let mut bytes = 0;
        let has_gaps = self.has_gaps.load(Ordering::Relaxed);
        let stored = (after + 1..=query.through.get()).filter(|at| !has_gaps || at % 2 == 1);
        let fitting = stored.take(query.limit).map(event).take_while(|event| {
            bytes += event.size_bytes();
            bytes <= query.bytes_max || bytes == event.size_bytes()
        });
        let events: Vec<_> = fitting.collect();
        let reached = events.last().map_or(query.through, |event| event.position);
        Ok(Page { events, reached })
    }

    async fn latest(&self, _: LatestQuery) -> Result<LatestPage, ReadError> {
        Ok(LatestPage { events: Vec::new(), reached: None })
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        Ok(LogState { head: Some(position(self.events)), deletions: 0 })
    }

    async fn subjects(&self, _: Option<Subject>, _: usize) -> Result<Vec<Subject>, ReadError> {
        Ok(Vec::new())
    }

    async fn types(&self, _: Option<Position>, _: Position) -> Result<Vec<EventType>, ReadError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: Filter, _: Position, _: Position) -> Result<u64, DeleteError> {
        Ok(0)
    }
}

async fn log(events: i64, event_bytes: usize) -> (Arc<Row>, Arc<Log>) {
    let row = Arc::new(Row { events, event_bytes, asked: Mutex::default(), has_gaps: AtomicBool::new(false) });
    let log = Arc::new(Log::new(Arc::clone(&row) as Arc<dyn EventRepository>, 0));
    log.refresh().await.unwrap();
    (row, log)
}

fn reader(log: &Arc<Log>) -> Subscription {
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let request = SubscriptionRequest {
        filter: Filter::default(),
        start: Start::After(None),
        latest: false,
        min_position: None,
        heartbeat: Duration::from_mins(1),
        protocol: Protocol::Sse,
    };
    let pages = PageLimits { first_events: 100, live_events: 100 };
    let beginning = Beginning { after: None, not_before: None };
    Subscription::new(Arc::clone(log), CancellationToken::new(), slot, pages, beginning, request)
}

/// Reads up to the head; returns how many events and bytes each item had.
async fn catch_up(reader: Subscription) -> Vec<(usize, usize)> {
    let mut items = Box::pin(reader.into_stream());
    let mut pages = Vec::new();
    let mut next = 1;
    loop {
        match items.next().await.unwrap().unwrap() {
            SubscriptionItem::Events(events) => {
                for event in &events {
                    assert_eq!(event.stored().position.get(), next);
                    next += 1;
                }
                pages.push((events.len(), events.iter().map(|event| event.stored().size_bytes()).sum()));
            }
            SubscriptionItem::CaughtUp(through) => {
                assert_eq!(through.map(Position::get), Some(next - 1));
                return pages;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn stretches_are_given_page_by_page() {
    for event_bytes in [10, 1_000] {
        let (row, log) = log(40_000, event_bytes).await;
        let pages = catch_up(reader(&log)).await;
        assert_eq!(pages.iter().map(|(events, _)| events).sum::<usize>(), 40_000);
        assert!(pages.iter().all(|(events, bytes)| *events <= PAGE_EVENTS_MAX && *bytes <= PAGE_BYTES_MAX));
        let asked = row.asked.lock().unwrap();
        assert_eq!(asked[..3], [100, 200, 400]);
        assert!(asked[..STRETCH_AFTER_PAGES].iter().all(|limit| *limit <= PAGE_EVENTS_MAX));
        assert!(asked[STRETCH_AFTER_PAGES..].iter().all(|limit| *limit == STRETCH.0), "{asked:?}");
        assert!(asked.len() < pages.len() / 2, "{} reads for {} pages", asked.len(), pages.len());
    }
}

#[tokio::test]
async fn few_readers_at_once_have_stretches() {
    let (row, log) = log(20_000, 10).await;
    let allowed: Vec<_> = std::iter::from_fn(|| log.allow_stretches()).collect();
    assert_eq!(allowed.len(), 4);
    catch_up(reader(&log)).await;
    assert!(row.asked.lock().unwrap().drain(..).all(|limit| limit <= PAGE_EVENTS_MAX));
    drop(allowed);
    catch_up(reader(&log)).await;
    assert!(row.asked.lock().unwrap().drain(..).any(|limit| limit == STRETCH.0));
}

#[tokio::test]
async fn reader_that_has_caught_up_leaves_stretches_to_others() {
    let (_row, log) = log(20_000, 10).await;
    let mut items = Box::pin(reader(&log).into_stream());
    let held = loop {
        let item = items.next().await.unwrap().unwrap();
        let allowed: Vec<_> = std::iter::from_fn(|| log.allow_stretches()).collect();
        match item {
            SubscriptionItem::CaughtUp(_) => break allowed,
            _ => assert!(allowed.len() >= 3),
        }
    };
    assert_eq!(held.len(), 4);
}

#[tokio::test]
async fn event_larger_than_a_page_is_given_alone() {
    let (_row, log) = log(20, PAGE_BYTES_MAX).await;
    assert!(catch_up(reader(&log)).await.iter().all(|(events, _)| *events == 1));
}

#[tokio::test]
async fn what_was_deleted_meanwhile_is_not_given() {
    // In the middle of a stretch, and of the last one.
    for deleted_after in [15_000, 36_000] {
        let (row, log) = log(40_000, 10).await;
        let mut items = Box::pin(reader(&log).into_stream());
        let mut last = 0;
        loop {
            let events = match items.next().await.unwrap().unwrap() {
                SubscriptionItem::Events(events) => events,
                SubscriptionItem::CaughtUp(_) => break,
                other => panic!("{other:?}"),
            };
            let is_deleted = row.has_gaps.load(Ordering::Relaxed);
            for event in events {
                let position = event.stored().position.get();
                assert!(if is_deleted { position % 2 == 1 && position <= last + 2 } else { position == last + 1 });
                last = position;
            }
            if last > deleted_after && !is_deleted {
                row.has_gaps.store(true, Ordering::Relaxed);
                log.note_deletion();
            }
        }
        assert_eq!(last, 39_999);
    }
}
