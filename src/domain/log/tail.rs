//! The newest part of the log, in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::event::StoredEvent;
use crate::domain::log::log_event::LogEvent;
use crate::domain::position::Position;
use crate::ports::event_repository::{Order, ReadQuery};

/// Events looked at in one read: what holds the lock, and about what a look by the store's index costs.
const LOOK_EVENTS_MAX: usize = 4_096;

/// With fewer matches than one in so many, the store's index is the shorter way to the next ones.
const DENSE_ONE_IN: usize = 16;

/// Every event above `after` and up to `through` that was not deleted.
#[derive(Debug)]
pub(super) struct Tail {
    events: VecDeque<Arc<LogEvent>>,
    after: Option<Position>,
    through: Option<Position>,
    /// Raised whenever the tail forgets what it holds: what was read before must not be put in afterwards.
    epoch: u64,
    bytes_max: usize,
    /// Bytes of events and encodings, those that readers still hold included.
    held: Arc<AtomicUsize>,
}

/// What a read found.
#[derive(Debug)]
pub(super) struct TailPage {
    pub(super) events: Vec<Arc<LogEvent>>,
    /// As [`crate::ports::event_repository::Page::reached`].
    pub(super) reached: Position,
}

impl Tail {
    /// An empty tail of at most `bytes_max` bytes at the beginning of the log.
    pub(super) fn new(bytes_max: usize) -> Self {
        let held = Arc::new(AtomicUsize::new(0));
        Self { events: VecDeque::new(), after: None, through: None, epoch: 0, bytes_max, held }
    }

    /// The place up to which it holds the log.
    pub(super) fn through(&self) -> Option<Position> {
        self.through
    }

    /// What [`Tail::push`] wants to know.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Events held, and the bytes of all that is in memory.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.events.len(), self.held.load(Ordering::Relaxed))
    }

    /// What it may hold.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Goes on above `head`, as if nothing had been before; returns where it ended until now.
    pub(super) fn begin_anew(&mut self, head: Position) -> Option<Position> {
        let before = self.through;
        self.through = before.max(Some(head));
        self.forget();
        before
    }

    /// Forgets all events: some of them may be deleted.
    pub(super) fn forget(&mut self) {
        self.events.clear();
        self.after = self.through;
        self.epoch += 1;
    }

    /// Puts in `events`, all there are between the end of the tail and `through`, read in `epoch`; returns them as they
    /// are held now, or nothing when the tail has forgotten since.
    pub(super) fn push(
        &mut self,
        events: Vec<StoredEvent>,
        through: Position,
        epoch: u64,
    ) -> Option<Vec<Arc<LogEvent>>> {
        if epoch != self.epoch || Some(through) <= self.through {
            return None;
        }
        debug_assert!(events.first().is_none_or(|event| Some(event.position) > self.through));
        let events: Vec<_> = events.into_iter().map(|event| Arc::new(LogEvent::shared(event, &self.held))).collect();
        self.events.extend(events.iter().cloned());
        self.through = Some(through);
        while self.held.load(Ordering::Relaxed) > self.bytes_max {
            // The callers' copies keep the newest ones alive, so the count falls with the older ones only.
            let Some(oldest) = self.events.pop_front() else { break };
            self.after = Some(oldest.stored().position);
        }
        Some(events)
    }

    /// A page of what `query` selects; `None` when it begins outside of the tail, or when the store finds the next match
    /// sooner.
    pub(super) fn read(&self, query: &ReadQuery) -> Option<TailPage> {
        match query.order {
            Order::Ascending if query.after >= self.after && query.after < self.through => {
                let through = self.through.map_or(query.through, |through| through.min(query.through));
                let start = self.events.partition_point(|event| Some(event.stored().position) <= query.after);
                let end = self.events.partition_point(|event| event.stored().position <= through);
                collect(query, self.events.range(start..end.max(start)), through)
            }
            Order::Descending if Some(query.through) > self.after && Some(query.through) <= self.through => {
                let after = query.after.max(self.after);
                let start = self.events.partition_point(|event| Some(event.stored().position) <= after);
                let end = self.events.partition_point(|event| event.stored().position <= query.through);
                let lowest = after.map_or(Some(Position::FIRST), Position::next).unwrap_or(query.through);
                collect(query, self.events.range(start..end.max(start)).rev(), lowest)
            }
            Order::Ascending | Order::Descending => None,
        }
    }
}

