//! The log as everybody reads it: its newest part from memory, what is older from the store.
//!
//! One task, `Log::follow`, keeps the memory up to date and announces what comes, in order; everybody else only reads.

mod feed;
mod log_event;
mod readers;
mod tail;
mod tailer;
#[cfg(test)]
pub(in crate::domain) mod testing;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{EventRepository, Page, ReadError, ReadQuery};

use feed::Feed;
pub(in crate::domain) use feed::FreshEvents;
pub use log_event::{LogEvent, WireFormat};
use readers::Readers;
pub(in crate::domain) use readers::Registration;
pub use readers::{Protocol, ProtocolReaders, ReadersReport};
use tail::{Tail, TailPage};
pub use tailer::Cause;
use tailer::Causes;

/// Readers that may read stretches of the store at once: each of them holds up to two, of 4 MiB.
const STRETCHES_MAX: usize = 4;

/// What was read at once.
#[derive(Debug, Clone)]
pub(in crate::domain) struct LogPage {
    /// Matching events in the order of the query.
    pub(in crate::domain) events: Vec<Arc<LogEvent>>,
    /// As [`Page::reached`].
    pub(in crate::domain) reached: Position,
    /// Whether the store had to be asked.
    pub(in crate::domain) is_from_store: bool,
}

/// The log at one moment, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogReport {
    /// The last position that is known to be committed.
    pub head: Option<Position>,
    /// Every match up to here was announced to its readers.
    pub announced: Option<Position>,
    /// Who reads.
    pub readers: ReadersReport,
    /// Events in memory.
    pub tail_events: u64,
    /// Bytes of these and of what they are encoded to, with what readers still hold.
    pub tail_bytes: u64,
    /// Pages and events read from memory since the start.
    pub tail_hits: u64,
    /// Pages and events that the store was asked for since the start.
    pub tail_misses: u64,
    /// How long the newest event was stored before its readers were told.
    pub delay: Duration,
    /// How often the tailer was woken since the start, by cause, in the order of [`Cause::ALL`].
    pub wakes: [u64; 4],
}

/// The log: the store, with its newest part in memory in front.
pub(in crate::domain) struct Log {
    repository: Arc<dyn EventRepository>,
    tail: RwLock<Tail>,
    readers: Arc<Readers>,
    stretches: Arc<Semaphore>,
    /// The newest state of the log that is known to be committed.
    known: watch::Sender<LogState>,
    /// Every match up to here was announced; 0 is before the first event.
    announced: AtomicI64,
    /// What this process has appended and the tail has not taken yet.
    feed: Feed,
    hits: AtomicU64,
    misses: AtomicU64,
    delay_micros: AtomicU64,
    causes: Causes,
    last_look: tokio::sync::Mutex<Option<Look>>,
}

/// A look at the state of the log.
struct Look {
    began: Instant,
    /// Why the store did not answer.
    failure: Option<String>,
}

impl Log {
    /// The log in `repository`, with at most `tail_bytes_max` of it in memory: nothing yet.
    pub(in crate::domain) fn new(repository: Arc<dyn EventRepository>, tail_bytes_max: usize) -> Self {
        Self {
            repository,
            tail: RwLock::new(Tail::new(tail_bytes_max)),
            readers: Arc::default(),
            stretches: Arc::new(Semaphore::new(STRETCHES_MAX)),
            known: watch::Sender::new(LogState::default()),
            announced: AtomicI64::new(0),
            feed: Feed::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            delay_micros: AtomicU64::new(0),
            causes: Causes::default(),
            last_look: tokio::sync::Mutex::new(None),
        }
    }

    /// The store below.
    pub(in crate::domain) fn repository(&self) -> &Arc<dyn EventRepository> {
        &self.repository
    }

    /// The newest state that is known.
    pub(in crate::domain) fn known(&self) -> LogState {
        *self.known.borrow()
    }

    /// Asks the store how far the log has come, which is also the proof that it answers. Many who ask at once share an
    /// answer, which is never older than the question.
    pub(in crate::domain) async fn refresh(&self) -> Result<LogState, ReadError> {
        let asked = Instant::now();
        let mut last = self.last_look.lock().await;
        if last.as_ref().is_none_or(|look| look.began < asked) {
            let began = Instant::now();
            let answer = self.repository.state().await;
            let failure = answer.as_ref().err().map(ToString::to_string);
            *last = Some(Look { began, failure });
            if self.note(answer?) {
                self.feed.tell(true);
            }
        } else if let Some(Look { failure: Some(failure), .. }) = last.as_ref() {
            return Err(ReadError::Unavailable(failure.clone().into()));
        }
        Ok(self.known())
    }

