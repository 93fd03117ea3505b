//! Putting events back where they were.

use std::time::Duration;

use sea_orm::sqlx;

use crate::adapters::repository::sea_orm::append::connection::{Failure, WriterConnection};
use crate::adapters::repository::sea_orm::append::rows::{PlacedRow, rows};
use crate::adapters::repository::sea_orm::append::{Writer, within, within_commit};
use crate::adapters::repository::sea_orm::fault::Effect;
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::RestoreError;

/// How long the database may take for one call: nobody waits for it but the archive.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long a call is waited for, see [`PATIENCE`](super::PATIENCE).
pub(in crate::adapters::repository::sea_orm) const PATIENCE: Duration = TIMEOUT.saturating_add(Duration::from_secs(1));

impl Writer {
    /// Carries out [`EventRepository::restore`](crate::ports::event_repository::EventRepository::restore).
    pub(in crate::adapters::repository::sea_orm) async fn restore(
        &mut self,
        events: Vec<StoredEvent>,
    ) -> Result<(), RestoreError> {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let (mut held, _) = within(deadline, self.connect()).await.map_err(|error| fault(error, false))?;
        let connection = held.connection.as_mut();
        let restored = match insert(connection, deadline, events).await {
            Ok(()) => match within_commit(deadline, connection.commit()).await {
                // Whether it is there is found out by looking.
                Err(Failure { error, may_be_committed }) => return Err(fault(error, may_be_committed)),
                Ok(()) => Ok(()),
            },
            refused => refused,
        };
        // A connection that may be inside a transaction is not used again.
        if restored.is_ok() || within(deadline, held.connection.rollback()).await.is_ok() {
            self.keep(held);
        }
        restored
    }
}

/// Inserts `events` under the lock of the head, up to the commit.
async fn insert(
    connection: &mut dyn WriterConnection,
    deadline: tokio::time::Instant,
    events: Vec<StoredEvent>,
) -> Result<(), RestoreError> {
    let head = within(deadline, connection.lock_head()).await.map_err(|error| fault(error, false))?;
    let reached = head.position.max(head.newest);
    if let (Some(first), Ok(head)) = (events.first(), Position::new(reached))
        && first.position <= head
    {
        return Err(RestoreError::Passed { head });
    }
    let origins: Vec<(i64, Option<Timestamp>)> =
        events.iter().map(|event| (event.position.get(), event.recorded_time)).collect();
    let earliest = origins.iter().find_map(|(_, recorded)| *recorded);
    if earliest.is_some() && earliest < head.recorded {
        return Err(RestoreError::Earlier);
    }
    let recorded = origins.iter().rev().find_map(|(_, recorded)| *recorded).max(head.recorded);
    let events: Vec<NewEvent> = events.into_iter().map(StoredEvent::into_new).collect();
    let events: Vec<&NewEvent> = events.iter().collect();
    let placed = rows(&events).into_iter().zip(origins);
    let placed: Vec<PlacedRow<'_>> =
        placed.map(|(row, (place, recorded))| PlacedRow { place, recorded, row }).collect();
    let inserted = within(deadline, connection.insert_placed(&head, &placed, recorded)).await;
    inserted.map_err(|error| fault(error, false))
}

fn fault(error: sqlx::Error, may_be_committed: bool) -> RestoreError {
    if may_be_committed {
        return RestoreError::OutcomeUnknown(error.into());
    }
    match Effect::of_driver(&error) {
        Effect::DuplicateKey => RestoreError::Duplicate(error.into()),
        Effect::Rejected => RestoreError::Rejected(error.into()),
        Effect::Conflict | Effect::Lost | Effect::Refused => RestoreError::Unavailable(error.into()),
    }
}
