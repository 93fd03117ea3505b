//! The queue between those who append and the one task that writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::domain::append::AppendRequest;
use crate::domain::service::append::{AppendAnswer, AppendEventsError};
use crate::ports::append_observer::Wait;

/// Events and preconditions in one transaction at the most, unless a single request has more: beyond some hundred the
/// commit is no longer what a transaction costs, and everybody in it waits for the last one.
pub(super) const GROUP_EVENTS_MAX: usize = 1_000;

/// Bytes of events in one transaction at the most, unless a single request has more.
pub(super) const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How full the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Events that wait for their commit.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Requests refused so far because there was no room.
    pub refused: u64,
}

/// Requests in the order they came, bounded by events and bytes.
pub(super) struct AppendQueue {
    events_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    changed: Notify,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    events: usize,
    bytes: usize,
    is_closed: bool,
}

/// A request that waits for its commit.
pub(super) struct Waiting {
    pub(super) request: AppendRequest,
    pub(super) since: Instant,
    pub(super) answer: oneshot::Sender<AppendAnswer>,
    /// What the observer remembers of it, if there is one.
    pub(super) wait: Option<Wait>,
    bytes: usize,
}

impl AppendQueue {
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events_max, bytes_max, state: Mutex::default(), changed: Notify::new(), refused: AtomicU64::new(0) }
    }

    /// Takes `request` in, or refuses it at once when there is no room.
    pub(super) fn push(
        &self,
        request: AppendRequest,
        wait: Option<Wait>,
    ) -> Result<oneshot::Receiver<AppendAnswer>, AppendEventsError> {
        let (answer, answered) = oneshot::channel();
        let bytes = request.size_bytes();
        let waiting = Waiting { request, since: Instant::now(), answer, wait, bytes };
        let mut state = self.state();
        if state.is_closed {
            return Err(AppendEventsError::ShuttingDown);
        }
        let events = state.events + waiting.events();
        let bytes = state.bytes + bytes;
        // One that is allowed fits into an empty queue, whatever it has besides events.
        if (events > self.events_max || bytes > self.bytes_max) && !state.waiting.is_empty() {
            drop(state);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(AppendEventsError::QueueFull { events_max: self.events_max, bytes_max: self.bytes_max });
        }
        (state.events, state.bytes) = (events, bytes);
        state.waiting.push_back(waiting);
        drop(state);
        self.changed.notify_one();
        Ok(answered)
    }

    /// What waits, up to the size of a transaction; `None` once the queue is closed and empty. For one caller only.
    pub(super) async fn next_group(&self) -> Option<Vec<Waiting>> {
        loop {
            // Made before looking, so that what comes in between wakes it.
            let changed = self.changed.notified();
            if let Some(group) = self.waiting_group() {
                return Some(group);
            }
            if self.state().is_closed {
                // What came between the look and the close.
                return self.waiting_group();
            }
            changed.await;
        }
    }

    /// The same, if anything waits now.
    pub(super) fn waiting_group(&self) -> Option<Vec<Waiting>> {
        let group = self.state().take_group();
        (!group.is_empty()).then_some(group)
    }

    /// Refuses what comes from now on; what is in stays in.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    pub(super) fn depth(&self) -> QueueDepth {
        let state = self.state();
        QueueDepth { events: state.events, bytes: state.bytes, refused: self.refused.load(Ordering::Relaxed) }
    }

    /// Nothing under the lock can fail half-way, so what a panic left behind is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_group(&mut self) -> Vec<Waiting> {
        let (mut events, mut bytes) = (0, 0);
        let fitting = self.waiting.iter().enumerate().take_while(|(index, waiting)| {
            events += waiting.events() + waiting.request.preconditions.len();
            bytes += waiting.bytes;
            *index == 0 || (events <= GROUP_EVENTS_MAX && bytes <= GROUP_BYTES_MAX)
        });
        let count = fitting.count();
        let group: Vec<Waiting> = self.waiting.drain(..count).collect();
        for waiting in &group {
            self.events -= waiting.events();
            self.bytes -= waiting.bytes;
        }
        group
    }
}