/// The first matches of `query` among `events`, which end at `end`.
fn collect<'a>(
    query: &ReadQuery,
    events: impl ExactSizeIterator<Item = &'a Arc<LogEvent>>,
    end: Position,
) -> Option<TailPage> {
    let is_cut = events.len() > LOOK_EVENTS_MAX;
    let mut page = TailPage { events: Vec::new(), reached: end };
    let (mut bytes, mut looked) = (0_usize, query.through);
    for event in events.take(LOOK_EVENTS_MAX) {
        looked = event.stored().position;
        if !query.filter.matches(event.stored()) {
            continue;
        }
        bytes = bytes.saturating_add(event.stored().size_bytes());
        if let Some(last) = page.events.last()
            && (page.events.len() >= query.limit || bytes > query.bytes_max)
        {
            page.reached = last.stored().position;
            return Some(page);
        }
        page.events.push(Arc::clone(event));
    }
    if is_cut {
        if page.events.len() * DENSE_ONE_IN < LOOK_EVENTS_MAX && page.events.len() < query.limit {
            return None;
        }
        page.reached = looked;
    }
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attribute::Subject;
    use crate::domain::filter::{Filter, SubjectFilter};
    use crate::domain::log::testing::{position, stored};

    fn tail(bytes_max: usize, from: i64, through: i64) -> Tail {
        let mut tail = Tail::new(bytes_max);
        if let Some(before) = position(from).previous() {
            tail.begin_anew(before);
        }
        let events = (from..=through).map(|at| stored(at, if at % 2 == 0 { "even" } else { "odd" })).collect();
        tail.push(events, position(through), tail.epoch()).unwrap();
        tail
    }

    fn query(after: i64, through: i64, order: Order) -> ReadQuery {
        ReadQuery {
            filter: Filter::default(),
            after: Position::new(after).ok(),
            through: position(through),
            order,
            limit: 1_000,
            bytes_max: usize::MAX,
        }
    }

    fn of(subject: &str, query: &ReadQuery) -> ReadQuery {
        let subjects = SubjectFilter::exact(vec![Subject::from_stored(subject.to_owned())]);
        ReadQuery { filter: Filter { subjects, ..Filter::default() }, ..query.clone() }
    }

    fn read(tail: &Tail, query: &ReadQuery) -> Option<(Vec<i64>, i64)> {
        let page = tail.read(query)?;
        Some((page.events.iter().map(|event| event.stored().position.get()).collect(), page.reached.get()))
    }

    #[test]
    fn reads_begin_within_the_tail_in_either_order() {
        let tail = tail(usize::MAX, 5, 9);
        let ascending = |after, through| read(&tail, &query(after, through, Order::Ascending));
        assert_eq!(ascending(3, 9), None);
        assert_eq!(ascending(4, 9), Some((vec![5, 6, 7, 8, 9], 9)));
        assert_eq!(ascending(7, 8), Some((vec![8], 8)));
        assert_eq!(ascending(7, 12), Some((vec![8, 9], 9)));
        assert_eq!(ascending(9, 12), None);
        let descending = |after, through| read(&tail, &query(after, through, Order::Descending));
        assert_eq!(descending(0, 9), Some((vec![9, 8, 7, 6, 5], 5)));
        assert_eq!(descending(6, 8), Some((vec![8, 7], 7)));
        assert_eq!(descending(0, 4), None);
        assert_eq!(descending(0, 10), None);
    }

    #[test]
    fn pages_are_bounded_by_events_and_bytes() {
        let tail = tail(usize::MAX, 1, 9);
        let event_bytes = stored(1, "odd").size_bytes();
        for (order, first, second) in [(Order::Ascending, 1, 3), (Order::Descending, 9, 7)] {
            let of_odd = of("odd", &query(0, 9, order));
            let two = ReadQuery { limit: 2, ..of_odd.clone() };
            assert_eq!(read(&tail, &two), Some((vec![first, second], second)));
            let bytes = ReadQuery { bytes_max: 2 * event_bytes, ..of_odd.clone() };
            assert_eq!(read(&tail, &bytes), Some((vec![first, second], second)));
            let less = ReadQuery { bytes_max: 1, ..of_odd };
            assert_eq!(read(&tail, &less), Some((vec![first], first)));
        }
        assert_eq!(read(&tail, &of("none", &query(0, 9, Order::Ascending))), Some((vec![], 9)));
        assert_eq!(read(&tail, &of("none", &query(0, 9, Order::Descending))), Some((vec![], 1)));
    }

    #[test]
    fn long_search_for_few_matches_is_left_to_the_store() {
        let many = i64::try_from(LOOK_EVENTS_MAX).unwrap();
        let tail = tail(usize::MAX, 1, many + 1);
        for order in [Order::Ascending, Order::Descending] {
            assert_eq!(read(&tail, &of("none", &query(0, many + 1, order))), None);
            assert!(read(&tail, &of("none", &query(1, many + 1, order))).unwrap().0.is_empty());
            let dense = ReadQuery { limit: 10_000, ..of("odd", &query(0, many + 1, order)) };
            assert_eq!(read(&tail, &dense).unwrap().0.len(), LOOK_EVENTS_MAX / 2);
        }
        let dense = ReadQuery { limit: 10_000, ..of("odd", &query(0, many + 1, Order::Ascending)) };
        assert_eq!(read(&tail, &dense).unwrap().1, many);
        let dense = ReadQuery { order: Order::Descending, ..dense };
        assert_eq!(read(&tail, &dense).unwrap().1, 2);
    }

    #[test]
    fn oldest_events_make_room() {
        let (_, one) = tail(usize::MAX, 1, 1).size();
        let mut tail = tail(3 * one + one / 2, 1, 3);
        assert_eq!(tail.size().0, 3);
        tail.push(vec![stored(4, "even"), stored(6, "even")], position(6), tail.epoch()).unwrap();
        assert_eq!(read(&tail, &query(1, 6, Order::Ascending)), None);
        assert_eq!(read(&tail, &query(2, 6, Order::Ascending)), Some((vec![3, 4, 6], 6)));
    }

    #[test]
    fn what_was_read_before_forgetting_is_not_put_in() {
        let mut tail = tail(usize::MAX, 1, 3);
        tail.forget();
        assert_eq!(tail.size(), (0, 0));
        assert!(tail.push(vec![stored(4, "even")], position(4), 0).is_none());
        assert!(tail.push(vec![stored(4, "even")], position(4), tail.epoch()).is_some());
        assert_eq!(read(&tail, &query(2, 4, Order::Ascending)), None);
        assert_eq!(read(&tail, &query(3, 4, Order::Ascending)), Some((vec![4], 4)));
        assert!(tail.push(vec![stored(4, "even")], position(4), tail.epoch()).is_none());
    }
}
