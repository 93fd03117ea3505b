//! Renders a row of the error table as a gRPC status; decides nothing.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::adapters::api_error::{ApiError, ApiErrorKind, Member};

/// Whose reasons these are.
const DOMAIN: &str = "eventsdb";

/// The status for `error`. Its cause goes to the log, here and only here, and never to the client.
pub(super) fn from_api_error(error: ApiError) -> Status {
    let row = error.kind.row();
    error.log();
    let details = details(&error);
    Status::with_error_details(Code::from_i32(row.grpc_code), error.detail, details)
}

/// Calls an oversized message what the rest of the world calls it: tonic says `OUT_OF_RANGE`, which we never mean. Any other
/// status is left as it is.
pub(super) fn name_oversize(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => from_api_error(ApiError::new(ApiErrorKind::TooLarge, status.message())),
        _ => status,
    }
}

/// What a program may want to know of `error`. Source: `google.rpc`, `error_details.proto`.
fn details(error: &ApiError) -> ErrorDetails {
    let row = error.kind.row();
    let mut details = ErrorDetails::new();
    let members = error.members.iter().map(|member| match member {
        Member::Subject(subject) => ("subject".to_owned(), subject.clone()),
        Member::LastPosition(position) => ("last_position".to_owned(), position.unwrap_or(0).to_string()),
        Member::Position(position) => ("position".to_owned(), position.to_string()),
    });
    details.set_error_info(row.slug, DOMAIN, members.collect::<HashMap<_, _>>());
    if let Some(field) = &error.field {
        details.add_bad_request_violation(field, &error.detail);
    }
    if let Some(Member::Subject(subject)) = error.members.first() {
        details.add_precondition_failure_violation("LAST_POSITION", subject, &error.detail);
    }
    if let Some(seconds) = row.retry_after_seconds {
        details.set_retry_info(Some(Duration::from_secs(seconds.into())));
    }
    details
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::append::AppendRefusal;
    use crate::domain::attribute::Subject;
    use crate::domain::position::Position;
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
    fn details_are_for_programs() {
        let wrong =
            from_api_error(ApiError::invalid("id", "must not be empty").within("events[1].")).get_error_details();
        let violation = &wrong.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("events[1].id", "events[1].id must not be empty")
        );
        assert_eq!(wrong.error_info().unwrap().reason, "invalid-argument");
        assert!(wrong.retry_info().is_none());
        let full = AppendEventsError::QueueFull { events_max: 1, bytes_max: 1 };
        let full = from_api_error(full.into()).get_error_details();
        assert!(full.retry_info().is_some() && full.bad_request().is_none());
        let moved =
            AppendRefusal::Precondition { subject: Subject::from_stored("s".to_owned()), last: Position::new(7).ok() };
        let moved = from_api_error(moved.into()).get_error_details();
        assert_eq!(moved.precondition_failure().unwrap().violations[0].subject, "s");
        assert_eq!(moved.error_info().unwrap().metadata["last_position"], "7");
    }

    #[test]
    fn oversized_message_is_too_large_and_nothing_else_is() {
        let oversized = name_oversize(Status::out_of_range("too long"));
        assert_eq!((oversized.code(), oversized.message()), (Code::ResourceExhausted, "too long"));
        assert_eq!(oversized.get_error_details().error_info().unwrap().reason, "too-large");
        assert_eq!(name_oversize(Status::internal("torn")).code(), Code::Internal);
    }

    #[test]
    fn cause_stays_with_us() {
        let status = from_api_error(ReadError::Unavailable("db.internal:3306 refused".into()).into());
        assert_eq!(status.message(), "the event store is unavailable");
        assert!(!String::from_utf8_lossy(status.details()).contains("refused") && status.metadata().is_empty());
    }
}
