//! Who reads, and who is woken by which event.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::log::log_event::LogEvent;
use crate::domain::position::Position;

/// What a reader speaks, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Server-sent events.
    Sse,
    /// gRPC.
    Grpc,
    /// gRPC-web.
    GrpcWeb,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sse, Self::Grpc, Self::GrpcWeb];
}

/// The open readers of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProtocolReaders {
    /// How many are open.
    pub open: u64,
    /// Events that readers of this protocol have been given since the start.
    pub delivered: u64,
    /// Readers that were ended since the start because they took nothing.
    pub ended_slow: u64,
}

/// All readers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadersReport {
    /// By protocol, in the order of [`Protocol::ALL`].
    pub by_protocol: [ProtocolReaders; 3],
    /// Readers whose last look was served from memory, or who wait for what comes.
    pub on_tail: u64,
    /// Readers whose last look went to the store.
    pub on_store: u64,
    /// How many events of the log the slowest reader has yet to pass.
    pub slowest_lag_events: u64,
    /// Readers woken since the start.
    pub wakes: u64,
}

/// All readers, found by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Readers {
    index: Mutex<Index>,
    delivered: [AtomicU64; 3],
    ended_slow: [AtomicU64; 3],
    wakes: AtomicU64,
}

/// Readers who wait for the same.
#[derive(Debug, Default)]
struct Group {
    readers: Vec<Arc<Reader>>,
    /// How many of them want some types or sources only.
    choosy: usize,
    /// The announcement in which they were told last.
    announcement: u64,
}

#[derive(Debug, Default)]
struct Index {
    /// Of every subject, by type; `None` is every type.
    all: HashMap<Option<EventType>, Group>,
    exact: HashMap<Subject, Group>,
    prefixes: HashMap<String, Group>,
    /// How many prefixes have this many bytes: a subject is looked up once for each length.
    prefix_bytes: BTreeMap<usize, usize>,
    open: usize,
    /// How many announcements there have been.
    announcements: u64,
}

/// One reader as others see it.
#[derive(Debug)]
pub(super) struct Reader {
    filter: Filter,
    protocol: Protocol,
    /// The lowest match that it has not been told of; 0 for none.
    pending: AtomicI64,
    waker: AtomicWaker,
    /// How far it has come; 0 is before the first event.
    last: AtomicI64,
    is_on_store: AtomicBool,
    /// When it was given something that it has not taken yet, in milliseconds since `opened`; 0 when it waits for us.
    given: AtomicU64,
    opened: Instant,
    /// Ends it.
    end: CancellationToken,
}

/// A reader's entry; dropping it takes the reader out.
#[derive(Debug)]
pub(in crate::domain) struct Registration {
    readers: Arc<Readers>,
    reader: Arc<Reader>,
}

impl Readers {
    /// Tells the new reader of every match that is announced from now on; `end` ends it.
    pub(super) fn register(
        self: &Arc<Self>,
        filter: Filter,
        protocol: Protocol,
        end: CancellationToken,
    ) -> Registration {
        let reader = Arc::new(Reader {
            filter,
            protocol,
            pending: AtomicI64::new(0),
            waker: AtomicWaker::new(),
            last: AtomicI64::new(0),
            is_on_store: AtomicBool::new(false),
            given: AtomicU64::new(0),
            opened: Instant::now(),
            end,
        });
        self.index().insert(&reader);
        Registration { readers: Arc::clone(self), reader }
    }

    /// Wakes who waits for one of `events`, all of which can be read by now. To be called in the order of the log.
    pub(super) fn announce(&self, events: &[Arc<LogEvent>]) {
        let mut index = self.index();
        if index.open == 0 {
            return;
        }
        index.announcements += 1;
        let wakes = events.iter().map(|event| index.announce(event.stored())).sum();
        drop(index);
        self.wakes.fetch_add(wakes, Ordering::Relaxed);
    }

    /// Wakes everybody: there may be matches from `position` on that are not announced one by one.
    pub(super) fn announce_to_all(&self, position: Position) {
        let mut wakes = 0;
        self.index().each(|reader| wakes += u64::from(reader.announce(position)));
        self.wakes.fetch_add(wakes, Ordering::Relaxed);
    }

