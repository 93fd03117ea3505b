//! One reader's way through the log: catch-up and live in one loop.

mod error;
mod heartbeat;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use futures_util::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::attribute::Subject;
use crate::domain::filter::Filter;
use crate::domain::log::{Log, LogEvent, LogPage, Protocol, Registration};
use crate::domain::position::Position;
use crate::domain::subscription::heartbeat::Heartbeat;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{LatestPage, LatestQuery, Order, ReadError, ReadQuery};

pub use error::{StartError, SubscribeError, SubscriptionEnded};

/// Events in a page at the most, once a reader has shown that it takes full ones.
pub const PAGE_EVENTS_MAX: usize = 1_000;

/// Bytes in a page at the most: what a reader that stopped taking costs the process.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Events and bytes that are read from the store at once for one of the few readers that may: each statement has costs that
/// do not depend on what it finds, and those of `InnoDB` are a good part of a page's.
const STRETCH: (usize, usize) = (16 * PAGE_EVENTS_MAX, 16 * PAGE_BYTES_MAX);

/// Pages of the store that a reader has taken before it may have stretches.
const STRETCH_AFTER_PAGES: usize = 4;

/// First and longest wait before a failed read is repeated.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Above this place; with the first event when `None`.
    After(Option<Position>),
    /// With what is appended from now on.
    Head,
    /// With the first event recorded at this time or later.
    Time(Timestamp),
}

/// What a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRequest {
    /// Which events.
    pub filter: Filter,
    /// Where to begin.
    pub start: Start,
    /// Whether to begin with the last event of each subject instead, and to go on with what comes.
    pub latest: bool,
    /// Begin when the log has come this far.
    pub min_position: Option<Position>,
    /// How long the reader may be left without a sign of life.
    pub heartbeat: Duration,
    /// What the reader speaks.
    pub protocol: Protocol,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum SubscriptionItem {
    /// The next matching events, never empty, positions strictly ascending; a page at the most.
    Events(Vec<Arc<LogEvent>>),
    /// The last events of the next subjects, never empty, subjects ascending by bytes. A reader that is cut before
    /// `CaughtUp` has to begin anew.
    Latest(Vec<Arc<LogEvent>>),
    /// Once: everything stored when the subscription began has been sent; a reader may resume after this place.
    CaughtUp(Option<Position>),
    /// Nothing was sent for a while; a reader may resume after this place.
    Heartbeat(Option<Position>),
}

/// How much a subscription reads at once.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct PageLimits {
    /// Events in the first page; pages double while they come back full.
    pub(in crate::domain) first_events: usize,
    /// Events in a page at the live end.
    pub(in crate::domain) live_events: usize,
}

/// Where a subscription begins, found out.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct Beginning {
    /// Only events above this place.
    pub(in crate::domain) after: Option<Position>,
    /// Events recorded earlier than this are passed over.
    pub(in crate::domain) not_before: Option<Timestamp>,
}

/// A page that is read while the one before it is sent.
struct Ahead {
    query: ReadQuery,
    /// That of the log before it was read.
    epoch: u64,
    page: AbortOnDropHandle<Result<LogPage, ReadError>>,
}

/// What was read and is not given yet.
struct Held {
    events: vec::IntoIter<Arc<LogEvent>>,
    /// How far the look at the log came.
    reached: Option<Position>,
    is_from_store: bool,
    /// That of the log before it was read.
    epoch: u64,
}

/// An open subscription. Holds its slot until it is dropped, and no more than one page in memory; while it catches up from
/// the store two, or two stretches if it is one of the few that may.
pub struct Subscription {
    log: Arc<Log>,
    registration: Registration,
    shutdown: CancellationToken,
    over: CancellationToken,
    _over: DropGuard,
    _slot: OwnedSemaphorePermit,
    /// What the next page is read by; everything up to its `after` was sent or does not match.
    query: ReadQuery,
    /// To be read up to here; of what lies above, the registration tells.
    through: Option<Position>,
    not_before: Option<Timestamp>,
    live_page_events: usize,
    phase: Phase,
    held: Held,
    /// Pages of the store that were taken.
    store_pages: usize,
    /// Allows to read stretches.
    stretches: Option<OwnedSemaphorePermit>,
    /// Boxed, since most of the time there is none.
    ahead: Option<Box<Ahead>>,
    heartbeat: Heartbeat,
}