    /// Waits until the log reaches `position`, looking into the store now and then; says whether it does within
    /// `patience`.
    pub(in crate::domain) async fn reaches(&self, position: Position, patience: Duration) -> Result<bool, ReadError> {
        /// How often a replica that is behind, or an append to come, is looked for.
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + patience;
        let mut known = self.known.subscribe();
        while self.known().head < Some(position) && self.refresh().await?.head < Some(position) {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let comes = async { known.wait_for(|state| state.head >= Some(position)).await.is_ok() };
            let _looked_for_again = tokio::time::timeout(LOOK_EVERY, comes).await;
        }
        Ok(true)
    }

    /// Takes note of a state that the store has told, or that follows from a commit; says whether it was news. What was
    /// deleted by then is read from memory no more.
    fn note(&self, state: LogState) -> bool {
        if state.deletions > self.known().deletions {
            self.tail_mut().forget();
        }
        self.known.send_if_modified(|known| {
            let newer = LogState { head: known.head.max(state.head), deletions: known.deletions.max(state.deletions) };
            std::mem::replace(known, newer) != newer
        })
    }

    /// Takes note that events were deleted by this process: none of them is read from memory any more.
    pub(in crate::domain) fn note_deletion(&self) {
        self.tail_mut().forget();
    }

    /// Which of the deletions the memory knows of: to be asked before an append whose events are handed to
    /// [`Log::feed`] afterwards.
    pub(in crate::domain) fn epoch(&self) -> u64 {
        self.tail().epoch()
    }

    /// Takes in what this process has just appended; `None` when only the store knows exactly. `head` is its last position.
    pub(in crate::domain) fn feed(&self, fresh: Option<FreshEvents>, head: Position) {
        if let Some(fresh) = fresh {
            self.feed.put(fresh);
        }
        self.note(LogState { head: Some(head), deletions: 0 });
        self.feed.tell(false);
    }

    /// A page of what `query` selects, as [`EventRepository::read`] promises.
    pub(in crate::domain) async fn read(&self, query: &ReadQuery) -> Result<LogPage, ReadError> {
        let held = self.tail().read(query);
        self.count(held.is_some());
        if let Some(TailPage { events, reached }) = held {
            return Ok(LogPage { events, reached, is_from_store: false });
        }
        let Page { events, reached } = self.repository.read(query.clone()).await?;
        let events = events.into_iter().map(|event| Arc::new(LogEvent::alone(event))).collect();
        Ok(LogPage { events, reached, is_from_store: true })
    }

    /// Allows a reader to read more than a page of the store at once, unless enough others do.
    pub(in crate::domain) fn allow_stretches(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.stretches).try_acquire_owned().ok()
    }

    /// The place up to which events are in memory: no match above it is missed by who is registered before asking.
    pub(in crate::domain) fn tail_through(&self) -> Option<Position> {
        self.tail().through()
    }

    /// Every match up to here was announced.
    pub(in crate::domain) fn announced(&self) -> Option<Position> {
        Position::new(self.announced.load(Ordering::Acquire)).ok()
    }

    /// Has a reader told of every match of `filter` from now on; `end` ends it.
    pub(in crate::domain) fn register(
        &self,
        filter: Filter,
        protocol: Protocol,
        end: CancellationToken,
    ) -> Registration {
        self.readers.register(filter, protocol, end)
    }

    /// Ends the readers that have not taken what they were given for `patience`; returns where each of them stood.
    pub(in crate::domain) fn end_slow(&self, patience: Duration) -> Vec<(Protocol, Option<Position>)> {
        self.readers.end_slow(patience)
    }

    /// The log at this moment.
    pub(in crate::domain) fn report(&self) -> LogReport {
        let (events, bytes) = self.tail().size();
        LogReport {
            head: self.known().head,
            announced: self.announced(),
            readers: self.readers.report(self.tail_through()),
            tail_events: events as u64,
            tail_bytes: bytes as u64,
            tail_hits: self.hits.load(Ordering::Relaxed),
            tail_misses: self.misses.load(Ordering::Relaxed),
            delay: Duration::from_micros(self.delay_micros.load(Ordering::Relaxed)),
            wakes: self.causes.counts(),
        }
    }

    fn note_delay(&self, recorded: Timestamp) {
        let micros = Timestamp::now().unix_micros().saturating_sub(recorded.unix_micros());
        self.delay_micros.store(u64::try_from(micros).unwrap_or(0), Ordering::Relaxed);
    }

    fn count(&self, is_hit: bool) {
        let counter = if is_hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing under the lock can fail half-way, so what a panic left behind is whole.
    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }
}