    /// Ends every reader that has not taken what it was given for `patience`; returns where each of them stood.
    pub(super) fn end_slow(&self, patience: Duration) -> Vec<(Protocol, Option<Position>)> {
        let mut ended = Vec::new();
        self.index().each(|reader| {
            let given = reader.given.load(Ordering::Relaxed);
            let is_slow = given > 0 && reader.opened.elapsed() >= Duration::from_millis(given) + patience;
            if is_slow && !reader.end.is_cancelled() {
                reader.end.cancel();
                self.ended_slow[reader.protocol as usize].fetch_add(1, Ordering::Relaxed);
                ended.push((reader.protocol, Position::new(reader.last.load(Ordering::Relaxed)).ok()));
            }
        });
        ended
    }

    /// How the readers stand to the log, which reaches `through`.
    pub(super) fn report(&self, through: Option<Position>) -> ReadersReport {
        let through = through.map_or(0, Position::get);
        let mut report = ReadersReport { wakes: self.wakes.load(Ordering::Relaxed), ..ReadersReport::default() };
        for (protocol, counts) in report.by_protocol.iter_mut().enumerate() {
            counts.delivered = self.delivered[protocol].load(Ordering::Relaxed);
            counts.ended_slow = self.ended_slow[protocol].load(Ordering::Relaxed);
        }
        self.index().each(|reader| {
            report.by_protocol[reader.protocol as usize].open += 1;
            let is_on_store = reader.is_on_store.load(Ordering::Relaxed);
            report.on_store += u64::from(is_on_store);
            report.on_tail += u64::from(!is_on_store);
            // Who has been told of nothing has nothing to pass.
            let waits = reader.pending.load(Ordering::Relaxed) == 0 && !is_on_store && !reader.has_been_given();
            if !waits {
                let lag = through.saturating_sub(reader.last.load(Ordering::Relaxed));
                report.slowest_lag_events = report.slowest_lag_events.max(u64::try_from(lag).unwrap_or(0));
            }
        });
        report
    }

