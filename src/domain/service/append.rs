//! Appending events.

use crate::domain::event::NewEvent;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::ports::event_repository::AppendError;

/// Why events were not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendEventsError {
    /// Refused: an event has more data than allowed. Nothing is stored.
    #[error("data has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Bytes of data in the event.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The store did not acknowledge.
    #[error(transparent)]
    Store(#[from] AppendError),
}

impl EventService {
    /// Appends `events` next to each other, or none of them, and returns their positions in order.
    ///
    /// The work goes on when the caller stops waiting, so that a client that leaves cannot tear a transaction.
    ///
    /// # Errors
    /// [`AppendEventsError::TooLarge`]: refused. [`AppendEventsError::Store`]: as [`AppendError`] says.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Position>, AppendEventsError> {
        let bytes_max = self.limits.event_bytes_max;
        if let Some(event) = events.iter().find(|event| event.data_bytes() > bytes_max) {
            return Err(AppendEventsError::TooLarge { bytes: event.data_bytes(), bytes_max });
        }
        let service = self.clone();
        let appended = self.writes.spawn(async move {
            let positions = service.repository.append(events).await?;
            if let Some(head) = positions.last() {
                service.advance_head(Some(*head));
                service.notifier.notify(*head).await;
            }
            Ok::<_, AppendError>(positions)
        });
        match appended.await {
            Ok(answer) => Ok(answer?),
            Err(fault) => Err(AppendError::OutcomeUnknown(fault.into()).into()),
        }
    }
}
