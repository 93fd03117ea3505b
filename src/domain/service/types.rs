//! The types of events, which no index has: this process reads the log once and remembers.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::domain::attribute::EventType;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::ports::event_repository::ReadError;

/// Positions looked at in one call of the store.
const WINDOW_POSITIONS: i64 = 65_536;

/// What is known of the log's types.
#[derive(Debug, Default)]
pub(super) struct Types {
    known: BTreeSet<EventType>,
    /// Up to here.
    through: Option<Position>,
    /// How many deletions there had been when it began: another one may have taken the last event of a type.
    deletions: u64,
}

impl EventService {
    /// Up to `limit` of the distinct types above `after`, ascending by bytes. The first call, and the first one after a
    /// deletion, reads the whole log, the others what has come since; a call that is given up leaves what it has read.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn types(&self, after: Option<EventType>, limit: usize) -> Result<Vec<EventType>, ReadError> {
        let mut types = self.core.types.lock().await;
        let state = self.core.log.refresh().await?;
        if state.deletions > types.deletions {
            *types = Types { deletions: state.deletions, ..Types::default() };
        }
        while let Some(head) = state.head.filter(|head| types.through < Some(*head)) {
            let end = types.through.map_or(0, Position::get).saturating_add(WINDOW_POSITIONS);
            let end = Position::new(end).map_or(head, |end| end.min(head));
            let found = self.core.log.repository().types(types.through, end).await?;
            types.known.extend(found);
            types.through = Some(end);
        }
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(types.known.range((above, Bound::Unbounded)).take(limit).cloned().collect())
    }
}
