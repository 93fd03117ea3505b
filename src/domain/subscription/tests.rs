//! How much a reader takes at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::*;
use crate::domain::event::StoredEvent;
use crate::domain::log::FreshEvents;
use crate::domain::log::testing::{position, stored};
use crate::domain::testing::{Scripted, new_event};
use crate::ports::event_repository::{Page, ReadQuery};

/// Bytes of the newest events in memory: room for all that is appended here.
const TAIL_BYTES: usize = 4 * 1024 * 1024;

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
    let store = Scripted::to_read(position(events), move |query: &ReadQuery| Ok(asked.read(query, &data)));
    let log = Arc::new(Log::new(Arc::new(store), TAIL_BYTES));
    log.start().await.unwrap();
    (row, log)
}

/// Appends so many events by one commit, and waits until they are in memory.
async fn append(log: &Arc<Log>, events: usize) {
    let head = log.known().head.unwrap();
    let recorded = Timestamp::from_unix_micros(1).unwrap();
    let (first, events) = (head.next().unwrap(), vec![new_event("row", 10); events]);
    let through = position(head.get() + i64::try_from(events.len()).unwrap());
    log.feed(Some(FreshEvents { first, events, recorded, epoch: log.epoch() }), through);
    let following = Arc::clone(log);
    let follower = tokio::spawn(async move { following.follow(stream::pending().boxed(), |_| {}).await });
    while log.announced() < Some(through) {
        tokio::task::yield_now().await;
    }
    follower.abort();
}

fn reader(log: &Arc<Log>) -> Subscription {
    reader_with(log, Duration::from_mins(1))
}

fn reader_with(log: &Arc<Log>, heartbeat: Duration) -> Subscription {
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let request = SubscriptionRequest {
        filter: Filter::default(),
        start: Start::After(None),
        latest: false,
        min_position: None,
        heartbeat,
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
    // In the middle of a stretch, of the last one, and of what was in memory.
    for deleted_after in [15_000, 36_000, 41_000] {
        let (row, log) = log(40_000, 10).await;
        append(&log, 3_000).await;
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
                row.asked.lock().unwrap().clear();
            }
        }
        assert_eq!(last, 42_999);
        let asked = row.asked.lock().unwrap();
        assert!(asked[0] <= PAGE_EVENTS_MAX, "less at once, so that it can be given before more is deleted: {asked:?}");
    }
}

#[tokio::test]
async fn long_way_without_a_match_has_signs_of_life() {
    let store = Scripted::to_read(position(3_500), |query: &ReadQuery| {
        let looked_at = position(query.after.map_or(0, Position::get) + 1_000);
        Ok(Page { events: Vec::new(), reached: looked_at.min(query.through) })
    });
    let log = Arc::new(Log::new(Arc::new(store), TAIL_BYTES));
    log.start().await.unwrap();
    // Always due.
    let mut items = Box::pin(reader_with(&log, Duration::ZERO).into_stream());
    for reached in [1_000, 2_000, 3_000, 3_500] {
        let item = items.next().await.unwrap().unwrap();
        assert!(matches!(item, SubscriptionItem::Heartbeat(at) if at == Some(position(reached))), "{item:?}");
    }
    assert!(matches!(items.next().await.unwrap().unwrap(), SubscriptionItem::CaughtUp(_)));
}

#[tokio::test(start_paused = true)]
async fn reader_has_signs_of_life_while_the_store_is_away() {
    let store = Scripted::to_read(position(10), |_: &ReadQuery| Err(ReadError::Unavailable("it is away".into())));
    let log = Arc::new(Log::new(Arc::new(store), TAIL_BYTES));
    log.start().await.unwrap();
    let began = Instant::now();
    let mut items = Box::pin(reader_with(&log, Duration::from_secs(15)).into_stream());
    for count in 1..=3 {
        let item = items.next().await.unwrap().unwrap();
        assert!(matches!(item, SubscriptionItem::Heartbeat(None)), "{item:?}");
        assert!(began.elapsed() < Duration::from_secs(15) * count + Duration::from_secs(1));
    }
}
