//! How much a reader takes at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::*;
use crate::domain::append::AppendRequest;
use crate::domain::event::StoredEvent;
use crate::domain::log::testing::{position, stored};
use crate::domain::testing::Scripted;
use crate::ports::event_repository::{AppendError, Page, ReadQuery};

/// What a store was asked for, and what became of it.
#[derive(Default)]
struct Row {
    /// How many events, one time after the other.
    asked: Mutex<Vec<usize>>,
    /// Whether the events at even positions are gone.
    has_gaps: AtomicBool,
}

impl Row {
    fn read(&self, query: &ReadQuery, data: &Bytes) -> Page {
        self.asked.lock().unwrap().push(query.limit);
        let after = query.after.map_or(0, Position::get);
        let mut bytes = 0;
        let has_gaps = self.has_gaps.load(Ordering::Relaxed);
        let positions = (after + 1..=query.through.get()).filter(|at| !has_gaps || at % 2 == 1);
        let stored = positions.take(query.limit).map(|at| StoredEvent { data: data.clone(), ..stored(at, "row") });
        let fitting = stored.take_while(|event| {
            bytes += event.size_bytes();
            bytes <= query.bytes_max || bytes == event.size_bytes()
        });
        let events: Vec<_> = fitting.collect();
        let reached = events.last().map_or(query.through, |event| event.position);
        Page { events, reached }
    }
}

/// A log of so many events, each of which has so many bytes of data.
async fn log(events: i64, event_bytes: usize) -> (Arc<Row>, Arc<Log>) {
    let (row, data) = (Arc::new(Row::default()), Bytes::from(vec![0; event_bytes]));
    let asked = Arc::clone(&row);
    let store = Scripted {
        append: |_: &[AppendRequest]| Err(AppendError::Unavailable("it is only read".into())),
        read: move |query: &ReadQuery| asked.read(query, &data),
        head: Some(position(events)),
    };
    let log = Arc::new(Log::new(Arc::new(store), 0));
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
