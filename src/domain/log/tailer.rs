//! The one task that takes in what comes, in order, and announces it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log::Log;
use crate::domain::log::feed::FreshEvents;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{Order, Page, ReadError, ReadQuery};

/// How often an idle process looks for what other processes appended when no hint comes.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// How often it looks while other processes append, so that a lost hint costs little.
const POLL_BUSY: Duration = Duration::from_millis(10);

/// The least time between a look and one that a hint asks for: hints may be many, and wrong.
const HINT_PAUSE: Duration = Duration::from_millis(5);

/// Events and bytes read from the store at once.
const PAGE: (usize, usize) = (1_000, 1024 * 1024);

/// Positions to catch up with at the most. Farther behind, the tail begins anew at the head, and who waits reads the
/// store: that costs less than to wait for all of it to pass through the memory.
const BEHIND_MAX: i64 = 65_536;

/// Why the tailer was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This process appended.
    Append,
    /// Another process said that it did.
    Hint,
    /// It was time to look.
    Poll,
    /// A read found a later head.
    Read,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Append, Self::Hint, Self::Poll, Self::Read];
}

/// How often each cause has woken the tailer.
#[derive(Debug, Default)]
pub(super) struct Causes([AtomicU64; 4]);

impl Causes {
    fn count(&self, cause: Cause) {
        self.0[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> [u64; 4] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// When the store is looked at next.
struct Pace {
    looked: Instant,
    pause: Duration,
    /// Whether a hint asks for a look before its time.
    is_hinted: bool,
}

impl Pace {
    fn next_look(&self) -> Instant {
        self.looked + if self.is_hinted { HINT_PAUSE.min(self.pause) } else { self.pause }
    }

    fn looked(&mut self, others_append: bool) {
        let pause = if others_append { POLL_BUSY } else { (self.pause * 2).min(POLL_IDLE) };
        *self = Self { looked: Instant::now(), pause, is_hinted: false };
    }
}

impl Log {
    /// Begins at the head: older events stay in the store. To be called once, before anything is read.
    pub(in crate::domain) async fn start(&self) -> Result<(), ReadError> {
        self.refresh().await?;
        self.begin_anew();
        Ok(())
    }

    /// Follows the log until it is dropped: takes in what this process appends, and what others do when a hint comes, and
    /// every now and then regardless. Calls `on_probe` with every answer of the store. To be run once.
    pub(in crate::domain) async fn follow(
        &self,
        mut hints: BoxStream<'static, LogState>,
        mut on_probe: impl FnMut(Result<(), &ReadError>),
    ) {
        let mut fresh = VecDeque::new();
        let mut pace = Pace { looked: Instant::now(), pause: POLL_BUSY, is_hinted: false };
        loop {
            let caught_up = self.catch_up(&mut fresh).await;
            match &caught_up {
                Ok(others_append) if *others_append => pace.pause = POLL_BUSY,
                Ok(_) => {}
                Err(error) => {
                    on_probe(Err(error));
                    pace.looked(false);
                    // The store has them too, and more may come for as long as it does not answer.
                    fresh.clear();
                    if matches!(error, ReadError::Corrupt(_)) {
                        // Concerns those who ask for that event, and nobody else may wait for it.
                        self.begin_anew();
                    }
                }
            }
            // What failed is tried again at the next look.
            let may_go_on = caught_up.is_ok();
            tokio::select! {
                cause = self.feed.told(), if may_go_on => self.causes.count(cause),
                Some(hint) = hints.next() => {
                    let known = self.known();
                    let is_news = hint.head > known.head || hint.deletions > known.deletions;
                    pace.is_hinted |= is_news;
                }
                () = tokio::time::sleep_until(pace.next_look()) => {
                    self.causes.count(if pace.is_hinted { Cause::Hint } else { Cause::Poll });
                    let before = self.known().head;
                    let answer = self.repository.state().await;
                    let answer = answer.map(|state| self.note(state));
                    pace.looked(self.known().head > before);
                    on_probe(answer.as_ref().map(|_grown| ()));
                }
            }
        }
    }

    /// Takes in everything up to the known head; says whether another process has appended some of it.
    async fn catch_up(&self, fresh: &mut VecDeque<FreshEvents>) -> Result<bool, ReadError> {
        // The head first: what this process has appended up to there is in the feed by then.
        let known = self.known().head;
        fresh.extend(self.feed.take());
        let mut others_append = false;
        let mut bytes_left = self.tail().bytes_max();
        loop {
            let through = self.tail_through();
            while fresh.front().is_some_and(|commit| Some(commit.first) <= through) {
                fresh.pop_front();
            }
            let next = through.map_or(Some(Position::FIRST), Position::next);
            if let Some(commit) = fresh.pop_front_if(|commit| Some(commit.first) == next) {
                let (last, epoch) = (commit.last(), commit.epoch);
                self.publish(commit.stored(), last, epoch);
                continue;
            }
            let target = fresh.front().map_or(known, |commit| commit.first.previous());
            let Some(target) = target.filter(|target| Some(*target) > through) else {
                return Ok(others_append);
            };
            others_append = true;
            let is_far_behind = target.get() - through.map_or(0, Position::get) > BEHIND_MAX || bytes_left == 0;
            if is_far_behind {
                self.begin_anew();
                fresh.clear();
                return Ok(true);
            }
            let bytes = self.take_in(through, target).await?;
            bytes_left = bytes_left.saturating_sub(bytes);
        }
    }

    /// Takes in a page of what lies above `after` in the store; returns its bytes.
    async fn take_in(&self, after: Option<Position>, through: Position) -> Result<usize, ReadError> {
        let epoch = self.epoch();
        let (limit, bytes_max) = PAGE;
        let filter = Filter::default();
        let query = ReadQuery { filter, after, through, order: Order::Ascending, limit, bytes_max };
        let Page { events, reached } = self.repository.read(query).await?;
        let bytes = events.iter().map(StoredEvent::size_bytes).sum();
        self.publish(events, reached, epoch);
        Ok(bytes)
    }

    /// Puts `events` into memory, then tells who waits for them, then that all of them were told.
    fn publish(&self, events: Vec<StoredEvent>, through: Position, epoch: u64) {
        let pushed = self.tail_mut().push(events, through, epoch);
        let Some(events) = pushed else { return };
        self.readers.announce(&events);
        self.announced.store(through.get(), Ordering::Release);
        if let Some(recorded) = events.last().and_then(|event| event.stored().recorded_time) {
            self.note_delay(recorded);
        }
    }

    /// Leaves the memory behind and goes on at the known head. Who waits has to look into the store.
    fn begin_anew(&self) {
        let Some(head) = self.known().head else { return };
        let skipped_after = self.tail_mut().begin_anew(head);
        self.readers.announce_to_all(skipped_after.map_or(Some(Position::FIRST), Position::next).unwrap_or(head));
        self.announced.store(head.get(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;

    use super::*;
    use crate::domain::log::testing::position;
    use crate::domain::testing::{Scripted, new_event};
    use crate::domain::timestamp::Timestamp;

    fn commit(at: i64, epoch: u64) -> FreshEvents {
        let recorded = Timestamp::from_unix_micros(7).unwrap();
        FreshEvents { first: position(at), events: vec![new_event("", 0)], recorded, epoch }
    }

    #[tokio::test(start_paused = true)]
    async fn event_that_cannot_be_read_is_left_to_those_who_ask_for_it() {
        let store =
            Scripted::to_read(position(10), |_: &ReadQuery| Err(ReadError::Corrupt("of another version".into())));
        let log = Arc::new(Log::new(Arc::new(store), 1_000_000));
        log.start().await.unwrap();
        let following = Arc::clone(&log);
        let follower = tokio::spawn(async move { following.follow(stream::pending().boxed(), |_| {}).await });
        // Another process has appended the event in between.
        for at in [12, 13] {
            log.feed(Some(commit(at, log.epoch())), position(at));
            while log.announced() < Some(position(at)) {
                tokio::time::sleep(POLL_BUSY).await;
            }
        }
        assert_eq!((log.tail().through(), log.tail().size().0), (Some(position(13)), 1), "the last one is in memory");
        follower.abort();
    }
}
