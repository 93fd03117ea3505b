//! The durable log of events.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::append::{AppendOutcome, AppendRequest};
use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// What went wrong below the port, for the log; never shown to clients.
pub type Fault = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a group of appends has no outcomes.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing is stored: the store does not take the content of at least one of the requests, and never will.
    #[error("the event store does not take an event")]
    Rejected(#[source] Fault),
    /// Nothing is stored; the same appends may be repeated.
    #[error("the event store is unavailable")]
    Unavailable(#[source] Fault),
    /// The events are stored, or they are not: the commit has no certain answer.
    #[error("the outcome of the append is unknown")]
    OutcomeUnknown(#[source] Fault),
}

/// Why a read did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached now; the same read may be repeated.
    #[error("the event store is unavailable")]
    Unavailable(#[source] Fault),
    /// The store answered with something that is no event.
    #[error("a stored event cannot be read")]
    Corrupt(#[source] Fault),
}

/// Why a deletion did not finish.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Perhaps a part of the events is deleted; the same deletion may be repeated.
    #[error("the event store is unavailable")]
    Unavailable(#[source] Fault),
}

/// Why events were not put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing is stored: the log has come to the place of the first event, or farther.
    #[error("the log has come to position {head} already")]
    Passed {
        /// How far the log has come.
        head: Position,
    },
    /// Nothing is stored: the log has events that were recorded later.
    #[error("the log has events that were recorded later")]
    Earlier,
    /// Nothing is stored: the source and id of an event are stored already.
    #[error("the source and id of an event are stored already")]
    Duplicate(#[source] Fault),
    /// Nothing is stored: the store does not take the content of an event, and never will.
    #[error("the event store does not take an event")]
    Rejected(#[source] Fault),
    /// Nothing is stored; the same events may be put back later.
    #[error("the event store is unavailable")]
    Unavailable(#[source] Fault),
    /// All events are stored, or none is: [`EventRepository::state`] tells.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Fault),
}

/// What became of a group of appends that the store took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAppended {
    /// One outcome per request, in their order.
    pub outcomes: Vec<AppendOutcome>,
    /// When the new events were recorded, all of them at once; `None` when there are none, and when the store only
    /// knows that they are stored.
    pub recorded: Option<Timestamp>,
}

/// From which end a read goes through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Positions rise.
    #[default]
    Ascending,
    /// Positions fall.
    Descending,
}

/// A bounded look at the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadQuery {
    /// Which events.
    pub filter: Filter,
    /// Only events above this place; from the first one when `None`.
    pub after: Option<Position>,
    /// Only events up to this place: a head that was seen before.
    pub through: Position,
    /// From which end.
    pub order: Order,
    /// How many events at the most, at least 1.
    pub limit: usize,
    /// How many bytes ([`StoredEvent::size_bytes`]) at the most. A first event larger than this is returned alone.
    pub bytes_max: usize,
}

/// The answer to a [`ReadQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Matching events in the order of the query; possibly fewer than wanted, even none.
    pub events: Vec<StoredEvent>,
    /// How far the look went, never short of the last event. Ascending, every match above `after` and up to here is in
    /// `events`, and once it is the query's `through`, nothing is left. Descending, every match from here up to
    /// `through`, and nothing is left once the place just below is `after`.
    pub reached: Position,
}

/// A bounded look at the last event of each subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestQuery {
    /// Which events; of each subject the last one of these counts.
    pub filter: Filter,
    /// Only subjects above this one, by bytes; from the first one when `None`.
    pub after: Option<Subject>,
    /// Only events up to this place: a head that was seen before.
    pub through: Position,
    /// How many events at the most, at least 1.
    pub limit: usize,
    /// How many bytes ([`StoredEvent::size_bytes`]) at the most. A first event larger than this is returned alone.
    pub bytes_max: usize,
}

/// The answer to a [`LatestQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestPage {
    /// One event per subject, subjects ascending by bytes; possibly fewer than wanted, even none.
    pub events: Vec<StoredEvent>,
    /// The subject to go on after; `None` when nothing is left.
    pub reached: Option<Subject>,
}

impl ReadQuery {
    /// The rest of the query once `reached` was looked at; `None` when nothing is left.
    #[must_use]
    pub fn rest(mut self, reached: Position) -> Option<Self> {
        match self.order {
            Order::Ascending => self.after = Some(reached),
            Order::Descending => self.through = reached.previous()?,
        }
        (self.after < Some(self.through)).then_some(self)
    }
}

/// The durable log of events: one order for all readers, on any number of replicas.
///
/// Calls may be dropped at any await without harm to later ones. Every call answers within a few seconds, with
/// `Unavailable` when the store does not.
#[async_trait]
pub trait EventRepository: Send + Sync {
    /// Carries out `requests` in one transaction, as if each came alone and in this order: a refused one leaves no
    /// trace, and none concerns the others. The group should be small enough for one transaction; a lone request is
    /// taken whatever its size.
    ///
    /// The new events of a request lie next to each other, positions
    /// rising in the order given. On `Ok` all of them are durable and visible to every later read, and no lower
    /// position will appear after them. Positions are never given twice, not even after a deletion; those of a group
    /// that was not stored are. An event whose source and id are stored is not stored again.
    ///
    /// # Errors
    /// For the group as a whole. [`AppendError::Rejected`]: nothing stored, the others may pass without the request
    /// that is at fault. [`AppendError::Unavailable`]: nothing stored, may be repeated.
    /// [`AppendError::OutcomeUnknown`]: perhaps stored.
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError>;

    /// Puts `events` back where they were, at least one, in one transaction: positions ascending, all above the head, recorded
    /// times never falling. For filling a log from an archive; the head is then at the last of them. The guarantees of
    /// [`EventRepository::append`] hold.
    ///
    /// # Errors
    /// As [`RestoreError`] says.
    async fn restore(&self, events: Vec<StoredEvent>) -> Result<(), RestoreError>;

    /// The event at `position`, if it is there.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError>;

    /// A page of what `query` selects. Costs what it returns and a logarithm, not what it skips; a filter by type may
    /// cost what its subjects cost. One call looks at a bounded part of the log, so go on with
    /// [`ReadQuery::rest`] until there is none.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError>;

    /// The last event of each subject that `query` selects, subjects ascending. The cost grows with the subjects it
    /// looks at, not with their events; a filter by type may cost what its subjects cost. One call looks at a bounded
    /// number of subjects, so go on from [`LatestPage::reached`] until it is `None`.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn latest(&self, query: LatestQuery) -> Result<LatestPage, ReadError>;

    /// How far the log has come.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn state(&self) -> Result<LogState, ReadError>;

    /// Up to `limit` of the distinct subjects of stored events above `after`, ascending by bytes. The cost grows with
    /// the answer, not with the events.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError>;

    /// The distinct types of events above `after` and up to `through`, in any order. Costs what lies between, so ask for a
    /// part of the log at a time.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    async fn types(&self, after: Option<Position>, through: Position) -> Result<Vec<EventType>, ReadError>;

    /// Deletes what matches `filter` with `from <= position <= through`, a head that was seen before, and says how many
    /// events that were. A large deletion is several transactions, so that appends go on beside it; each that deletes
    /// anything raises [`LogState::deletions`].
    ///
    /// # Errors
    /// [`DeleteError::Unavailable`]: a part may be deleted.
    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError>;
}
