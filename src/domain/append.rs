//! What a request asks to append, what becomes of it, and the rules that decide.

mod plan;

use crate::domain::attribute::Subject;
use crate::domain::event::NewEvent;
use crate::domain::position::Position;

pub use plan::{EventKey, LogView, Plan, plan};

/// What one request appends: all of it, next to each other, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppendRequest {
    /// The events, in the order they are to be stored in.
    pub events: Vec<NewEvent>,
    /// What must hold when they are; all of them.
    pub preconditions: Vec<Precondition>,
}

/// What a producer assumes about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// The subject, compared by bytes.
    pub subject: Subject,
    /// The position of its last event; `None` when it has no events.
    pub last: Option<Position>,
}

/// What became of one event of a request that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Where the event is stored.
    pub position: Position,
    /// Whether it was there before this request, so that nothing was stored again.
    pub is_duplicate: bool,
}

/// What became of one request: one answer per event in the order given, or why nothing of it is stored.
pub type AppendOutcome = Result<Vec<Appended>, AppendRefusal>;

/// Why nothing of a request is stored. Others are not concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    /// A precondition does not hold.
    #[error("precondition failed: {}", last_of(.subject, .last.as_ref()))]
    Precondition {
        /// The subject in question.
        subject: Subject,
        /// The position of its last event; `None` when it has no events.
        last: Option<Position>,
    },
    /// The source and id of an event are taken by another one.
    #[error("the event at index {index} has the source and id of a different event, which is at position {position}")]
    IdConflict {
        /// Which event of the request, from 0.
        index: usize,
        /// Where the other one is stored.
        position: Position,
    },
}

/// Bytes that a precondition takes beside its subject.
const PRECONDITION_BYTES: usize = size_of::<Precondition>();

impl AppendRequest {
    /// Bytes of the events ([`NewEvent::size_bytes`]).
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        self.events.iter().map(NewEvent::size_bytes).sum()
    }

    /// Bytes of the events and of the preconditions.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let preconditions = self.preconditions.iter();
        let preconditions = preconditions.map(|assumed| PRECONDITION_BYTES + assumed.subject.as_str().len());
        self.event_bytes() + preconditions.sum::<usize>()
    }
}

fn last_of(subject: &Subject, last: Option<&Position>) -> String {
    let subject = subject.as_str();
    match last {
        Some(position) => format!("the last event of subject \"{subject}\" is at position {position}"),
        None => format!("subject \"{subject}\" has no events"),
    }
}
