//! Why there is no subscription, or none any more.

use crate::domain::position::Position;
use crate::ports::event_repository::ReadError;

/// Why a subscription was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// All slots are taken.
    #[error("all {subscriptions_max} streams are in use")]
    TooMany {
        /// How many may be open at once.
        subscriptions_max: usize,
    },
    /// The place to begin cannot be found out now.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why a place to begin was not found.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log has not come as far as it must.
    #[error("the log has not come to position {min_position} in time")]
    NotReached {
        /// How far it must have come.
        min_position: Position,
    },
    /// The store does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a subscription ended though its reader is still there; it resumes elsewhere after the last position it saw.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionEnded {
    /// The service is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The reader has taken nothing for too long.
    #[error("the stream was ended because its reader took nothing for too long")]
    TooSlow,
    /// An event cannot be read, and skipping it would be a lie.
    #[error(transparent)]
    Corrupt(ReadError),
}
