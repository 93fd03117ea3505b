//! An event before and after it is stored.

use std::borrow::Cow;

use bytes::Bytes;

use crate::domain::append::EventKey;
use crate::domain::attribute::{EventId, EventSource, EventType, Subject};
use crate::domain::context::{Context, GivenTime};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// An event that a producer hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The producer's name for it, unique together with the source; an event without one is never a duplicate.
    pub id: Option<EventId>,
    /// The context in which the event happened.
    pub event_source: EventSource,
    /// What kind of event it is.
    pub event_type: EventType,
    /// The path the event belongs to.
    pub subject: Subject,
    /// When it happened; the recorded time when the producer does not say.
    pub time: Option<Timestamp>,
    /// The payload, opaque to the store.
    pub data: Bytes,
    /// What it says beside that; `None` for an event of the plain interfaces.
    pub context: Option<Box<Context>>,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log.
    pub position: Position,
    /// The producer's name for it, unique together with the source, if it came with one.
    pub id: Option<EventId>,
    /// The context in which the event happened.
    pub event_source: EventSource,
    /// What kind of event it is.
    pub event_type: EventType,
    /// The path the event belongs to.
    pub subject: Subject,
    /// When it happened.
    pub time: Timestamp,
    /// When the log recorded it, never earlier than that of a lower position; unknown for events of a taken-over
    /// database.
    pub recorded_time: Option<Timestamp>,
    /// The payload, opaque to the store.
    pub data: Bytes,
    /// What it says beside that; `None` for an event of the plain interfaces.
    pub context: Option<Box<Context>>,
}

impl NewEvent {
    /// What names the event among all others, if its producer named it.
    #[must_use]
    pub fn key(&self) -> Option<EventKey<'_>> {
        self.id.as_ref().map(|id| (&self.event_source, id))
    }

    /// Bytes that count against the limit of an event: the payload and the context.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.data.len() + context_bytes(self.context.as_deref())
    }

    /// Bytes that the event takes in a queue or a batch: payload and attributes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len()
            + context_bytes(self.context.as_deref())
            + self.event_source.as_str().len()
            + self.event_type.as_str().len()
            + self.subject.as_str().len()
            + self.id.as_ref().map_or(0, |id| id.as_str().len())
    }

    /// The event as a commit at `recorded` stores it at `position`.
    #[must_use]
    pub fn stored(self, position: Position, recorded: Timestamp) -> StoredEvent {
        StoredEvent {
            position,
            id: self.id,
            event_source: self.event_source,
            event_type: self.event_type,
            subject: self.subject,
            time: self.time.unwrap_or(recorded),
            recorded_time: Some(recorded),
            data: self.data,
            context: self.context,
        }
    }
}

impl StoredEvent {
    /// The event as its producer handed it in, with the time that it was given if it came without.
    #[must_use]
    pub fn into_new(self) -> NewEvent {
        NewEvent {
            id: self.id,
            event_source: self.event_source,
            event_type: self.event_type,
            subject: self.subject,
            time: Some(self.time),
            data: self.data,
            context: self.context,
        }
    }

    /// What names the event among all others, if its producer named it.
    #[must_use]
    pub fn key(&self) -> Option<EventKey<'_>> {
        self.id.as_ref().map(|id| (&self.event_source, id))
    }

    /// When the log recorded it, or when it happened if nobody knows: events of a taken-over database were recorded by
    /// a service that noted the one as the other.
    #[must_use]
    pub fn recorded_or_happened(&self) -> Timestamp {
        self.recorded_time.unwrap_or(self.time)
    }

    /// The attribute `time` as its producer gave it; `None` when the event came without.
    #[must_use]
    pub fn given_time(&self) -> Option<Cow<'_, str>> {
        match &self.context {
            Some(context) => context.time.text(self.time),
            None => Some(self.time.to_rfc3339().into()),
        }
    }

    /// Whether `event`, sent now, is this event sent again, in the same form or another. A time that the producer leaves
    /// out is the recorded one.
    #[must_use]
    pub fn has_content_of(&self, event: &NewEvent) -> bool {
        let has_time = match (event.time, &self.context) {
            (Some(time), _) => self.time == time && !self.came_without_time(),
            (None, Some(_)) => self.came_without_time(),
            (None, None) => self.recorded_time.is_none_or(|recorded| recorded == self.time),
        };
        let (plain, context) = (Context::default(), self.context.as_deref());
        has_time
            && self.event_source == event.event_source
            && self.event_type == event.event_type
            && self.subject == event.subject
            && self.data == event.data
            && context.unwrap_or(&plain).says_what(event.context.as_deref().unwrap_or(&plain))
    }

    fn came_without_time(&self) -> bool {
        self.context.as_ref().is_some_and(|context| context.time == GivenTime::Absent)
    }

    /// Bytes that the event takes on its way to a reader, near enough to bound a page.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len()
            + context_bytes(self.context.as_deref())
            + self.event_source.as_str().len()
            + self.event_type.as_str().len()
            + self.subject.as_str().len()
    }
}

fn context_bytes(context: Option<&Context>) -> usize {
    context.map_or(0, Context::size_bytes)
}
