//! What this process appends, on its way into the tail without a detour through the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::log::tailer::Cause;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// Bytes of events that may wait for the tail. More are left to the store: whoever reads slower than others append must
/// not fill the memory.
const FEED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The new events of one commit.
#[derive(Debug)]
pub(in crate::domain) struct FreshEvents {
    /// The position of the first one; the others follow without a hole.
    pub(in crate::domain) first: Position,
    /// The events, at least one.
    pub(in crate::domain) events: Vec<NewEvent>,
    /// When they were recorded.
    pub(in crate::domain) recorded: Timestamp,
    /// The epoch of the tail before the commit.
    pub(in crate::domain) epoch: u64,
}

/// Commits in their order, bounded by bytes; and the bell that wakes the tailer.
#[derive(Debug, Default)]
pub(super) struct Feed {
    waiting: Mutex<Waiting>,
    told: Notify,
    /// Whether the last to ring was a read.
    by_read: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    commits: VecDeque<FreshEvents>,
    bytes: usize,
}

impl FreshEvents {
    /// The position of the last event.
    pub(super) fn last(&self) -> Position {
        let count = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        Position::new(self.first.get().saturating_add(count - 1)).unwrap_or(self.first)
    }

    /// The events as they are stored.
    pub(super) fn stored(self) -> Vec<StoredEvent> {
        let mut position = self.first;
        let mut stored = Vec::with_capacity(self.events.len());
        for event in self.events {
            stored.push(event.stored(position, self.recorded));
            position = position.next().unwrap_or(position);
        }
        stored
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(NewEvent::size_bytes).sum()
    }
}

impl Feed {
    /// Adds a commit, or leaves it to the store when too much waits.
    pub(super) fn put(&self, fresh: FreshEvents) {
        let bytes = fresh.bytes();
        let mut waiting = self.waiting();
        if waiting.bytes + bytes <= FEED_BYTES_MAX || waiting.commits.is_empty() {
            waiting.bytes += bytes;
            waiting.commits.push_back(fresh);
        }
    }

    /// All that waits.
    pub(super) fn take(&self) -> VecDeque<FreshEvents> {
        let mut waiting = self.waiting();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.commits)
    }

    /// Wakes the tailer after an append, or else after a read that found a later head.
    pub(super) fn tell(&self, is_read: bool) {
        self.by_read.store(is_read, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Waits for [`Feed::tell`].
    pub(super) async fn told(&self) -> Cause {
        self.told.notified().await;
        if self.by_read.load(Ordering::Relaxed) { Cause::Read } else { Cause::Append }
    }

    /// Nothing under the lock can fail half-way, so what a panic left behind is whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::log::testing::position;
    use crate::domain::testing::new_event;

    fn commit(first: i64, bytes: usize) -> FreshEvents {
        let recorded = Timestamp::from_unix_micros(7).unwrap();
        FreshEvents { first: position(first), events: vec![new_event("", bytes); 2], recorded, epoch: 0 }
    }

    #[test]
    fn events_of_a_commit_follow_each_other() {
        let fresh = commit(5, 1);
        assert_eq!(fresh.last(), position(6));
        let stored = fresh.stored();
        assert_eq!(stored.iter().map(|event| event.position.get()).collect::<Vec<_>>(), [5, 6]);
        assert!(stored.iter().all(|event| event.recorded_time == Some(event.time)));
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_store() {
        let feed = Feed::default();
        for first in [1, 3, 5] {
            feed.put(commit(first, FEED_BYTES_MAX / 4));
        }
        let firsts = |commits: VecDeque<FreshEvents>| commits.iter().map(|fresh| fresh.first.get()).collect::<Vec<_>>();
        assert_eq!(firsts(feed.take()), [1, 3]);
        feed.put(commit(7, FEED_BYTES_MAX));
        assert_eq!(firsts(feed.take()), [7]);
        assert!(feed.take().is_empty());
    }
}
