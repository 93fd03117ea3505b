//! An archive back into the log it was made of, or into an empty one: every event at its old position.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::domain::transfer::{ATTEMPTS, RETRY_WAIT, TransferError, Transferred};
use crate::ports::archive::{ArchiveReader, ArchivedEvent, Place};
use crate::ports::event_repository::{EventRepository, Order, ReadQuery, RestoreError};

/// Events in one transaction: their entries in the indexes come sorted, and the more the better.
const GROUP_EVENTS_MAX: usize = 32_768;

/// Bytes of events in one transaction.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events that are compared with the log at once.
const COMPARED_EVENTS: usize = 2_000;

/// Stores the events of `archive` at their positions. Those that the log has come past are compared with it: they must be
/// the same, or deleted since. So an import that was cut is simply begun again. `on_group` hears how far it has come;
/// `stop` ends it between two groups.
///
/// # Errors
/// As [`TransferError`] says.
pub async fn restore(
    repository: &dyn EventRepository,
    archive: &mut dyn ArchiveReader,
    mut on_group: impl FnMut(&Transferred),
    stop: &CancellationToken,
) -> Result<Transferred, TransferError> {
    let mut target = Target { repository, head: repository.state().await?.head, compared: None, deletions_seen: false };
    let mut done = Transferred::default();
    let mut order = InOrder::default();
    let mut group = Group::default();
    while !stop.is_cancelled() {
        // Whoever types the events may pause for long.
        let next = tokio::select! {
            next = archive.next() => next?,
            () = stop.cancelled() => break,
        };
        let is_last = next.is_none();
        for archived in next.into_iter().flatten() {
            let event = order.take(archived)?;
            group.bytes += event.stored.size_bytes();
            group.events.push(event);
        }
        if is_last || group.events.len() >= GROUP_EVENTS_MAX || group.bytes >= GROUP_BYTES_MAX {
            target.put(std::mem::take(&mut group).events, &mut done).await?;
            on_group(&done);
        }
        if is_last {
            done.is_complete = true;
            break;
        }
    }
    Ok(done)
}

/// An event that belongs somewhere.
struct Placed {
    place: Place,
    stored: StoredEvent,
    /// Whether it came with a time of its own.
    has_time: bool,
}

#[derive(Default)]
struct Group {
    events: Vec<Placed>,
    bytes: usize,
}

/// Sees to it that positions rise and recorded times do not fall.
#[derive(Default)]
struct InOrder {
    position: Option<Position>,
    recorded: Option<Timestamp>,
}

impl InOrder {
    fn take(&mut self, archived: ArchivedEvent) -> Result<Placed, TransferError> {
        let ArchivedEvent { place, position, recorded_time, event } = archived;
        let position = position.ok_or(TransferError::NoPosition { place })?;
        let falls = |what| TransferError::OutOfOrder { place, what };
        if Some(position) <= self.position {
            return Err(falls("the position"));
        }
        if recorded_time.is_some() && recorded_time < self.recorded {
            return Err(falls("the recorded time"));
        }
        self.position = Some(position);
        self.recorded = recorded_time.or(self.recorded);
        let has_time = event.time.is_some();
        let time = event.time.or(recorded_time).ok_or(TransferError::NoTime { place })?;
        let stored = StoredEvent { recorded_time, ..event.stored(position, time) };
        Ok(Placed { place, stored, has_time })
    }
}

/// The log that is filled.
struct Target<'a> {
    repository: &'a dyn EventRepository,
    head: Option<Position>,
    /// Up to where the log was compared with the archive.
    compared: Option<Position>,
    deletions_seen: bool,
}

impl Target<'_> {
    /// Puts `events` into the log, or finds them there.
    async fn put(&mut self, events: Vec<Placed>, done: &mut Transferred) -> Result<(), TransferError> {
        let mut left = events;
        for attempt in 1.. {
            let passed = left.partition_point(|event| Some(event.stored.position) <= self.head);
            let above = left.split_off(passed);
            for chunk in left.chunks(COMPARED_EVENTS) {
                self.compare(chunk, done).await?;
            }
            let Some(first) = above.first() else { return Ok(()) };
            let (place, last) = (first.place, above.last().map(|event| event.stored.position));
            let restored = self.repository.restore(above.iter().map(|event| event.stored.clone()).collect()).await;
            let cause = match restored {
                Ok(()) => {
                    done.written += above.len() as u64;
                    (self.head, self.compared, done.reached) = (last, last, last);
                    return Ok(());
                }
                Err(cause) => cause,
            };
            match cause {
                RestoreError::Passed { head } if self.head < Some(head) => self.head = Some(head),
                RestoreError::Unavailable(_) | RestoreError::OutcomeUnknown(_) if attempt < ATTEMPTS => {
                    tokio::time::sleep(RETRY_WAIT).await;
                    if let Ok(state) = self.repository.state().await {
                        self.head = state.head;
                    }
                }
                cause => return Err(TransferError::Restore { place, cause }),
            }
            left = above;
        }
        unreachable!("the last attempt returns")
    }

    /// Sees to it that the log has `events`, which it has come past, and no others between them.
    async fn compare(&mut self, events: &[Placed], done: &mut Transferred) -> Result<(), TransferError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let after = self.compared.or_else(|| first.stored.position.previous());
        let mut log = self.log_between(after, last.stored.position).await?;
        for Placed { place, stored, has_time } in events {
            let position = stored.position;
            match log.remove(&position) {
                None if self.has_deletions().await? => done.deleted += 1,
                None => return Err(TransferError::SteppedOver { place: *place, position }),
                Some(there) if is_same(&there, stored, *has_time) => done.present += 1,
                Some(_) => return Err(TransferError::OtherLog { place: *place, position }),
            }
        }
        if let Some((position, _)) = log.pop_first() {
            let next = events.iter().find(|event| event.stored.position > position).unwrap_or(last);
            return Err(TransferError::OtherLog { place: next.place, position });
        }
        (self.compared, done.reached) = (Some(last.stored.position), Some(last.stored.position));
        Ok(())
    }

    /// Whether anything was ever deleted from the log; it may have been just now.
    async fn has_deletions(&mut self) -> Result<bool, TransferError> {
        if !self.deletions_seen {
            self.deletions_seen = self.repository.state().await?.deletions > 0;
        }
        Ok(self.deletions_seen)
    }

    async fn log_between(
        &self,
        after: Option<Position>,
        through: Position,
    ) -> Result<BTreeMap<Position, StoredEvent>, TransferError> {
        let mut found = BTreeMap::new();
        let (limit, bytes_max) = (COMPARED_EVENTS, GROUP_BYTES_MAX);
        let query = ReadQuery { filter: Filter::default(), after, through, order: Order::Ascending, limit, bytes_max };
        let mut next = Some(query);
        while let Some(query) = next {
            let page = self.repository.read(query.clone()).await?;
            found.extend(page.events.into_iter().map(|event| (event.position, event)));
            next = query.rest(page.reached);
        }
        Ok(found)
    }
}

/// Whether `stored`, of the archive, is what the log has, in the same form or another.
fn is_same(there: &StoredEvent, stored: &StoredEvent, has_time: bool) -> bool {
    let mut event = stored.clone().into_new();
    event.time = event.time.filter(|_| has_time);
    there.id == stored.id && there.recorded_time == stored.recorded_time && there.has_content_of(&event)
}
