//! Two processes' use cases over one store: what their readers see, from memory and from the store.

use std::sync::Arc;
use std::time::Duration;

use events_db::adapters::notifier::broadcast::BroadcastNotifier;
use events_db::domain::append::AppendRequest;
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::filter::Filter;
use events_db::domain::log::Protocol;
use events_db::domain::position::Position;
use events_db::domain::service::{EventService, HistoryRequest, LatestRequest, ServiceLimits};
use events_db::domain::subscription::{Start, StartError, SubscriptionItem, SubscriptionRequest};
use events_db::domain::timestamp::Timestamp;
use events_db::ports::event_repository::{EventRepository, Order};
use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reading::{event, event_type, exact, position, positions, prefixes, whole_log};
use crate::store::Store;

/// The longest a reader waits for what must come.
const CEILING: Duration = Duration::from_secs(30);

/// A process without its sockets.
pub(crate) struct Replica {
    pub(crate) service: EventService,
    repository: Arc<dyn EventRepository>,
    shutdown: CancellationToken,
}

impl Replica {
    /// With `tail_bytes_max` of the log in memory.
    pub(crate) async fn start(store: &Store, tail_bytes_max: usize) -> Self {
        let repository = store.open().await;
        let limits = ServiceLimits {
            event_bytes_max: 1_000,
            batch_events_max: 1_000,
            batch_bytes_max: 10_000_000,
            queue_events_max: 10_000,
            queue_bytes_max: 10_000_000,
            subscriptions_max: 1_000,
            first_page_events: 3,
            client_buffer_events: 5,
            tail_bytes_max,
            slow_reader_patience: Duration::from_mins(1),
        };
        let shutdown = CancellationToken::new();
        let notifier = Arc::new(BroadcastNotifier::new());
        let service = EventService::new(Arc::clone(&repository), notifier, limits, shutdown.clone());
        service.start().await.unwrap();
        let (writer, follower) = (service.clone(), service.clone());
        tokio::spawn(async move { writer.write_queued(|_| ()).await });
        tokio::spawn(async move { follower.follow(|_| ()).await });
        Self { service, repository, shutdown }
    }

    pub(crate) async fn append(&self, events: Vec<NewEvent>) -> Vec<i64> {
        let request = AppendRequest { events, preconditions: Vec::new() };
        let appended = self.service.append(request).await.unwrap();
        appended.iter().map(|appended| appended.position.get()).collect()
    }

    async fn subscribe(&self, request: SubscriptionRequest) -> Reader {
        let items = self.service.subscribe(request).await.unwrap().into_stream();
        Reader { items: items.map(Result::unwrap).boxed() }
    }