/// What a reader has been told so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The last events of the subjects, as far as this one.
    Latest(Option<Subject>),
    /// What was stored when it began.
    CatchUp,
    /// What came since.
    Live,
}

impl Subscription {
    pub(in crate::domain) fn new(
        log: Arc<Log>,
        shutdown: CancellationToken,
        slot: OwnedSemaphorePermit,
        pages: PageLimits,
        beginning: Beginning,
        request: SubscriptionRequest,
    ) -> Self {
        let SubscriptionRequest { filter, latest, heartbeat, protocol, .. } = request;
        let registration = log.register(filter.clone(), protocol, shutdown.child_token());
        let query = ReadQuery {
            filter,
            after: beginning.after,
            through: Position::FIRST,
            order: Order::Ascending,
            limit: pages.first_events,
            bytes_max: PAGE_BYTES_MAX,
        };
        // After the registration, which tells of what lies above.
        let through = log.tail_through().max(log.known().head);
        registration.note_progress(beginning.after, false);
        let over = CancellationToken::new();
        Self {
            log,
            registration,
            shutdown,
            _over: over.clone().drop_guard(),
            over,
            _slot: slot,
            query,
            through,
            not_before: beginning.not_before,
            live_page_events: pages.live_events,
            phase: if latest { Phase::Latest(None) } else { Phase::CatchUp },
            held: Held { events: Vec::new().into_iter(), reached: beginning.after, is_from_store: false, epoch: 0 },
            store_pages: 0,
            stretches: None,
            ahead: None,
            heartbeat: Heartbeat::new(heartbeat),
        }
    }

    /// Cancelled when the subscription is to be ended: whoever carries its items away has to let go, even if its reader
    /// takes nothing.
    #[must_use]
    pub fn end(&self) -> CancellationToken {
        self.registration.end().clone()
    }

