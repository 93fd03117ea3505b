//! What a commit did, for those who watch.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::append::AppendRefusal;
use crate::domain::service::append::{AppendAnswer, AppendEventsError};
use crate::ports::event_repository::AppendError;

/// What became of a group of requests, for those who watch.
#[derive(Debug, Clone, Default)]
pub struct GroupReport {
    /// How long each request waited for its turn.
    pub waits: Vec<Duration>,
    /// How long the store took.
    pub store_time: Duration,
    /// Events stored by the group's commit.
    pub stored: usize,
    /// Events that were stored before.
    pub duplicates: usize,
    /// Requests refused by a precondition.
    pub failed_preconditions: usize,
    /// Requests refused because a source and id are taken.
    pub id_conflicts: usize,
    /// Requests that the store did not acknowledge.
    pub failures: Failures,
    /// Why not, for one of them.
    pub error: Option<Arc<AppendError>>,
}

/// Requests that the store did not acknowledge, by what is true of their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    /// Not stored: the store does not take them and never will.
    pub rejected: usize,
    /// Not stored: the store does not answer.
    pub unavailable: usize,
    /// Not stored: their turn did not come in time.
    pub overdue: usize,
    /// Stored, or not: the commit has no certain answer.
    pub outcome_unknown: usize,
}

impl Failures {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.rejected + self.unavailable + self.overdue + self.outcome_unknown
    }
}

impl GroupReport {
    /// Counts the answer to one of the requests.
    pub(super) fn count(&mut self, answer: &AppendAnswer) {
        match answer {
            Ok(appended) => {
                let duplicates = appended.iter().filter(|appended| appended.is_duplicate).count();
                self.duplicates += duplicates;
                self.stored += appended.len() - duplicates;
            }
            Err(AppendEventsError::Refused(AppendRefusal::Precondition { .. })) => self.failed_preconditions += 1,
            Err(AppendEventsError::Refused(AppendRefusal::IdConflict { .. })) => self.id_conflicts += 1,
            Err(AppendEventsError::Store(error)) => {
                *match **error {
                    AppendError::Rejected(_) => &mut self.failures.rejected,
                    AppendError::Unavailable(_) => &mut self.failures.unavailable,
                    AppendError::OutcomeUnknown(_) => &mut self.failures.outcome_unknown,
                } += 1;
                self.error = Some(Arc::clone(error));
            }
            Err(AppendEventsError::Overdue) => self.failures.overdue += 1,
            Err(
                AppendEventsError::ShuttingDown
                | AppendEventsError::QueueFull { .. }
                | AppendEventsError::TooLarge { .. }
                | AppendEventsError::TooManyEvents { .. }
                | AppendEventsError::TooManyPreconditions { .. }
                | AppendEventsError::BatchTooLarge { .. },
            ) => {} // answered before the store is asked
        }
    }
}
