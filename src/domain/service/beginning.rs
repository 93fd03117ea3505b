//! Where a reader begins.

use std::time::Duration;

use crate::domain::filter::Filter;
use crate::domain::log::LogPage;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::domain::subscription::{Beginning, Start, StartError};
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{Order, ReadError, ReadQuery};

/// How long a read waits for the position that the log must have come to.
pub(super) const MIN_POSITION_WAIT: Duration = Duration::from_secs(5);

impl EventService {
    /// Finds out where `start` is, once the log has come to `min_position`.
    pub(super) async fn beginning(
        &self,
        start: Start,
        min_position: Option<Position>,
    ) -> Result<Beginning, StartError> {
        self.wait_for(min_position).await?;
        Ok(match start {
            Start::After(after) => {
                // So that nothing is read from memory that another process has deleted before. A stream may open though
                // the store is away: it waits.
                let _store_is_away = self.refresh_head().await;
                Beginning { after, not_before: None }
            }
            Start::Head => Beginning { after: self.refresh_head().await?, not_before: None },
            Start::Time(time) => {
                let head = self.refresh_head().await?;
                Beginning { after: self.last_before(time, head).await?, not_before: Some(time) }
            }
        })
    }

    /// Waits until the log has come to `min_position`.
    pub(super) async fn wait_for(&self, min_position: Option<Position>) -> Result<(), StartError> {
        match min_position {
            Some(min_position) if !self.core.log.reaches(min_position, MIN_POSITION_WAIT).await? => {
                Err(StartError::NotReached { min_position })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A place up to `head` below which everything was recorded before `time`, and above which nothing was. Recorded
    /// times never fall along the log, so it is found by halving, without an index.
    pub(super) async fn last_before(
        &self,
        time: Timestamp,
        head: Option<Position>,
    ) -> Result<Option<Position>, ReadError> {
        let Some(head) = head else { return Ok(None) };
        // Everything up to `early` was recorded before, everything above `late` was not.
        let (mut early, mut late) = (0, head.get());
        while early < late {
            let middle = early + (late - early) / 2;
            match self.first_after(Position::new(middle).ok(), head).await? {
                Some((position, recorded)) if recorded < time => early = position.get(),
                Some(_) | None => late = middle,
            }
        }
        Ok(Position::new(early).ok())
    }

    /// The first event above `after`, and when it was recorded.
    async fn first_after(
        &self,
        after: Option<Position>,
        through: Position,
    ) -> Result<Option<(Position, Timestamp)>, ReadError> {
        let filter = Filter::default();
        let query = ReadQuery { filter, after, through, order: Order::Ascending, limit: 1, bytes_max: 1 };
        let mut query = (query.after < Some(through)).then_some(query);
        while let Some(asked) = query {
            let LogPage { events, reached, .. } = self.core.log.read(&asked).await?;
            if let Some(event) = events.first() {
                return Ok(Some((event.stored().position, event.stored().recorded_or_happened())));
            }
            query = asked.rest(reached);
        }
        Ok(None)
    }
}