    /// Cancelled when the subscription is over, whatever has ended it.
    #[must_use]
    pub fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// The items one after the other. The reader's pace is the pace: no more than a page, or a stretch, is read ahead.
    pub fn into_stream(self) -> impl Stream<Item = Result<SubscriptionItem, SubscriptionEnded>> + Send + 'static {
        let ended = Box::pin(self.registration.end().clone().cancelled_owned());
        stream::unfold(Some((self, ended)), |state| async move {
            let (mut subscription, mut ended) = state?;
            let item = subscription.next_unless(&mut ended).await;
            let rest = item.is_ok().then_some((subscription, ended));
            Some((item, rest))
        })
    }

    async fn next_unless(
        &mut self,
        ended: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    ) -> Result<SubscriptionItem, SubscriptionEnded> {
        self.registration.note_taken();
        let item = tokio::select! {
            biased;
            () = ended.as_mut() => {
                let is_shutdown = self.shutdown.is_cancelled();
                return Err(if is_shutdown { SubscriptionEnded::ShuttingDown } else { SubscriptionEnded::TooSlow });
            }
            item = self.next() => item?,
        };
        self.registration.note_given(match &item {
            SubscriptionItem::Events(events) | SubscriptionItem::Latest(events) => events.len(),
            SubscriptionItem::CaughtUp(_) | SubscriptionItem::Heartbeat(_) => 0,
        });
        self.heartbeat.sent = Instant::now();
        Ok(item)
    }

    async fn next(&mut self) -> Result<SubscriptionItem, SubscriptionEnded> {
        let mut wait = RETRY_WAIT.0;
        loop {
            // Whatever is announced while looking is found by the next look.
            match self.look().await {
                Ok(Some(item)) => return Ok(item),
                Ok(None) => tokio::select! {
                    () = self.registration.announced() => {}
                    () = self.heartbeat.due() => return Ok(SubscriptionItem::Heartbeat(self.pass_the_rest())),
                },
                Err(error @ ReadError::Corrupt(_)) => return Err(SubscriptionEnded::Corrupt(error)),
                Err(error @ ReadError::Unavailable(_)) => {
                    tracing::debug!(%error, "a subscription waits for the store");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_WAIT.1),
                        () = self.heartbeat.due() => return Ok(self.sign_of_life()),
                    }
                }
            }
        }
    }

    /// For a reader that is on its way.
    fn sign_of_life(&self) -> SubscriptionItem {
        SubscriptionItem::Heartbeat(match self.phase {
            Phase::Latest(_) => None,
            Phase::CatchUp | Phase::Live => self.query.after,
        })
    }

    /// Reads on; `None` when there is nothing new.
    async fn look(&mut self) -> Result<Option<SubscriptionItem>, ReadError> {
        if let Phase::Latest(after) = &self.phase {
            let after = after.clone();
            if let Some(item) = self.look_for_latest(after).await? {
                return Ok(Some(item));
            }
        }
        loop {
            if self.held.is_from_store {
                // A reader with room takes page after page. The others go first, and so does the next question to the
                // store: what a task spawns waits for it, where no other thread would take it away.
                tokio::task::yield_now().await;
            }
            if self.forget_if_deleted() && self.heartbeat.is_due() {
                return Ok(Some(self.sign_of_life()));
            }
            if let Some(events) = self.give() {
                return Ok(Some(SubscriptionItem::Events(events)));
            }
            if let Some(through) = self.through.filter(|through| self.query.after < Some(*through)) {
                self.read_page(through).await?;
                // Much may have to be read that does not match.
                if self.held.events.as_slice().is_empty() && self.heartbeat.is_due() {
                    return Ok(Some(self.sign_of_life()));
                }
                continue;
            }
            if self.phase != Phase::Live {
                self.phase = Phase::Live;
                (self.query.limit, self.query.bytes_max) = (self.live_page_events.min(PAGE_EVENTS_MAX), PAGE_BYTES_MAX);
                self.stretches = None;
                return Ok(Some(SubscriptionItem::CaughtUp(self.query.after)));
            }
            let Some(first) = self.registration.take_announced() else { return Ok(None) };
            // Between the place up to which all was read and the first announced match there is none.
            self.query.after = self.query.after.max(first.previous());
            self.through = self.log.tail_through().max(Some(first));
        }
    }

    /// The next events of what was read, up to a page of them.
    fn give(&mut self) -> Option<Vec<Arc<LogEvent>>> {
        let mut bytes = 0;
        let fitting = self.held.events.as_slice().iter().take(PAGE_EVENTS_MAX).take_while(|event| {
            bytes += event.stored().size_bytes();
            bytes <= PAGE_BYTES_MAX
        });
        let count = fitting.count().max(1);
        let events: Vec<_> = if count >= self.held.events.len() {
            // An iterator that is used up would still hold the memory of what it had.
            std::mem::take(&mut self.held.events).collect()
        } else {
            self.held.events.by_ref().take(count).collect()
        };
        let last = events.last()?.stored().position;
        let is_all = self.held.events.as_slice().is_empty();
        let reached = if is_all { self.held.reached } else { Some(last) };
        self.registration.note_progress(reached, self.held.is_from_store && reached < Some(self.query.through));
        Some(events)
    }

    /// Has what was read and not given read again if events were deleted meanwhile, and says so: some of it may be gone. Less
    /// at once, so that it can be given before more is deleted.
    fn forget_if_deleted(&mut self) -> bool {
        let Some(next) = self.held.events.as_slice().first() else { return false };
        if self.held.epoch == self.log.epoch() {
            return false;
        }
        self.query.after = next.stored().position.previous();
        self.held.events = Vec::new().into_iter();
        self.ahead = None;
        self.query.limit = (self.query.limit / 2).clamp(1, PAGE_EVENTS_MAX);
        self.query.bytes_max = PAGE_BYTES_MAX;
        (self.store_pages, self.stretches) = (0, None);
        true
    }

    async fn read_page(&mut self, through: Position) -> Result<(), ReadError> {
        self.query.through = through;
        let (page, epoch) = self.next_page().await;
        let LogPage { mut events, reached, is_from_store } = page?;
        self.query.after = Some(reached);
        let is_on_store = is_from_store && reached < through;
        self.grow(events.len(), is_on_store);
        if is_on_store && !events.is_empty() {
            self.read_ahead();
        }
        if let Some(not_before) = self.not_before {
            let early = events.iter().take_while(|event| event.stored().recorded_or_happened() < not_before).count();
            events.drain(..early);
            if !events.is_empty() {
                self.not_before = None;
            }
        }
        if events.is_empty() {
            self.registration.note_progress(Some(reached), is_on_store);
        }
        self.held = Held { events: events.into_iter(), reached: Some(reached), is_from_store, epoch };
        Ok(())
    }

    /// Has more read at once, for a reader that has taken `events` and finds more in the store if `is_on_store`.
    fn grow(&mut self, events: usize, is_on_store: bool) {
        let is_live = self.phase == Phase::Live;
        if events >= self.query.limit {
            let limit_max = if is_live { self.live_page_events.min(PAGE_EVENTS_MAX) } else { PAGE_EVENTS_MAX };
            self.query.limit = (self.query.limit * 2).min(limit_max);
        }
        if is_live {
            return;
        }
        self.store_pages += usize::from(is_on_store);
        if is_on_store && self.store_pages >= STRETCH_AFTER_PAGES && self.stretches.is_none() {
            self.stretches = self.log.allow_stretches();
        }
        if self.stretches.is_some() {
            (self.query.limit, self.query.bytes_max) = STRETCH;
        }
    }

    /// The page that `query` selects, perhaps read already, and the log's epoch before it was read.
    async fn next_page(&mut self) -> (Result<LogPage, ReadError>, u64) {
        let epoch = self.log.epoch();
        match self.ahead.take().filter(|ahead| ahead.query == self.query && ahead.epoch == epoch) {
            Some(ahead) => (ahead.page.await.unwrap_or_else(|fault| Err(ReadError::Unavailable(fault.into()))), epoch),
            None => (self.log.read(&self.query).await, epoch),
        }
    }

    /// Begins to read the next page, so that store and reader work at the same time.
    fn read_ahead(&mut self) {
        let (log, query, epoch) = (Arc::clone(&self.log), self.query.clone(), self.log.epoch());
        let page = tokio::spawn(async move { log.read(&query).await });
        self.ahead = Some(Box::new(Ahead { query: self.query.clone(), epoch, page: AbortOnDropHandle::new(page) }));
    }

    /// Reads the last events of the next subjects; `None` when there are no more of them.
    async fn look_for_latest(&mut self, after: Option<Subject>) -> Result<Option<SubscriptionItem>, ReadError> {
        let mut after = after;
        while let Some(through) = self.through {
            let query = LatestQuery {
                filter: self.query.filter.clone(),
                after,
                through,
                limit: self.query.limit,
                bytes_max: PAGE_BYTES_MAX,
            };
            let LatestPage { events, reached } = self.log.repository().latest(query).await?;
            let events: Vec<_> = events.into_iter().map(|event| Arc::new(LogEvent::alone(event))).collect();
            self.query.limit = (self.query.limit * 2).min(PAGE_EVENTS_MAX);
            if let Some(subject) = &reached {
                self.phase = Phase::Latest(Some(subject.clone()));
            } else {
                self.phase = Phase::CatchUp;
                self.query.after = self.through.max(self.query.after);
            }
            if !events.is_empty() {
                return Ok(Some(SubscriptionItem::Latest(events)));
            }
            if reached.is_none() {
                return Ok(None);
            }
            if self.heartbeat.is_due() {
                return Ok(Some(self.sign_of_life()));
            }
            after = reached;
        }
        self.phase = Phase::CatchUp;
        Ok(None)
    }

    /// The place after which a reader may resume that has been sent everything it was told of.
    fn pass_the_rest(&mut self) -> Option<Position> {
        // In this order: a match up to there was announced before, and would be seen.
        let announced = self.log.announced();
        if !self.registration.is_announced() && self.query.after >= self.through && self.not_before.is_none() {
            self.query.after = self.query.after.max(announced);
            self.through = self.through.max(announced);
            self.registration.note_progress(self.query.after, false);
        }
        self.query.after
    }
}

#[cfg(test)]
mod tests;