    /// Nothing under the lock can fail half-way, so what a panic left behind is whole.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Whether it had to be woken.
    fn announce(&self, position: Position) -> bool {
        // Positions are announced in their order, so the first one is the lowest.
        let is_first = self.pending.compare_exchange(0, position.get(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if is_first {
            self.waker.wake();
        }
        is_first
    }

    fn has_been_given(&self) -> bool {
        self.given.load(Ordering::Relaxed) > 0
    }
}

impl Registration {
    /// The lowest match that was announced since the last time, if any. Matches announced later are told later.
    pub(in crate::domain) fn take_announced(&self) -> Option<Position> {
        Position::new(self.reader.pending.swap(0, Ordering::AcqRel)).ok()
    }

    /// Whether a match was announced since the last time.
    pub(in crate::domain) fn is_announced(&self) -> bool {
        self.reader.pending.load(Ordering::Acquire) != 0
    }

    /// Waits until a match is announced.
    pub(in crate::domain) async fn announced(&self) {
        poll_fn(|context| {
            self.reader.waker.register(context.waker());
            if self.is_announced() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Notes how far the reader has come, and whether the store had to be asked for that.
    pub(in crate::domain) fn note_progress(&self, last: Option<Position>, is_on_store: bool) {
        self.reader.last.store(last.map_or(0, Position::get), Ordering::Relaxed);
        self.reader.is_on_store.store(is_on_store, Ordering::Relaxed);
    }

    /// Notes that the reader was given `events` events, or something else, and has to take it.
    pub(in crate::domain) fn note_given(&self, events: usize) {
        let reader = &self.reader;
        let millis = u64::try_from(reader.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        reader.given.store(millis.max(1), Ordering::Relaxed);
        self.readers.delivered[reader.protocol as usize].fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Notes that the reader has taken what it was given.
    pub(in crate::domain) fn note_taken(&self) {
        self.reader.given.store(0, Ordering::Relaxed);
    }

    /// Ends the reader.
    pub(in crate::domain) fn end(&self) -> &CancellationToken {
        &self.reader.end
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.readers.index().remove(&self.reader);
    }
}

impl Index {
    fn insert(&mut self, reader: &Arc<Reader>) {
        self.open += 1;
        match &reader.filter.subjects {
            SubjectFilter::All => {
                for event_type in types(&reader.filter) {
                    self.all.entry(event_type).or_default().enter(reader);
                }
            }
            SubjectFilter::Exact(subjects) => {
                for subject in subjects {
                    self.exact.entry(subject.clone()).or_default().enter(reader);
                }
            }
            SubjectFilter::Prefix(prefixes) => {
                for prefix in prefixes {
                    let prefix = prefix.as_str();
                    self.prefixes.entry(prefix.to_owned()).or_default().enter(reader);
                    *self.prefix_bytes.entry(prefix.len()).or_default() += 1;
                }
            }
        }
    }

    fn remove(&mut self, reader: &Arc<Reader>) {
        self.open -= 1;
        match &reader.filter.subjects {
            SubjectFilter::All => {
                for event_type in types(&reader.filter) {
                    leave(&mut self.all, &event_type, reader);
                }
            }
            SubjectFilter::Exact(subjects) => {
                for subject in subjects {
                    leave(&mut self.exact, subject, reader);
                }
            }
            SubjectFilter::Prefix(prefixes) => {
                for prefix in prefixes {
                    let prefix = prefix.as_str();
                    leave(&mut self.prefixes, prefix, reader);
                    if let Some(count) = self.prefix_bytes.get_mut(&prefix.len()) {
                        *count -= 1;
                        if *count == 0 {
                            self.prefix_bytes.remove(&prefix.len());
                        }
                    }
                }
            }
        }
    }

    /// Tells who waits for `event`; returns how many had to be woken.
    fn announce(&mut self, event: &StoredEvent) -> u64 {
        let number = self.announcements;
        let mut wakes = 0;
        let mut tell = |group: Option<&mut Group>| {
            wakes += group.map_or(0, |group| group.announce(event, number));
        };
        let subject = event.subject.as_str();
        tell(self.exact.get_mut(&event.subject));
        for bytes in self.prefix_bytes.range(..=subject.len()).map(|(bytes, _)| *bytes) {
            tell(subject.get(..bytes).and_then(|prefix| self.prefixes.get_mut(prefix)));
        }
        if !self.all.is_empty() {
            tell(self.all.get_mut(&None));
            tell(self.all.get_mut(&Some(event.event_type.clone())));
        }
        wakes
    }

    /// Visits every reader once.
    fn each(&self, mut visit: impl FnMut(&Reader)) {
        for (event_type, group) in &self.all {
            for reader in &group.readers {
                if types(&reader.filter).next().as_ref() == Some(event_type) {
                    visit(reader);
                }
            }
        }
        for (subject, group) in &self.exact {
            for reader in &group.readers {
                if matches!(&reader.filter.subjects, SubjectFilter::Exact(all) if all.first() == Some(subject)) {
                    visit(reader);
                }
            }
        }
        for (prefix, group) in &self.prefixes {
            for reader in &group.readers {
                let first = match &reader.filter.subjects {
                    SubjectFilter::Prefix(all) => all.first().map(Subject::as_str),
                    SubjectFilter::All | SubjectFilter::Exact(_) => None,
                };
                if first == Some(prefix) {
                    visit(reader);
                }
            }
        }
    }
}

/// The types under which a reader of every subject is found.
fn types(filter: &Filter) -> impl Iterator<Item = Option<EventType>> {
    let every_type = filter.types.is_empty().then_some(None);
    every_type.into_iter().chain(filter.types.iter().cloned().map(Some))
}

fn leave<K, Q>(groups: &mut HashMap<K, Group>, key: &Q, reader: &Arc<Reader>)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
{
    let Some(group) = groups.get_mut(key) else { return };
    group.leave(reader);
    if group.readers.is_empty() {
        groups.remove(key);
    }
}

impl Group {
    fn enter(&mut self, reader: &Arc<Reader>) {
        self.choosy += usize::from(!reader.filter.is_by_subject_alone());
        self.readers.push(Arc::clone(reader));
    }

    fn leave(&mut self, reader: &Arc<Reader>) {
        if let Some(place) = self.readers.iter().position(|other| Arc::ptr_eq(other, reader)) {
            self.choosy -= usize::from(!reader.filter.is_by_subject_alone());
            self.readers.swap_remove(place);
        }
    }

    /// Tells the readers of `event`; returns how many had to be woken.
    fn announce(&mut self, event: &StoredEvent, announcement: u64) -> u64 {
        // Who was told of an earlier event of this announcement finds this one too.
        let was_told = std::mem::replace(&mut self.announcement, announcement) == announcement;
        if was_told && self.choosy == 0 {
            return 0;
        }
        let concerned = self.readers.iter().filter(|reader| reader.filter.matches_apart_from_subject(event));
        concerned.map(|reader| u64::from(reader.announce(event.position))).sum()
    }
}

#[cfg(test)]
mod tests;
