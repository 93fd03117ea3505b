//! Moving events between the log and archives.

mod append;
mod export;
mod log_archive;
mod restore;

use std::time::Duration;

use crate::domain::position::Position;
use crate::ports::archive::{ArchiveError, Place};
use crate::ports::event_repository::{AppendError, ReadError, RestoreError};

pub use append::append;
pub use export::{ExportRequest, export};
pub use log_archive::LogArchive;
pub use restore::restore;

/// How often a page or a group is tried while the store does not answer.
const ATTEMPTS: u32 = 30;

/// How long to wait in between.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Events that were written.
    pub written: u64,
    /// Events that were there already.
    pub present: u64,
    /// Events of the archive that the log had and has no more: they stay deleted.
    pub deleted: u64,
    /// The last position that was looked at.
    pub reached: Option<Position>,
    /// Whether the end was reached; else it was stopped.
    pub is_complete: bool,
}

/// Why a transfer ended early. What it has done stays done, and it may be begun again.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// The log does not take the events.
    #[error("the log does not take the events from {place} on")]
    Restore {
        /// The first of them.
        place: Place,
        /// Why.
        #[source]
        cause: RestoreError,
    },
    /// The log does not take the events.
    #[error("the log does not take the events from {place} on")]
    Append {
        /// The first of them.
        place: Place,
        /// Why.
        #[source]
        cause: AppendError,
    },
    /// An event is too large.
    #[error("{place}: the event has {bytes} bytes, at most {bytes_max} are allowed by --max-event-bytes")]
    TooLarge {
        /// Where.
        place: Place,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// The source and id of an event are taken.
    #[error("{place}: the log has another event with this source and id, at position {position}")]
    IdConflict {
        /// Where.
        place: Place,
        /// Where the other one is.
        position: Position,
    },
    /// The archive does not say where the event belongs.
    #[error("{place}: the event has no position; it can be appended with --new-positions")]
    NoPosition {
        /// Where.
        place: Place,
    },
    /// The archive does not say when it happened.
    #[error("{place}: the event has neither time nor recordedtime")]
    NoTime {
        /// Where.
        place: Place,
    },
    /// The archive is not in the order of a log.
    #[error("{place}: {what} falls from one event to the next")]
    OutOfOrder {
        /// Where.
        place: Place,
        /// What does.
        what: &'static str,
    },
    /// The log has come past an event without having it, and nothing was ever deleted from it.
    #[error("{place}: the log has come past position {position} without this event, and nothing was deleted from it")]
    SteppedOver {
        /// Where.
        place: Place,
        /// The position.
        position: Position,
    },
    /// The log is not the one that the archive is of.
    #[error("{place}: the log has another event at position {position}; --new-positions would append behind it")]
    OtherLog {
        /// Where.
        place: Place,
        /// The position.
        position: Position,
    },
}
