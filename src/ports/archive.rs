//! Events outside of the log: what it is exported to and imported from.

use async_trait::async_trait;

use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::Fault;

/// Why an archive gives or takes nothing.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read or written now.
    #[error("the archive cannot be used")]
    Unavailable(#[source] Fault),
    /// What it holds there is no event.
    #[error("{place}: {problem}")]
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong.
        problem: String,
    },
}

/// Where in an archive an event is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a line, from 1.
    Line(u64),
    /// At a position of another log.
    Position(i64),
}

/// An event of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedEvent {
    /// Where it is.
    pub place: Place,
    /// Its place in the log that it comes from, if it was in one.
    pub position: Option<Position>,
    /// When that log recorded it, if it knew.
    pub recorded_time: Option<Timestamp>,
    /// The event itself.
    pub event: NewEvent,
}

/// An archive that is read from its beginning to its end.
#[async_trait]
pub trait ArchiveReader: Send {
    /// The next events in their order, some hundred or some thousand of them, never none; `None` at the end.
    ///
    /// # Errors
    /// As [`ArchiveError`] says.
    async fn next(&mut self) -> Result<Option<Vec<ArchivedEvent>>, ArchiveError>;
}

/// An archive that is written from its beginning to its end.
#[async_trait]
pub trait ArchiveWriter: Send {
    /// Adds `events` in their order.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`]: perhaps some of them are added.
    async fn write(&mut self, events: Vec<StoredEvent>) -> Result<(), ArchiveError>;

    /// Makes durable what was added. Nothing is added afterwards.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    async fn finish(&mut self) -> Result<(), ArchiveError>;
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Position(position) => write!(formatter, "position {position} of the source"),
        }
    }
}
