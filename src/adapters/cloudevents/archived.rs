//! Events in an archive: the JSON event format, one event on each line, with what the log knows beside.
//!
//! An archive gives back every byte of data and what every attribute says, not how a value was typed where JSON has no
//! such type. The id of an event that came without one is its position, as everywhere; where a producer chose just that
//! id, the line says so.

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::json::{ArchivedMembers, write_archived_json};
use crate::adapters::cloudevents::{json_text, parse_json};
use crate::domain::context::{Context, DataForm, GivenTime};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// An event out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The event.
    pub event: NewEvent,
    /// Its place in the log that it comes from, if it says so.
    pub position: Option<Position>,
    /// When that log recorded it, if it says so.
    pub recorded_time: Option<Timestamp>,
}

/// Appends `event` to `out` as a line.
pub fn write_archived(out: &mut Vec<u8>, event: &StoredEvent) {
    write_archived_json(out, event);
    out.push(b'\n');
}

/// Reads a line. What an older log took is taken: an empty source, say, or one that is no URI.
///
/// # Errors
/// `InvalidArgument` naming the attribute.
pub fn from_archived(line: &[u8]) -> Result<Archived, ApiError> {
    let members: ArchivedMembers<'_> = parse_json(json_text(line)?, "must be a JSON object")?;
    let (mut event, log) = members.event()?;
    let is_made = |id: &str| log.position.is_some_and(|position| id == position.to_string()) && !log.has_own_id;
    event.id = event.id.filter(|id| !is_made(id.as_str()));
    event.context = event.context.filter(|context| !says_nothing(context));
    Ok(Archived { event, position: log.position, recorded_time: log.recorded_time })
}

/// Whether an event of the plain interfaces says as much.
fn says_nothing(context: &Context) -> bool {
    *context == Context { time: GivenTime::AsKept, data_form: DataForm::Binary, ..Context::default() }
}