impl Waiting {
    /// What counts against the limits: a request without events takes a place too.
    fn events(&self) -> usize {
        self.request.events.len().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::append::Precondition;
    use crate::domain::attribute::Subject;
    use crate::domain::testing::new_event;

    fn request(events: usize, bytes: usize) -> AppendRequest {
        AppendRequest { events: vec![new_event("", bytes); events], preconditions: Vec::new() }
    }

    fn assuming(events: usize, preconditions: usize) -> AppendRequest {
        let assumed = Precondition { subject: Subject::from_stored("s".repeat(10)), last: None };
        AppendRequest { preconditions: vec![assumed; preconditions], ..request(events, 0) }
    }

    #[tokio::test]
    async fn preconditions_take_room_in_queue_and_group() {
        let queue = AppendQueue::new(100_000, 1_000);
        let _large = queue.push(assuming(1, 1_000), None).expect("fits into an empty queue, as anything allowed");
        assert!(queue.depth().bytes > 10_000);
        assert!(matches!(queue.push(request(1, 1), None), Err(AppendEventsError::QueueFull { .. })));
        assert_eq!(group_sizes(&queue).await, [1]);
        let queue = AppendQueue::new(100_000, 1_000_000);
        let halves: Vec<_> = (0..4).map(|_| queue.push(assuming(1, GROUP_EVENTS_MAX / 2 - 1), None).unwrap()).collect();
        assert_eq!((group_sizes(&queue).await, halves.len()), (vec![2, 2], 4));
    }

    async fn group_sizes(queue: &AppendQueue) -> Vec<usize> {
        queue.close();
        let mut sizes = Vec::new();
        while let Some(group) = queue.next_group().await {
            sizes.push(group.len());
        }
        sizes
    }

    #[test]
    fn events_and_bytes_are_taken_up_to_their_limits() {
        let queue = AppendQueue::new(3, 100);
        let _two = queue.push(request(2, 10), None).unwrap();
        assert!(matches!(queue.push(request(2, 0), None), Err(AppendEventsError::QueueFull { .. })));
        assert!(matches!(queue.push(request(1, 81), None), Err(AppendEventsError::QueueFull { .. })));
        let _one = queue.push(request(1, 80), None).unwrap();
        assert!(matches!(queue.push(request(0, 0), None), Err(AppendEventsError::QueueFull { .. })));
        assert_eq!(queue.depth(), QueueDepth { events: 3, bytes: 100, refused: 3 });
    }

    #[tokio::test]
    async fn what_was_taken_makes_room() {
        let queue = AppendQueue::new(1, 1);
        let _first = queue.push(request(1, 1), None).unwrap();
        assert_eq!(queue.next_group().await.unwrap().len(), 1);
        let _second = queue.push(request(1, 1), None).unwrap();
        assert_eq!(queue.depth().events, 1);
    }

    #[tokio::test]
    async fn groups_end_where_a_transaction_is_full() {
        let queue = AppendQueue::new(usize::MAX / 2, usize::MAX / 2);
        let mut answers = Vec::new();
        for _ in 0..=GROUP_EVENTS_MAX / 100 {
            answers.push(queue.push(request(100, 1), None).unwrap());
        }
        answers.push(queue.push(request(1, GROUP_BYTES_MAX - 100), None).unwrap());
        answers.push(queue.push(request(1, 1), None).unwrap());
        answers.push(queue.push(request(GROUP_EVENTS_MAX + 1, 1), None).unwrap());
        answers.push(queue.push(request(1, GROUP_BYTES_MAX + 1), None).unwrap());
        assert_eq!(group_sizes(&queue).await, [10, 2, 1, 1, 1]);
    }

    #[tokio::test]
    async fn closed_queue_gives_what_it_holds_and_takes_no_more() {
        let queue = AppendQueue::new(10, 10);
        let _answer = queue.push(request(1, 1), None).unwrap();
        queue.close();
        assert!(matches!(queue.push(request(1, 1), None), Err(AppendEventsError::ShuttingDown)));
        assert_eq!(group_sizes(&queue).await, [1]);
    }
}
