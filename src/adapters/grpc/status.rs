//! Renders a row of the error table as a gRPC status; decides nothing.

use tonic::{Code, Status};

use crate::adapters::api_error::ApiError;

/// The status for `error`. Its cause goes to the log, here and only here, and never to the client.
pub(super) fn from_api_error(error: ApiError) -> Status {
    let row = error.kind.row();
    error.log();
    Status::new(Code::from_i32(row.grpc_code), error.detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapters::api_error::ApiErrorKind;
    use crate::domain::service::AppendEventsError;
    use crate::domain::subscription::{SubscribeError, SubscriptionEnded};
    use crate::ports::authenticator::AuthenticationError;
    use crate::ports::event_repository::{AppendError, ReadError};

    #[test]
    fn codes_are_those_of_the_table() {
        for (error, code) in [
            (ApiError::new(ApiErrorKind::NotFound, "x"), Code::NotFound),
            (ApiError::invalid("type", "is wrong"), Code::InvalidArgument),
            (AuthenticationError::Missing.into(), Code::Unauthenticated),
            (AppendEventsError::TooLarge { bytes: 2, bytes_max: 1 }.into(), Code::ResourceExhausted),
            (SubscribeError::TooMany { subscriptions_max: 1 }.into(), Code::ResourceExhausted),
            (SubscriptionEnded::ShuttingDown.into(), Code::Unavailable),
            (AppendEventsError::Store(Arc::new(AppendError::OutcomeUnknown("x".into()))).into(), Code::Unavailable),
            (ReadError::Unavailable("x".into()).into(), Code::Unavailable),
            (ReadError::Corrupt("x".into()).into(), Code::Internal),
        ] {
            assert_eq!(from_api_error(error).code(), code);
        }
    }

    #[test]
    fn cause_stays_with_us() {
        let status = from_api_error(ReadError::Unavailable("db.internal:3306 refused".into()).into());
        assert_eq!(status.message(), "the event store is unavailable");
        assert!(status.details().is_empty() && status.metadata().is_empty());
    }
}