    async fn history(&self, request: HistoryRequest) -> (Vec<StoredEvent>, bool) {
        let history = self.service.history(request).await.unwrap();
        (history.events.iter().map(|event| event.stored().clone()).collect(), history.has_more)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A subscription, read event by event.
struct Reader {
    items: std::pin::Pin<Box<dyn Stream<Item = SubscriptionItem> + Send>>,
}

impl Reader {
    async fn item(&mut self) -> SubscriptionItem {
        tokio::time::timeout(CEILING, self.items.next()).await.expect("the reader waits in vain").unwrap()
    }

    /// Events up to position `last`.
    async fn through(&mut self, last: i64) -> Vec<StoredEvent> {
        let mut seen: Vec<StoredEvent> = Vec::new();
        while seen.last().is_none_or(|event| event.position.get() < last) {
            if let SubscriptionItem::Events(events) = self.item().await {
                seen.extend(events.iter().map(|event| event.stored().clone()));
            }
        }
        seen
    }
}

fn from(filter: Filter, start: Start) -> SubscriptionRequest {
    SubscriptionRequest {
        filter,
        start,
        latest: false,
        min_position: None,
        heartbeat: Duration::from_secs(15),
        protocol: Protocol::Sse,
    }
}

fn asked(filter: Filter, start: Start, order: Order) -> HistoryRequest {
    HistoryRequest { filter, start, order, until: None, min_position: None, limit: 1_000, bytes_max: usize::MAX }
}

fn after(place: i64) -> Start {
    Start::After(Position::new(place).ok())
}

/// An event of one of some subjects and types, by number.
fn numbered(number: usize) -> NewEvent {
    let mut event = event(["a", "ab", "b", "rare"][if number.is_multiple_of(40) { 3 } else { number % 3 }]);
    event.event_type = event_type(["t", "u"][number / 3 % 2]);
    event
}

fn filters() -> Vec<Filter> {
    let typed = |filter: Filter| Filter::new(filter.subjects, vec![event_type("u")]);
    let plain = [Filter::default(), exact(&["a"]), exact(&["b", "rare"]), prefixes(&["a"]), prefixes(&["ra", "b"])];
    plain.iter().cloned().chain(plain.iter().cloned().map(typed)).collect()
}

/// Reads until it has seen the last position of `goal`, once that is known.
async fn read_until(mut reader: Reader, mut goal: watch::Receiver<Option<i64>>) -> Vec<StoredEvent> {
    let mut seen: Vec<StoredEvent> = Vec::new();
    loop {
        let last = seen.last().map_or(0, |event| event.position.get());
        tokio::select! {
            _ = goal.wait_for(|goal| goal.is_some_and(|goal| goal <= last)) => return seen,
            item = reader.item() => if let SubscriptionItem::Events(events) = item {
                seen.extend(events.iter().map(|event| event.stored().clone()));
            }
        }
    }
}

pub(crate) async fn readers_of_all_processes_see_the_log_as_it_is(store: &Store) {
    const BATCHES: usize = 60;
    // So little memory that readers fall out of it, and enough that they do not.
    let replicas = [Replica::start(store, 10_000).await, Replica::start(store, 10_000_000).await];
    replicas[0].append((0..50).map(numbered).collect()).await;
    let mut readers = Vec::new();
    for (number, filter) in filters().into_iter().enumerate() {
        for replica in &replicas {
            let place = i64::try_from(number * 7 % 60).unwrap();
            let reader = replica.subscribe(from(filter.clone(), after(place))).await;
            let goal = watch::Sender::new(None);
            let task = tokio::spawn(read_until(reader, goal.subscribe()));
            readers.push((filter.clone(), place, goal, task));
        }
    }
    let write = async |replica: &Replica, seed: usize| {
        for batch in 0..BATCHES {
            replica.append((0..=batch % 4).map(|number| numbered(seed + batch * 5 + number)).collect()).await;
        }
    };
    tokio::join!(write(&replicas[0], 0), write(&replicas[1], 1));
    let log = whole_log(&*replicas[0].repository).await;
    for (filter, place, goal, task) in readers {
        let wanted = log.iter().filter(|event| event.position.get() > place && filter.matches(event));
        let wanted: Vec<StoredEvent> = wanted.cloned().collect();
        goal.send_replace(Some(wanted.last().map_or(0, |event| event.position.get())));
        let seen = task.await.unwrap();
        assert_eq!(positions(&seen), positions(&wanted), "{filter:?} after {place}");
        assert_eq!(seen, wanted, "from memory or not, an event is the same");
    }
    for replica in &replicas {
        for filter in filters() {
            for order in [Order::Ascending, Order::Descending] {
                let (found, has_more) = replica.history(asked(filter.clone(), after(0), order)).await;
                let mut wanted: Vec<_> = log.iter().filter(|event| filter.matches(event)).cloned().collect();
                if order == Order::Descending {
                    wanted.reverse();
                }
                assert_eq!(positions(&found), positions(&wanted), "{filter:?} {order:?}");
                assert_eq!((found, has_more), (wanted, false));
            }
        }
    }
    let reads = replicas[1].service.log_report();
    assert!(reads.tail_hits > 0 && reads.tail_events > 0, "{reads:?}");
}

pub(crate) async fn deleted_events_are_read_from_nobodys_memory(store: &Store) {
    let [one, other] = [Replica::start(store, 10_000_000).await, Replica::start(store, 10_000_000).await];
    one.append((0..20).map(|number| event(if number % 2 == 0 { "even" } else { "odd" })).collect()).await;
    // The events are in the memory of both.
    for replica in [&one, &other] {
        let mut reader = replica.subscribe(from(Filter::default(), after(0))).await;
        assert_eq!(reader.through(20).await.len(), 20);
    }
    let mut waiting = other.subscribe(from(Filter::default(), after(0))).await;
    assert_eq!(one.service.delete(exact(&["even"]), position(3)).await.unwrap(), 9);
    one.append(vec![event("even")]).await;
    let left: Vec<i64> = (1..=20).filter(|position| position % 2 == 0 || *position < 3).chain([21]).collect();
    for replica in [&one, &other] {
        let mut reader = replica.subscribe(from(Filter::default(), after(0))).await;
        assert_eq!(positions(&reader.through(21).await), left);
        let (found, _) = replica.history(asked(Filter::default(), after(0), Order::Ascending)).await;
        assert_eq!(positions(&found), left);
        assert_eq!(replica.service.get(position(3), None).await.unwrap(), None);
    }
    // Who was there before the deletion goes on over the holes.
    assert_eq!(waiting.through(21).await.last().unwrap().position, position(21));
}

pub(crate) async fn reads_begin_where_they_are_asked_to(store: &Store) {
    let replica = Replica::start(store, 10_000_000).await;
    replica.append((0..10).map(numbered).collect()).await;
    let between = Timestamp::now();
    // Recorded times are as fine as the clock.
    while Timestamp::now() == between {}
    replica.append((10..20).map(numbered).collect()).await;
    let all = Filter::default;
    let log = whole_log(&*replica.repository).await;
    assert!(log[9].recorded_time.unwrap() <= between && between < log[10].recorded_time.unwrap());

    let history = async |start, order| positions(&replica.history(asked(all(), start, order)).await.0);
    let rising = |from: i64, through: i64| (from..=through).collect::<Vec<_>>();
    let falling = |from: i64, through: i64| (through..=from).rev().collect::<Vec<_>>();
    let late = Timestamp::now();
    let early = Timestamp::from_unix_micros(0).unwrap();
    for (start, up, down) in [
        (after(0), rising(1, 20), falling(20, 1)),
        (after(12), rising(13, 20), falling(11, 1)),
        (after(90), vec![], falling(20, 1)),
        (Start::Head, vec![], falling(20, 1)),
        (Start::Time(early), rising(1, 20), vec![]),
        (Start::Time(log[10].recorded_time.unwrap()), rising(11, 20), falling(10, 1)),
        (Start::Time(late), vec![], falling(20, 1)),
    ] {
        assert_eq!(history(start, Order::Ascending).await, up, "{start:?}");
        assert_eq!(history(start, Order::Descending).await, down, "{start:?}");
    }
    let mut limited = asked(all(), after(0), Order::Descending);
    limited.limit = 20;
    assert!(!replica.history(limited.clone()).await.1);
    limited.limit = 19;
    let (found, has_more) = replica.history(limited).await;
    assert_eq!((positions(&found), has_more), (falling(20, 2), true));

    let at_head = replica.subscribe(from(all(), Start::Head)).await;
    let at_time = replica.subscribe(from(all(), Start::Time(log[10].recorded_time.unwrap()))).await;
    let tomorrow = Timestamp::from_unix_micros(late.unix_micros() + 86_400_000_000).unwrap();
    let mut in_future = replica.subscribe(from(all(), Start::Time(tomorrow))).await;
    assert!(matches!(in_future.item().await, SubscriptionItem::CaughtUp(_)));
    replica.append(vec![event("a")]).await;
    for (mut reader, wanted) in [(at_head, rising(21, 21)), (at_time, rising(11, 21))] {
        assert_eq!(positions(&reader.through(21).await), wanted);
    }
    let nothing = tokio::time::timeout(Duration::from_millis(50), in_future.item()).await;
    assert!(nothing.is_err(), "{nothing:?} was not recorded tomorrow");
}

pub(crate) async fn last_events_of_subjects_come_first_and_then_what_comes(store: &Store) {
    let replica = Replica::start(store, 10_000_000).await;
    replica.append((0..100).map(numbered).collect()).await;
    let log = whole_log(&*replica.repository).await;
    for filter in filters() {
        let mut wanted: Vec<&StoredEvent> = Vec::new();
        for event in log.iter().filter(|event| filter.matches(event)) {
            wanted.retain(|other| other.subject != event.subject);
            wanted.push(event);
        }
        wanted.sort_by(|one, other| one.subject.cmp(&other.subject));
        let wanted: Vec<StoredEvent> = wanted.into_iter().cloned().collect();
        let mut found: Vec<StoredEvent> = Vec::new();
        loop {
            let after = found.last().map(|event| event.subject.clone());
            let request =
                LatestRequest { filter: filter.clone(), after, min_position: None, limit: 2, bytes_max: usize::MAX };
            let page = replica.service.latest(request).await.unwrap();
            assert!(page.events.len() <= 2);
            found.extend(page.events.iter().map(|event| event.stored().clone()));
            if !page.has_more {
                break;
            }
        }
        assert_eq!(positions(&found), positions(&wanted), "{filter:?}");
        assert_eq!(found, wanted);
        let request = SubscriptionRequest { latest: true, ..from(filter.clone(), after(0)) };
        let mut reader = replica.subscribe(request).await;
        let mut latest = Vec::new();
        loop {
            match reader.item().await {
                SubscriptionItem::Latest(events) => latest.extend(events.iter().map(|event| event.stored().clone())),
                SubscriptionItem::CaughtUp(place) => break assert_eq!(place, Some(position(100))),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(latest, wanted, "{filter:?}");
    }
    let request = SubscriptionRequest { latest: true, ..from(exact(&["a"]), after(0)) };
    let mut reader = replica.subscribe(request).await;
    replica.append(vec![event("a"), event("b"), event("a")]).await;
    assert_eq!(positions(&reader.through(103).await), [101, 103]);
}

pub(crate) async fn reads_wait_for_the_position_they_must_see(store: &Store) {
    let [one, other] = [Replica::start(store, 10_000_000).await, Replica::start(store, 10_000_000).await];
    for number in 1..=20 {
        assert_eq!(one.append(vec![event("a")]).await, [number]);
        let see = Some(position(number));
        let request = HistoryRequest { min_position: see, ..asked(exact(&["a"]), after(number - 1), Order::Ascending) };
        assert_eq!(positions(&other.history(request).await.0), [number]);
        assert!(other.service.get(position(number), see).await.unwrap().is_some());
    }
    let request =
        HistoryRequest { min_position: Some(position(22)), ..asked(exact(&["a"]), after(0), Order::Ascending) };
    let (waiting, ()) = tokio::join!(other.history(request), async {
        one.append(vec![event("a")]).await;
        one.append(vec![event("b")]).await;
    });
    assert_eq!(waiting.0.len(), 21);
    let never = other.service.get(position(1), Some(position(99))).await;
    assert!(matches!(never, Err(StartError::NotReached { min_position }) if min_position == position(99)), "{never:?}");
}

pub(crate) async fn silent_reader_is_told_where_to_resume(store: &Store) {
    let [one, other] = [Replica::start(store, 10_000_000).await, Replica::start(store, 10_000_000).await];
    let heartbeat = Duration::from_millis(5);
    let mut readers = Vec::new();
    for (replica, filter) in
        [(&one, exact(&["a"])), (&other, Filter::new(exact(&["b"]).subjects, vec![event_type("u")]))]
    {
        readers.push(replica.subscribe(SubscriptionRequest { heartbeat, ..from(filter, after(0)) }).await);
    }
    one.append(vec![event("b"); 20]).await;
    for reader in &mut readers {
        loop {
            match reader.item().await {
                SubscriptionItem::Heartbeat(place) if place == Some(position(20)) => break,
                SubscriptionItem::Heartbeat(place) => assert!(place < Some(position(20))),
                SubscriptionItem::CaughtUp(place) => assert_eq!(place, None),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) async fn reader_far_behind_is_not_waited_for(store: &Store) {
    let [one, other] = [Replica::start(store, 10_000_000).await, Replica::start(store, 10_000_000).await];
    let mut quiet = other.subscribe(from(exact(&["rare"]), after(0))).await;
    assert!(matches!(quiet.item().await, SubscriptionItem::CaughtUp(None)));
    // More than the other process takes in at once, appended without its knowledge.
    for _ in 0..70 {
        let batch = AppendRequest { events: vec![event("thick"); 1_000], preconditions: Vec::new() };
        one.repository.append(Arc::new([batch])).await.unwrap();
    }
    one.append(vec![event("rare")]).await;
    assert_eq!(positions(&quiet.through(70_001).await), [70_001]);
}
